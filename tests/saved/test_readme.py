"""The card for people: of the golden card, of trained models, and of one that says little."""

import dataclasses
import re

import pytest

from erkeras.saved import (
    Card,
    DatasetEntry,
    DetectorEntry,
    defense_title,
    detection_rows,
    percent,
    read_card,
    render_card,
    results_rows,
)
from helpers.golden import GOLDEN, README_FILE

BARE = Card("mine", DatasetEntry((8, 8, 1), ("a", "b")), {"erkeras": "0.1.0"}, "A processor")


def recipe_of(**changes):
    return dataclasses.replace(GOLDEN.job.recipe, generator_updates=0, **changes)


def with_recipe(**changes):
    return dataclasses.replace(GOLDEN, job=dataclasses.replace(GOLDEN.job, recipe=recipe_of(**changes)))


def test_the_golden_card_is_rendered_as_the_golden_file():
    assert render_card(GOLDEN) == README_FILE.read_text()


def test_the_folder_of_a_trained_model_has_it(saved_model):
    assert (saved_model / "README.md").read_text() == render_card(read_card(saved_model))


def test_a_card_that_says_little_makes_little():
    assert render_card(BARE) == (
        '---\nlibrary_name: keras\npipeline_tag: image-classification\ntags:\n- "adversarial-robustness"\n- "erkeras"\n'
        "---\n\n# mine\n\n"
        'A classifier (as in "Towards Robustness of Deep Neural Networks via Regularization"), saved by '
        "`erkeras.save`.\n\n**Data.** Images: 8 x 8 x 1; classes a, b.\n"
    )


def test_a_saved_model_says_its_detector_and_its_data():
    card = dataclasses.replace(
        BARE,
        dataset=DatasetEntry((8, 8, 1), ("a", "b"), "digits", 30, 20, 10),
        detector=DetectorEntry("code", 0.123456),
        evaluations=GOLDEN.evaluations,
    )
    text = render_card(card)
    assert "A classifier with an ER-Detector (" in text
    assert "**Data.** digits: 30 training, 20 validation and 10 test images of\n8 x 8 x 1; classes a, b." in text
    assert "**Detector.** ER1, with the threshold 0.1235 of its score.\n" in text
    assert "### rays l2 0.5 validation" in text
    assert "Measured" not in text
    assert "attacked.png" not in text
    assert "**Detector.** ER2, " in render_card(dataclasses.replace(card, detector=DetectorEntry("combined", 0.5)))


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"training_ratio": 0.0}, "clean images, regularizer"),
        ({"epsilon": 0.0}, "clean images, regularizer"),
        ({"objective": "cross-entropy"}, "PGD-7 at l2 epsilon 0.225, regularizer"),
        ({"norm": "l_inf"}, "PGD-7 at epsilon 0.225, TRADES"),
        ({"beta": 2.0}, "TRADES with beta 2,"),
        ({"coefficient": 0.0}, "no regularizer, seed 3"),
        ({"regularizer": "mmd", "coupling": "separate"}, "regularizer mmd with lambda 0.3 (separate)"),
    ],
)
def test_training_is_told_by_its_recipe(changes, sentence):
    assert sentence in render_card(with_recipe(**changes))


def test_without_a_purifier_nothing_is_said_of_one():
    assert "Purifier" in render_card(GOLDEN)
    assert "Purifier" not in render_card(with_recipe())


def test_without_a_reduced_detector_nothing_is_said_of_one():
    whole = dataclasses.replace(GOLDEN.detector, centres=None, unreduced=None)
    assert "k-means" not in render_card(dataclasses.replace(GOLDEN, detector=whole))


@pytest.mark.parametrize(
    ("defense", "coefficient", "training_ratio", "title"),
    [
        ("er-classifier", 0.3, 1.0, "ER-Classifier"),
        ("er-classifier", 0.0, 1.0, "adversarial training (Madry)"),
        ("er-classifier", 0.3, 0.0, "ER-Classifier minus"),
        ("er-classifier", 0.0, 0.0, "E-CLA, without defense"),
        ("trades", 0.0, 1.0, "TRADES"),
    ],
)
def test_a_classifier_without_its_parts_is_called_what_is_left(defense, coefficient, training_ratio, title):
    recipe = recipe_of(defense=defense, coefficient=coefficient, training_ratio=training_ratio)
    assert defense_title(recipe) == title


def test_the_table_of_accuracies_is_the_one_of_the_command_line():
    assert results_rows(GOLDEN) == [
        ("ER-TRADES", {"clean": "95.0%", "FGSM": "80.0%", "PGD-40": "70.0%", "worst of all": "70.0%"}),
        (
            "the same network without defense",
            {"clean": "98.0%", "FGSM": "30.0%", "PGD-40": "2.0%", "worst of all": "2.0%"},
        ),
    ]
    alone = dataclasses.replace(GOLDEN, evaluation=dataclasses.replace(GOLDEN.evaluation, baseline=None))
    assert len(results_rows(alone)) == 1
    assert results_rows(BARE) == []


def test_figures_of_nothing_are_none():
    nothing = dataclasses.replace(
        GOLDEN.detector.successful, auroc=None, detection_rate_at_5=None, detection_rate=None, adversarial=0
    )
    card = dataclasses.replace(GOLDEN, detector=dataclasses.replace(GOLDEN.detector, successful=nothing))
    assert detection_rows(card)[0] == ["successful attacks", "0", "none", "none", "none", "4.0%"]
    assert "AUROC: all attacked 0.800 instead of 0.810." in render_card(card)
    assert detection_rows(BARE) == []
    assert (percent(None), percent(0.12345), percent(1.0)) == ("none", "12.3%", "100.0%")


def test_every_table_is_whole():
    """As many cells in each line as in its head."""
    tables = re.findall(r"(?:^\|.*\n)+", render_card(GOLDEN), re.MULTILINE)
    assert [{line.count("|") for line in table.splitlines()} for table in tables] == [{6}, {7}, {3}]


def test_a_report_of_a_model_without_a_job_is_rendered():
    assert "Measured" in render_card(dataclasses.replace(GOLDEN, job=None))


def test_a_report_of_other_attacks_is_rendered():
    summary = dataclasses.replace(GOLDEN.evaluation.summary, attacks={"square": 0.5})
    report = dataclasses.replace(GOLDEN.evaluation, summary=summary, baseline=None)
    assert "50.0%" in render_card(dataclasses.replace(GOLDEN, evaluation=report))
