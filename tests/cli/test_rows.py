"""erkeras rows."""

import pytest
from helpers.commands import refused, run

from erkeras.saved import percent, read_card

ASKED = ["--defense", "er-classifier", "--defense", "madry", "--epochs", "1", "--seed", "0", "--attack", "fgsm"]


def test_rows_that_are_done_are_shown_beside_each_other(trained_rows):
    folder, models, _ = trained_rows
    result = run("rows", *ASKED, "--output", folder)
    assert result.exit_code == 0, result.output
    assert "fgsm l_inf 0.15 test: 360 images of digits, seed 0; mean over models" in result.output
    assert "Of 360 pairs of an image and a seed, those that stand under one row alone" in result.output
    assert "exact McNemar p" in result.output
    table = result.output.partition("Of 360 pairs")[0]
    for model, title in zip(models, ("ER-Classifier", "adversarial training (Madry)"), strict=True):
        summary = read_card(model).evaluations[0].summary
        (line,) = (line for line in table.splitlines() if f"│ {title} " in line)
        cells = [cell.strip() for cell in line.strip("│").split("│")]
        assert cells[:4] == [title, "1", percent(summary.clean_accuracy), percent(summary.attacks["fgsm"])]


def test_one_row_has_no_pair(trained_rows):
    folder, _, _ = trained_rows
    result = run("rows", *ASKED[2:], "--output", folder)
    assert result.exit_code == 0, result.output
    assert "adversarial training (Madry)" in result.output
    assert "ER-Classifier" not in result.output
    assert "McNemar" not in result.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--dataset", "nope"], "there is no data set 'nope'"),
        (["--defense", "best"], "'best' is not one of"),
        (["--attack", "best"], "'best' is not one of"),
        (["--epochs", "0"], "0 is not in the range"),
        (["--seed", "-1"], "-1 is not in the range"),
    ],
)
def test_bad_input_is_one_sentence(anywhere, arguments, message):
    refused(run("rows", *arguments), message)
    assert list(anywhere.iterdir()) == []


def test_rows_of_other_epochs_are_refused(trained_rows):
    folder, _, _ = trained_rows
    result = run("rows", *ASKED, "--epochs", "2", "--output", folder)
    refused(result, "er-classifier-0 was started with epochs 1 (now 2)")
