"""Cards of older formats."""

import json
from pathlib import Path

import pytest

from erkeras.detection import Separation
from erkeras.errors import InputError
from erkeras.recipes import Job, Recipe
from erkeras.saved import (
    Card,
    DatasetEntry,
    DetectorEntry,
    EvaluationEntry,
    PGDEntry,
    ReportEntry,
    Summary,
    TrainingEntry,
)
from erkeras.saved.card import card_text, parse_card
from erkeras.threat import ThreatModel

PLACE = Path("somewhere") / "card.json"

SUMMARY = {
    "images": 20,
    "outputs": "logits",
    "clean_accuracy": 0.95,
    "attacks": {"fgsm": 0.8, "pgd": 0.75},
    "robust_accuracy": 0.75,
    "mean_boundary_distance": None,
    "forward_passes": {"fgsm": 39, "pgd": 760},
    "backward_passes": {"fgsm": 19, "pgd": 740},
    "warnings": ["Look twice."],
}
BASELINE = {**SUMMARY, "clean_accuracy": 0.9, "attacks": {"fgsm": 0.1, "pgd": 0.0}, "robust_accuracy": 0.0}
SEPARATION = {
    "auroc": 0.9,
    "detection_rate_at_5": 0.75,
    "detection_rate": 0.7,
    "false_positive_rate": 0.04,
    "natural": 20,
    "adversarial": 5,
}

#: As `erkeras train` wrote it before the cards had types: figures and settings of the report lie beside each other, and
#: a job knows the version of erkeras.
OLD = {
    "format": 2,
    "name": "old",
    "job": {
        "dataset": "digits",
        "recipe": {"network": "digits", "code_size": 16, "epochs": 2, "batch_size": 64, "epsilon": 0.15,
                   "training_ratio": 1.5, "critic_units": [128, 64]},
        "seed": 3,
        "limit": 20,
        "restarts": 2,
        "baseline": True,
        "features": "combined",
        "compact": False,
        "deterministic": True,
        "command": "erkeras train",
        "erkeras": "0.1.0",
    },
    "versions": {"erkeras": "0.1.0", "numpy": "2.4.6"},
    "processor": "A processor",
    "dataset": {"name": "digits", "image_shape": [8, 8, 1], "class_names": ["0", "1"], "train": 1149,
                "validation": 288, "test": 360},
    "training": {"seconds_of_last_run": 0.8, "last_epoch": {"loss": 0.25}, "kept_epoch": 2, "warnings": []},
    "evaluation": {
        "split": "test",
        "norm": "l_inf",
        "epsilon": 0.15,
        "pgd": {"steps": 40, "step_size": 0.009375, "restarts": 2},
        "seed": 3,
        "indices": [5, 9],
        **SUMMARY,
        "baseline": BASELINE,
    },
    "detector": {
        "features": "combined",
        "threshold": 0.5,
        "stated_false_positive_rate": 0.05,
        "fitted_on": "training images",
        "calibrated_on": "validation images",
        "successful": SEPARATION,
        "all_attacked": {**SEPARATION, "adversarial": 19},
    },
    "evaluations": [
        {
            "title": "square l_inf 0.15 test",
            "dataset": "digits",
            "split": "test",
            "seed": 0,
            "threat": {"norm": "l_inf", "epsilon": 0.15, "lower": 0.0, "upper": 1.0},
            "summary": {**SUMMARY, "attacks": {"square": 0.75}},
            "record": "records/square",
        }
    ],
    "files": {"model.keras": "bb"},
}  # fmt: skip


def summary(**changes):
    return Summary(**{**SUMMARY, "warnings": ("Look twice.",), **changes})


