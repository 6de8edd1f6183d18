"""erkeras table."""

import pytest
from helpers.commands import refused, run
from helpers.rows import saved, two_rows


@pytest.fixture
def models(anywhere):
    return two_rows(anywhere)


def test_rows_and_their_paired_test_are_shown(models):
    result = run("table", *models, "--pair", models[0], models[1])
    assert result.exit_code == 0, result.output
    output = " ".join(result.output.split())
    assert all(part in output for part in ("ER-Classifier", "93.8%", "(92.5"))
    assert "80 pairs of an image and a seed" in output
    assert "│ exact McNemar p │ 1 │ 0.039 │ 0.18 │" in output


def test_the_spread_of_one_model_is_not_shown(models):
    result = run("table", models[0], models[1])
    assert result.exit_code == 0, result.output
    assert "│ 1 │" in " ".join(result.output.split())
    assert "(92.5" not in result.output
    assert "McNemar" not in result.output


def test_the_evaluation_is_the_one_of_a_title(models):
    titled = run("table", *models, "--evaluation", "pgd l_inf 0.1 test")
    assert titled.exit_code == 0, titled.output
    assert titled.output == run("table", *models).output
    refused(run("table", *models, "--evaluation", "rays"), "not all models have an evaluation 'rays': give one of pgd")


def test_bad_input_is_one_sentence(models, anywhere):
    refused(run("table"), "Missing argument")
    refused(run("table", "missing"), "missing does not exist")
    refused(run("table", *models, "--pair", models[0], "elsewhere"), "elsewhere, which is not among the models")
    other = saved(anywhere / "c", "none", 0, broken=[], title="square")
    refused(run("table", *models, other), "share the evaluations none")
