"""The comparison of detectors from Python: what it refuses, what it chooses, and the figures of the command."""

import dataclasses
import json
import shutil

import numpy as np
import pytest

from erkeras.attacks.named import AttackSettings
from erkeras.data import load_dataset
from erkeras.errors import InputError
from erkeras.evaluation import DetectorComparison, Sample, compare_detectors, verify_record
from erkeras.evaluation.protocol import CONVENTIONS
from erkeras.saved import CARD, read_card
from erkeras.saved.card import card_text
from erkeras.saved.folder import write_card
from erkeras.threat import ThreatModel
from helpers.commands import run

PAIR = ("fgsm", "pgd")


def with_recipe(source, folder, **changes):
    """A copy of a model whose card tells another training; None: tells of none."""
    shutil.copytree(source, folder)
    card = read_card(folder)
    job = None
    if "job" not in changes:
        job = dataclasses.replace(card.job, recipe=dataclasses.replace(card.job.recipe, **changes))
    (folder / CARD).write_text(card_text(dataclasses.replace(card, job=job)))
    return folder


@pytest.fixture(scope="module")
def undefended(saved_model, tmp_path_factory):
    """The same weights, taken for an undefended network's. Not to be written to."""
    changes = {"coefficient": 0.0, "training_ratio": 0.0, "bottleneck": False}
    return with_recipe(saved_model, tmp_path_factory.mktemp("other") / "undefended", **changes)


@pytest.fixture(scope="module")
def silent(saved_model, tmp_path_factory):
    """A model that does not say how it was trained, but on what. Not to be written to."""
    return with_recipe(saved_model, tmp_path_factory.mktemp("other") / "silent", job=None)


@pytest.fixture(scope="module")
def made(saved_model, tmp_path_factory):
    """A comparison with its records, what it gave, and what each detector saw."""
    folder = tmp_path_factory.mktemp("records") / "records"
    asked = DetectorComparison((saved_model,), PAIR, ("lid", "er1"), steps=2, record=folder)
    return asked, *compare_detectors(asked)


def comparison(*models, pair=("pgd", "pgd"), **options):
    return DetectorComparison(tuple(models), pair, **options)


def test_a_whole_question_is_taken(saved_model, undefended, silent):
    comparison(saved_model).check()
    comparison(saved_model, undefended, pair=None).check()
    comparison(saved_model, undefended, pair=None, limit=9, steps=3, iterations=5, confidence=1.0, cw_bound=0.1).check()
    comparison(silent, detectors=("er1",)).check()
    comparison(saved_model, adaptive=True, limit=9, steps=3).check()
    comparison(saved_model, pair=("fgsm", "fgsm"), adaptive=True, steps=3, step_size=0.1).check()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pair": None}, r"^--table needs an undefended model \(none or e-cla\) and one with a code: give both\.$"),
        ({"iterations": 5}, r"^iterations was given without the attack cw: leave it out, or add one\.$"),
        ({"confidence": 0.5}, r"^confidence was given without the attack cw: leave it out, or add one\.$"),
        ({"confidence": 0.0}, "^confidence was given without the attack cw"),
        ({"cw_bound": 0.1}, r"^cw bound was given without the attack cw: leave it out, or add one\.$"),
        ({"limit": 9}, r"^limit was given without the attack cw or the adaptive attacker: leave it out, or add one\.$"),
        (
            {"steps": 5, "pair": ("fgsm", "fgsm")},
            r"^steps was given without the attack pgd: leave it out, or add one\.$",
        ),
        ({"step_size": 0.1, "pair": ("cw", "fgsm")}, "^step size was given without the attack pgd"),
    ],
    ids=str,
)
def test_a_setting_without_effect_is_refused(saved_model, options, message):
    with pytest.raises(InputError, match=message):
        comparison(saved_model, **options).check()


def test_models_of_one_name_are_refused(saved_model):
    with pytest.raises(InputError, match=r"^two of the models have the same name: give each once\.$"):
        comparison(saved_model, saved_model).check()


def test_models_of_several_data_sets_are_refused(saved_model, tmp_path):
    other = shutil.copytree(saved_model, tmp_path / "other")
    card = read_card(other)
    write_card(other, dataclasses.replace(card, dataset=dataclasses.replace(card.dataset, name="mnist")))
    with pytest.raises(InputError, match=r"^the models are of the data sets digits, mnist: give models of one\.$"):
        comparison(saved_model, other).check()
    write_card(other, dataclasses.replace(card, dataset=dataclasses.replace(card.dataset, name=None)))
    with pytest.raises(InputError, match=r"^the models are of the data sets None: give models of one\.$"):
        comparison(other).check()


