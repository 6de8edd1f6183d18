"""erkeras detectors."""

import json
import shutil

import numpy as np
import pytest
from helpers.commands import refused, run
from PIL import Image


@pytest.fixture(scope="module")
def other_model(tmp_path_factory, saved_model):
    """The same weights, taken for an undefended network's."""
    folder = shutil.copytree(saved_model, tmp_path_factory.mktemp("other") / "undefended")
    card = json.loads((folder / "card.json").read_text())
    card["job"]["recipe"] |= {"coefficient": 0.0, "training_ratio": 0.0, "bottleneck": False}
    (folder / "card.json").write_text(json.dumps(card))
    return folder


def test_familiar_and_crossed_detectors(anywhere, saved_model):
    common = ["--attack", "pgd", "--steps", "3", "--detector", "er1", "--detector", "lid"]
    result = run("detectors", saved_model, *common, "--fit-on", "fgsm", "--json", "a.json", "--picture", "p.png")
    assert result.exit_code == 0, result.output
    report = json.loads((anywhere / "a.json").read_text())
    assert not set(report["set_i"]) & set(report["set_ii"])
    assert [(cell["detector"], cell["positives"]) for cell in report["cells"]] == [
        ("lid", "all"),
        ("er1", "all"),
        ("lid", "successful"),
        ("er1", "successful"),
    ]
    assert set(report["attacks"]) == {"fgsm", "pgd"}
    for cell in report["cells"]:
        counts = cell["counts"]
        assert cell["acc_com"] == (counts["found"] + counts["right"]) / counts["adversarial"]
        assert f"{100 * cell['acc_nadv']:.2f}, {100 * cell['acc_com']:.2f}" in result.output
        assert cell["paper"] is None
    assert np.asarray(Image.open(anywhere / "p.png").convert("L")).std() > 10
    familiar = run("detectors", saved_model, *common, "--json", "b.json")
    assert familiar.exit_code == 0, familiar.output
    assert {cell["fitted_on"] for cell in json.loads((anywhere / "b.json").read_text())["cells"]} == {"pgd"}


def test_the_adaptive_attacker(anywhere, saved_model):
    arguments = ["--attack", "cw", "--fit-on", "pgd", "--detector", "er1", "--with-detector"]
    arguments += ["--steps", "3", "--iterations", "5", "--limit", "32", "--json", "a.json"]
    result = run("detectors", saved_model, *arguments)
    assert result.exit_code == 0, result.output
    report = json.loads((anywhere / "a.json").read_text())
    assert {(row["fitted_on"], row["norm"]) for row in report["adaptive"]} == {
        (attack, norm) for attack in ("pgd", "cw") for norm in ("l_inf", "l2")
    }
    assert all(row["images"] == 32 for row in report["adaptive"])
    assert report["cw_bound"] == 1
    assert "Against an adaptive attacker" in result.output
    # C&W goes no further than it must, so PGD without a bound breaks whatever it does.
    assert all(row["without_detector"] == 0 for row in report["adaptive"] if row["norm"] == "l2")


def test_tables_are_complete_and_attacked_sets_serve_again(anywhere, saved_model, other_model):
    arguments = ["detectors", "--table", other_model, saved_model, "--steps", "2", "--iterations", "5", "--limit", "8"]
    arguments += ["--record", "records", "--json"]
    result = run(*arguments, "a.json")
    assert result.exit_code == 0, result.output
    report = json.loads((anywhere / "a.json").read_text())
    cells = {
        (cell["detector"], cell["model"], cell["fitted_on"], cell["evaluated_by"], cell["positives"])
        for cell in report["cells"]
    }
    pairs = [("kd", "undefended"), ("lid", "undefended"), ("er1", "digits"), ("er2", "digits")]
    attacks = ("fgsm", "pgd", "cw")
    assert cells == {
        (*pair, fitted_on, evaluated_by, positives)
        for pair in pairs
        for fitted_on in attacks
        for evaluated_by in attacks
        for positives in ("all", "successful")
    }
    assert all(f"Table {number}" in result.output for number in (5, 6, 7, 8))
    assert len(list((anywhere / "records").iterdir())) == 2 * 3 * 2
    again = run(*arguments, "b.json", "--false-positive-rate", "0.1")
    assert again.exit_code == 0, again.output
    other = json.loads((anywhere / "b.json").read_text())
    assert other["false_positive_rate"] == 0.1
    auroc = [[cell["separation"] and cell["separation"]["auroc"] for cell in part["cells"]] for part in (report, other)]
    assert auroc[0] == auroc[1]
    result = run(*arguments, "c.json", "--seed", "1")
    assert result.exit_code == 2
    assert "was made with seed 0 (now 1)" in result.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["missing"], "missing does not exist"),
        (["MODEL", "--table", "--attack", "pgd"], "--table was given with --attack, --fit-on or --picture"),
        (["MODEL", "--table", "--picture", "p.png"], "--table was given with --attack, --fit-on or --picture"),
        (["MODEL", "--table"], "--table needs an undefended model"),
        (["MODEL", "MODEL", "--table", "--detector", "lid"], "two of the models have the same name"),
        (["MODEL", "--attack", "apgd"], "'apgd' is not one of"),
        (["MODEL", "--detector", "mahalanobis"], "'mahalanobis' is not one of"),
        (["MODEL", "--false-positive-rate", "1"], "is not in the range"),
        (["MODEL", "--json", "nowhere/a.json"], "cannot be written"),
        (["MODEL", "--picture", "nowhere/p.png"], "cannot be written"),
        (["MODEL", "--iterations", "10"], "iterations was given without the attack cw"),
        (["MODEL", "--attack", "fgsm", "--steps", "10"], "steps was given without the attack pgd"),
        (["MODEL", "--limit", "10"], "limit was given without the attack cw or the adaptive attacker"),
        (["PURIFIED"], "has a purifier"),
    ],
)
def test_bad_input_is_one_sentence(anywhere, saved_model, purified_model, arguments, message):
    places = {"MODEL": saved_model, "PURIFIED": purified_model}
    refused(run("detectors", *[places.get(argument, argument) for argument in arguments]), message)
    assert [path.name for path in anywhere.iterdir()] == []
