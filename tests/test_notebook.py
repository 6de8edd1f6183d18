"""What a notebook shows of results: tables whose texts stay texts."""

import dataclasses

from erkeras.attacks import PGD
from erkeras.evaluation import Robustness
from erkeras.notebook import html_table
from erkeras.threat import ThreatModel
from helpers.linear_record import make_split, model
from helpers.reports import examples_of


def test_every_text_is_escaped():
    found = html_table("<i>", ["a & b", "c"], [["<b>", '"1"']], ["</table>"])
    assert found == (
        '<table><caption>&lt;i&gt;</caption><thead><tr><th scope="col">a &amp; b</th>'
        '<th scope="col">c</th></tr></thead><tbody>'
        '<tr><th scope="row">&lt;b&gt;</th><td>&quot;1&quot;</td></tr></tbody></table><p>&lt;/table&gt;</p>'
    )


def test_a_robustness_shows_its_accuracies_and_warnings():
    examples, _ = examples_of(attacks=1)
    found = Robustness((PGD(ThreatModel("l_inf", 0.2)),), examples, "logits", (1.25,), ("Doubtful <b>.",))
    shown = found._repr_html_()
    assert "Robustness on 60 images" in shown
    assert '<th scope="row">clean</th><td>98.3%</td>' in shown
    assert '<th scope="row">pgd</th><td>85.0%</td><td>1.2</td>' in shown
    assert shown.endswith("<p>Doubtful &lt;b&gt;.</p>")
    assert "\n" not in repr(found)


def test_what_an_attack_made_shows_its_counts():
    split = make_split()
    found = PGD(ThreatModel("l_inf", 0.05), steps=2)(model, split.images, split.labels)
    broken = int((found.success & ~found.wrong_when_clean).sum())
    shown = found._repr_html_()
    assert "Attacked: 300 images, outputs: logits" in shown
    assert f'<th scope="row">broken</th><td>{broken}</td><td>{broken / 300:.1%}</td>' in shown
    assert '<th scope="row">right when clean</th><td>270</td><td>90.0%</td>' in shown
    assert "\n" not in repr(found)
    none = dataclasses.replace(found, **{name: value[:0] for name, value in vars(found).items() if name != "outputs"})
    assert '<th scope="row">robust</th><td>0</td><td></td>' in none._repr_html_()