def test_a_model_without_a_card_is_refused(saved_model):
    with pytest.raises(InputError, match=r"1 has no card\.json: give folders of saved models of ours\.$"):
        comparison(saved_model / "1").check()


def test_a_purifier_is_refused(purified_model):
    for detectors in ((), ("kd",)):
        with pytest.raises(InputError, match="has a purifier, which no detector looks through: leave it out"):
            comparison(purified_model, detectors=detectors).check()


def test_a_model_that_says_nothing_of_its_training_asks_for_detectors(silent):
    with pytest.raises(InputError, match=r"silent does not say how it was trained: give --detector\.$"):
        comparison(silent).check()


@pytest.mark.parametrize(
    ("changes", "chosen"),
    [
        ({}, ("er1", "er2")),
        ({"coefficient": 0.0, "training_ratio": 0.0}, ("kd", "lid", "er1", "er2")),
        ({"coefficient": 0.0, "training_ratio": 0.0, "bottleneck": False}, ("kd", "lid")),
        ({"coefficient": 0.0, "training_ratio": 0.0, "noise": 0.2}, ("er1", "er2")),
        ({"coefficient": 0.0, "training_ratio": 1.0, "bottleneck": False}, ()),
        ({"training_ratio": 0.0}, ("er1", "er2")),
        ({"coefficient": 0.0, "epsilon": 0.0}, ("kd", "lid", "er1", "er2")),
    ],
    ids=str,
)
def test_detectors_are_chosen_as_the_paper_chose(saved_model, tmp_path, changes, chosen):
    asked = comparison(with_recipe(saved_model, tmp_path / "model", **changes))
    (subject,) = asked.subjects
    assert asked.detectors_of(subject) == chosen
    given = dataclasses.replace(asked, detectors=("er2", "kd"))
    assert given.detectors_of(subject) == ("kd", "er2")  # in the paper's order


def test_attacks_are_those_of_the_pair_in_the_order_of_the_tables(saved_model):
    pairs = {None: ("fgsm", "pgd", "cw"), ("pgd", "fgsm"): ("fgsm", "pgd"), ("cw", "cw"): ("cw",)}
    assert {pair: comparison(saved_model, pair=pair).attacks for pair in pairs} == pairs


def test_balls_are_the_cards_or_the_ones_asked_for(saved_model):
    plain, given = comparison(saved_model), comparison(saved_model, epsilon=0.2, cw_bound=0.05)
    assert plain.threat("pgd", (8, 8, 1)) == plain.threat("fgsm", (8, 8, 1)) == ThreatModel("l_inf", 0.15)
    assert given.threat("pgd", (8, 8, 1)) == ThreatModel("l_inf", 0.2)
    assert plain.threat("cw", (8, 8, 1)) == ThreatModel("l2", 8.0)  # no bound: a root mean square of 1
    assert given.threat("cw", (8, 8, 1)) == ThreatModel("l2", 0.05 * 8)


def test_slow_attacks_get_500_images_of_set_ii_and_a_quarter_of_set_i(saved_model):
    dataset = load_dataset("digits")
    asked = comparison(saved_model, pair=("cw", "cw"))
    assert asked.images == 500
    short = dataclasses.replace(asked, limit=30)
    (subject,) = short.subjects
    limits = {
        (attack, part): short.evaluation(subject, attack, part, dataset).sample.limit
        for attack in ("fgsm", "pgd", "cw")
        for part in ("I", "II")
    }
    assert limits == {
        ("fgsm", "I"): None,
        ("fgsm", "II"): None,
        ("pgd", "I"): None,
        ("pgd", "II"): None,
        ("cw", "I"): 8,
        ("cw", "II"): 30,
    }


def test_each_attack_has_its_settings_and_starts_once(saved_model):
    asked = comparison(saved_model, pair=None, steps=3, step_size=0.02, confidence=1.0, iterations=5)
    dataset = load_dataset("digits")
    settings = {name: asked.evaluation(asked.subjects[0], name, "I", dataset).settings for name in asked.attacks}
    assert settings == {
        "fgsm": AttackSettings(("fgsm",)),
        "pgd": AttackSettings(("pgd",), steps=3, step_size=0.02, restarts=1),
        "cw": AttackSettings(("cw",), confidence=1.0, iterations=5),
    }


def test_a_missing_epsilon_is_found_without_tensorflow(saved_model, tmp_path):
    folder = shutil.copytree(saved_model, tmp_path / "model")
    write_card(folder, dataclasses.replace(read_card(folder), job=None, evaluation=None))
    with pytest.raises(InputError, match="no epsilon is known for"):
        comparison(folder, detectors=("er1",)).check()