EXPECTED = Card(
    name="old",
    dataset=DatasetEntry((8, 8, 1), ("0", "1"), "digits", 1149, 288, 360),
    versions={"erkeras": "0.1.0", "numpy": "2.4.6"},
    processor="A processor",
    job=Job(
        dataset="digits",
        recipe=Recipe("digits", 16, 2, 64, 0.15, training_ratio=1.5, critic_units=(128, 64)),
        seed=3,
        limit=20,
        restarts=2,
        baseline=True,
        command="erkeras train",
    ),
    training=TrainingEntry(0.8, {"loss": 0.25}, 2),
    evaluation=ReportEntry(
        split="test",
        threat=ThreatModel("l_inf", 0.15),
        pgd=PGDEntry(40, 0.009375, 2),
        seed=3,
        indices=(5, 9),
        summary=summary(),
        baseline=summary(clean_accuracy=0.9, attacks={"fgsm": 0.1, "pgd": 0.0}, robust_accuracy=0.0),
    ),
    detector=DetectorEntry(
        features="combined",
        threshold=0.5,
        stated_false_positive_rate=0.05,
        fitted_on="training images",
        calibrated_on="validation images",
        successful=Separation(0.9, 0.75, 0.7, 0.04, 20, 5),
        all_attacked=Separation(0.9, 0.75, 0.7, 0.04, 20, 19),
    ),
    evaluations=(
        EvaluationEntry(
            title="square l_inf 0.15 test",
            dataset="digits",
            split="test",
            seed=0,
            threat=ThreatModel("l_inf", 0.15),
            summary=summary(attacks={"square": 0.75}),
            record="records/square",
        ),
    ),
    files={"model.keras": "bb"},
    format=3,
)


def parsed(content):
    return parse_card(json.dumps(content), PLACE)


def changed(path, *value):
    """The old card with another value at a path, or without one."""
    content = json.loads(json.dumps(OLD))
    place = content
    for key in path[:-1]:
        place = place[key]
    del place[path[-1]]
    if value:
        place[path[-1]] = value[0]
    return content


def test_a_card_of_format_2_becomes_one_of_format_3():
    assert parsed(OLD) == EXPECTED


def test_upgraded_it_is_written_and_read_as_format_3():
    text = card_text(parsed(OLD))
    assert json.loads(text)["format"] == 3
    assert parse_card(text, PLACE) == EXPECTED


@pytest.mark.parametrize("missing", ["processor", "detector", "evaluations", "files"])
def test_what_format_2_had_not_always_may_be_missing(missing):
    assert getattr(parsed(changed([missing])), missing) in (None, (), {})


def test_a_report_without_a_baseline_has_none():
    assert parsed(changed(["evaluation", "baseline"])).evaluation.baseline is None
    assert parsed(changed(["evaluation", "baseline"], None)).evaluation.baseline is None


@pytest.mark.parametrize(
    "path",
    [
        ["job"],
        ["evaluation"],
        ["name"],
        ["dataset"],
        ["versions"],
        ["dataset", "image_shape"],
        ["job", "recipe"],
        ["job", "recipe", "network"],
        ["evaluation", "norm"],
        ["evaluation", "epsilon"],
        ["evaluation", "pgd"],
        ["evaluation", "seed"],
        ["evaluation", "indices"],
        ["evaluation", "images"],
        ["evaluation", "warnings"],
        ["evaluation", "baseline", "attacks"],
    ],
    ids=".".join,
)
def test_a_missing_key_is_refused_in_one_sentence(path):
    with pytest.raises(InputError, match=rf"^{PLACE} .*\b{path[-1]}\b.*train the model again.*\.$"):
        parsed(changed(path))


@pytest.mark.parametrize("value", [None, 3, "text", []])
@pytest.mark.parametrize("path", [["job"], ["evaluation"], ["evaluation", "pgd"], ["job", "recipe"]], ids=".".join)
def test_a_value_of_another_type_is_refused_in_one_sentence(path, value):
    with pytest.raises(InputError, match=rf"^{PLACE} .*\.$"):
        parsed(changed(path, value))


def test_an_unknown_key_is_refused_as_in_format_3():
    with pytest.raises(InputError, match=r"at job\.colour: "):
        parsed({**OLD, "job": {**OLD["job"], "colour": 1}})
    with pytest.raises(InputError, match=r"at detector\.colour: "):
        parsed({**OLD, "detector": {**OLD["detector"], "colour": 1}})


def test_a_card_of_format_3_is_not_upgraded():
    """Its keys are not those of format 2, whatever it calls itself."""
    content = {**json.loads(card_text(EXPECTED)), "format": 2}
    with pytest.raises(InputError, match="lacks what a card of format 2 has"):
        parsed(content)
    with pytest.raises(InputError, match="is not a whole model card"):
        parsed({**OLD, "format": 3})
