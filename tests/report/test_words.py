"""Words for people, and commands that do what they say."""

import dataclasses
import shlex
from pathlib import Path

import pytest

from erkeras.cli import main
from erkeras.report import words
from erkeras.report.sources import Curve, Measured, Reported
from erkeras.threat import ThreatModel
from helpers.golden import GOLDEN
from helpers.reports import THREAT, examples_of, summary_of

MODEL = Reported(Path("a folder"), GOLDEN, (), (), "golden")


def measured_of(names=("apgd-ce", "square"), title="autoattack standard l_inf 0.2 test", **changes):
    examples, _ = examples_of(attacks=len(names))
    found = Measured(title, "digits", "test", 5, THREAT, summary_of(examples, names), Path("a folder/record"))
    return dataclasses.replace(found, **changes)


def options_of(command):
    """What the command line makes of a command."""
    program, name, *arguments = shlex.split(command)
    assert program == "erkeras"
    return main.commands[name].make_context(name, arguments).params


def test_the_summary_names_figure_radius_and_limits():
    found = dict(words.summary(MODEL, measured_of()))
    assert list(found) == ["What was tested.", "Against what.", "What the figure means.", "What it does not mean."]
    assert "60 test images of digits" in found["What was tested."]
    assert "into 3 classes (zero, one, two)" in found["What was tested."]
    assert "at most 0.2, where 0 is black and 1 is white: 51 of 255" in found["Against what."]
    assert "The attacks APGD-CE and Square came one after the other." in found["Against what."]
    assert "about 85 stay right" in found["What the figure means."]
    assert "The attacks break 13, and the model is wrong about 2" in found["What the figure means."]
    assert "85.0%" in found["What the figure means."]
    assert "is no guarantee" in found["What it does not mean."]
    assert "are of attackers who do not know it" in found["What it does not mean."]


def test_weak_attacks_validation_images_and_unknown_training_are_said():
    weak = dict(words.summary(MODEL, measured_of(("fgsm", "pgd"))))
    assert "FGSM and PGD are weak tests" in weak["What it does not mean."]
    validation = dict(words.summary(MODEL, measured_of(split="validation")))
    assert "Settings may have been chosen on them" in validation["What was tested."]
    assert "None of them was used to train the model." in weak["What was tested."]
    unknown = Reported(Path("m"), dataclasses.replace(GOLDEN, job=None), ())
    assert "used to train" not in dict(words.summary(unknown, measured_of()))["What was tested."]


def test_who_only_asks_and_who_knows_the_detector_are_told_apart():
    assert "does not see inside the model" in dict(words.summary(MODEL, measured_of(("square",))))["Against what."]
    aimed = dict(words.summary(MODEL, measured_of(("pgd-detector",))))
    assert "knows the model and its detector completely" in aimed["Against what."]
    assert "stay right, or are found by the detector," in aimed["What the figure means."]


def test_a_radius_is_said_in_each_norm():
    assert "Euclidean length of at most 1.5" in words.radius(ThreatModel("l2", 1.5))
    assert "where -1 is black and 1 is white: 25.5 of 255" in words.radius(ThreatModel("l_inf", 0.2, -1, 1))


@pytest.mark.parametrize(
    ("names", "title", "changes", "expected"),
    [
        (("apgd-ce", "square"), "autoattack plus l_inf 0.2 test", {}, "AutoAttack, version plus, l_inf epsilon 0.2"),
        (("fgsm", "cw"), "fgsm cw l_inf 0.2 test", {}, "FGSM and C&W, l_inf epsilon 0.2"),
        (("pgd-detector",), "pgd with detector", {}, "PGD aimed at model and detector, l_inf epsilon 0.2"),
        (("rays",), "rays", {"split": "validation"}, "RayS, l_inf epsilon 0.2, validation images"),
        (("pgd",), "pgd", {"folder": None}, "PGD, l_inf epsilon 0.2, as training reports"),
    ],
)
def test_an_evaluation_is_named_as_a_reader_says_it(names, title, changes, expected):
    assert words.heading(measured_of(names, title, **changes)) == expected


def test_every_attack_of_the_command_line_has_a_meaning():
    from erkeras.attacks.named import ATTACKS

    assert all(words.meaning(name) for name in ATTACKS if name != "autoattack")
    assert words.meaning("pgd-detector").endswith("; aimed at the detector too")
    assert words.meaning("my own") == ""


def test_the_command_of_an_evaluation_asks_for_the_same():
    plain = options_of(words.attack_command(MODEL, measured_of(title="fgsm apgd-ce l_inf 0.2 test")))
    assert plain["model"] == Path("a folder")
    assert plain["attacks"] == ("fgsm", "apgd-ce")
    assert (plain["norm"], plain["epsilon"], plain["limit"], plain["seed"], plain["card"]) == (
        "l_inf",
        0.2,
        60,
        5,
        True,
    )
    assert (plain["dataset"], plain["split"], plain["with_detector"], plain["version"]) == (None, "test", False, None)
    other = measured_of(("apgd-ce",), "autoattack rand l2 0.2 test", dataset="npz:my set", split="validation")
    found = options_of(words.attack_command(MODEL, other))
    assert (found["version"], found["dataset"], found["split"]) == ("rand", "npz:my set", "validation")
    aimed = options_of(words.attack_command(MODEL, measured_of(("pgd-detector",), "pgd with detector l_inf 0.2 test")))
    assert (aimed["attacks"], aimed["with_detector"]) == (("pgd",), True)


def test_the_command_of_what_training_reports_asks_for_the_same():
    found = options_of(words.training_command(MODEL))
    assert (found["steps"], found["step_size"], found["restarts"]) == (40, 0.009375, 4)
    assert (found["limit"], found["seed"], found["epsilon"]) == (200, 3, 0.15)
    assert options_of(words.adaptive_command(MODEL))["with_detector"]


def test_the_command_of_a_curve_asks_for_the_same():
    epsilons = (0.0, 0.025, 0.05)
    curve = Curve(Path("c.json"), epsilons, ("pgd", "fgsm"), "l2", "other", 20, 4, True, {})
    found = options_of(words.curve_command(MODEL, curve))
    assert (found["models"], found["attacks"], found["epsilons"]) == ((Path("a folder"),), ("pgd", "fgsm"), epsilons)
    assert (found["norm"], found["dataset"], found["limit"], found["seed"]) == ("l2", "other", 20, 4)
    assert found["with_detector"]
    one = dataclasses.replace(curve, epsilons=(0.1,), dataset="digits", with_detector=False)
    found = options_of(words.curve_command(MODEL, one))
    assert (found["epsilons"], found["dataset"], found["with_detector"]) == ((0.1,), None, False)