def test_it_gives_a_cell_for_each_detector_and_convention(made, saved_model):
    _, report, seen = made
    assert [(cell["detector"], cell["positives"]) for cell in report["cells"]] == [
        (name, positives) for positives in CONVENTIONS for name in ("lid", "er1")
    ]
    assert {(cell["fitted_on"], cell["evaluated_by"], cell["model"]) for cell in report["cells"]} == {(*PAIR, "digits")}
    assert [part.name for part in seen] == ["lid", "er1"]
    assert set(report["attacks"]) == {"fgsm", "pgd"}
    assert report["attacks"]["pgd"]["steps"] == 2
    assert report["models"] == [str(saved_model)]
    assert report["adaptive"] == []
    assert json.loads(json.dumps(report)) == report


def test_its_cells_are_those_that_the_protocol_makes_of_what_was_seen(made):
    _, report, seen = made
    for cell in report["cells"]:
        (part,) = (part for part in seen if part.name == cell["detector"])
        assert {**part.cell(*PAIR, cell["positives"], None).summary(), "paper": None} == cell


def test_its_sets_are_those_of_the_protocol(made):
    _, report, _ = made
    for part, count in (("i", 72), ("ii", 288)):
        indices = Sample("digits", limit=None, part=part.upper()).load().indices
        assert report[f"set_{part}"] == indices.tolist()
        assert len(indices) == count


def test_the_command_gives_the_same_cells(made, saved_model, tmp_path):
    asked, report, _ = made
    arguments = ["--detector", "lid", "--detector", "er1", "--fit-on", "fgsm", "--attack", "pgd", "--steps", "2"]
    result = run(
        "detectors", saved_model, *arguments, "--record", tmp_path / "records", "--json", tmp_path / "out.json"
    )
    assert result.exit_code == 0, result.output
    assert json.loads((tmp_path / "out.json").read_text()) == report
    for folder in asked.record.iterdir():
        for name in ("settings.json", "examples.jsonl", "images.npz"):
            assert (folder / name).read_bytes() == (tmp_path / "records" / folder.name / name).read_bytes()


def test_its_records_are_verified(made):
    asked, report, seen = made
    names = sorted(folder.name for folder in asked.record.iterdir())
    assert names == ["digits-fgsm-I", "digits-fgsm-II", "digits-pgd-I", "digits-pgd-II"]
    for name in names:
        found = verify_record(asked.record / name)
        assert found.holds
        assert found.images == len(report["set_i" if name.endswith("-I") else "set_ii"])
    for attack in PAIR:
        half = seen[0].evaluating.attacked[attack]
        standing = half.right.sum() / 288
        assert verify_record(asked.record / f"digits-{attack}-II").recorded == pytest.approx(standing)


def test_records_serve_again_and_attack_nothing(made, monkeypatch, heard):
    from erkeras.attacks import FGSM, PGD

    def attacked(*_, **__):
        raise AssertionError("it was attacked again")

    for kind in (FGSM, PGD):
        monkeypatch.setattr(kind, "__call__", attacked)
    asked, report, _ = made
    alone = dataclasses.replace(asked, detectors=("er1",))
    again, _ = compare_detectors(alone, heard)
    assert again["cells"] == [cell for cell in report["cells"] if cell["detector"] == "er1"]
    assert [name for name, _ in heard.stages] == [
        "digits: fgsm, set I",
        "digits: pgd, set I",
        "digits: fgsm, set II",
        "digits: pgd, set II",
        "digits: er1",
    ]
    assert sum(heard.units) == sum(total for _, total in heard.stages)


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"seed": 1}, r"seed 0 \(now 1\)"), ({"steps": 3}, "asked "), ({"epsilon": 0.1}, "threat ")],
    ids=str,
)
def test_records_of_another_question_are_refused(made, changes, message):
    with pytest.raises(InputError, match=f"was made with {message}"):
        compare_detectors(dataclasses.replace(made[0], **changes))


def test_a_rate_of_false_positives_moves_the_threshold_alone(made):
    asked, report, _ = made
    changed = dataclasses.replace(asked, detectors=("er1",), false_positive_rate=0.25)
    other, _ = compare_detectors(changed)
    before, after = ([cell for cell in part["cells"] if cell["detector"] == "er1"] for part in (report, other))
    assert [cell["separation"]["auroc"] for cell in before] == [cell["separation"]["auroc"] for cell in after]
    assert other["false_positive_rate"] == 0.25
    assert np.any([cell["acc_nadv"] for cell in before] != [cell["acc_nadv"] for cell in after])
