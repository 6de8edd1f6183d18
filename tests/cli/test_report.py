"""erkeras report."""

import json
import subprocess
import sys

import pytest

from erkeras.saved import MODEL, fingerprint
from helpers.commands import refused, run
from helpers.reports import examples_of, model_of, record_of, summary_of


@pytest.fixture
def model(anywhere):
    return model_of(anywhere / "model")


def test_a_page_is_written(model, anywhere):
    result = run("report", model)
    assert result.exit_code == 0, result.output
    assert result.output.startswith("Written to report.html (0.")
    text = (anywhere / "report.html").read_text()
    assert text.startswith("<!DOCTYPE html>")
    assert "85.0%" in text
    again = run("report", model, "--output", "report.html")
    assert again.exit_code == 0, again.output
    assert (anywhere / "report.html").read_text() == text


def test_records_and_curves_are_shown_too(model, anywhere):
    examples, _ = examples_of(attacks=1)
    digest = fingerprint(model / MODEL)
    record_of(anywhere / "record", digest, examples, ("fgsm",), summary_of(examples, ("fgsm",)))
    curve = {
        "epsilons": [0, 0.1], "attacks": ["pgd"], "accuracies": {"model": [1.0, 0.5]}, "norm": "l_inf",
        "dataset": "digits", "images": 20, "seed": 0, "with_detector": False, "digests": {"model": digest},
    }  # fmt: skip
    (anywhere / "curve.json").write_text(json.dumps(curve))
    result = run("report", model, "--record", "record", "--curve", "curve.json", "--output", "it.html")
    assert result.exit_code == 0, result.output
    text = (anywhere / "it.html").read_text()
    assert "erkeras verify record" in text
    assert "pgd on 20 test images of digits, seed 0" in text


WITHOUT_TENSORFLOW = """
import sys
sys.modules["tensorflow"] = sys.modules["keras"] = None  # importing them fails
from erkeras.cli import main
main(["report", "model"])
"""


def test_it_does_without_tensorflow(model, anywhere):
    program = [sys.executable, "-c", WITHOUT_TENSORFLOW]
    found = subprocess.run(program, capture_output=True, text=True, timeout=60, cwd=anywhere)
    assert found.returncode == 0, found.stderr
    assert (anywhere / "report.html").stat().st_size > 10_000


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "Missing argument"),
        (["missing"], "missing does not exist"),
        (["empty"], "empty has no card.json"),
        (["model", "--record", "empty"], "empty is not the record of an evaluation"),
        (["model", "--curve", "missing.json"], "missing.json cannot be read"),
        (["model", "--output", "empty"], "empty cannot be written"),
        (["model", "--output", "nowhere/report.html"], "cannot be written"),
        (["model", "--output", "/dev/full"], "/dev/full cannot be written (No space left on device)"),
    ],
)
def test_bad_input_is_one_sentence_and_leaves_nothing(model, anywhere, arguments, message):
    (anywhere / "empty").mkdir()
    before = sorted(anywhere.rglob("*"))
    refused(run("report", *arguments), message)
    assert sorted(anywhere.rglob("*")) == before


def test_a_record_of_another_model_leaves_nothing(model, anywhere):
    other = model_of(anywhere / "other", weights=b"others")
    record = other / "records" / "apgd-ce-square-l_inf-0.2-test"
    refused(run("report", model, "--record", record), "is a record of none of the models")
    assert not (anywhere / "report.html").exists()
