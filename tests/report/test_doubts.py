"""Each kind of warning: its sentences are known, and the docs explain it."""

import inspect
import re
from pathlib import Path

import numpy as np
import pytest

from erkeras.attacks import RayS, checks
from erkeras.attacks.pgd import PGD
from erkeras.evaluation import checks as results
from erkeras.evaluation import transfer
from erkeras.evaluation.examples import UNANSWERED
from erkeras.report.doubts import KINDS, doubts_of, kind_of
from erkeras.report.sources import read_sources
from erkeras.training import own
from erkeras.training.train import _finish, _warnings
from helpers.reports import examples_of, model_of

PAGE = (Path(__file__).parent.parent.parent / "docs" / "warnings.md").read_text()


def test_the_docs_have_a_part_for_each_kind_and_no_other():
    assert re.findall(r"^## (.+)$", PAGE, re.MULTILINE) == [kind.heading for kind in KINDS]
    words = " ".join(PAGE.split())
    for kind in KINDS:
        assert f"**What it means.** {kind.meaning}" in words
        assert f"**What to do.** {kind.advice}" in words


def test_the_docs_quote_a_sentence_of_each_kind():
    quoted = re.findall(r"^> .+(?:\n> .+)*", PAGE, re.MULTILINE)
    sentences = [" ".join(quote.replace("\n> ", " ").removeprefix("> ").split()) for quote in quoted]
    assert [kind_of(sentence) for sentence in sentences] == list(KINDS)


def test_sentences_of_evaluations_are_known():
    examples, _ = examples_of()
    examples.broken_by[20] = UNANSWERED
    masked, unanswered = results.check_result(examples, [PGD(), RayS()])
    assert kind_of(masked).heading == "Masked gradients"
    assert kind_of(unanswered).heading == "Outputs that are no numbers"
    assert kind_of(checks.unconfirmed_sentence("pgd", 3)).heading == "Broken in passing"
    assert kind_of(transfer._TRANSFERRED).heading == "Images made for another model"


@pytest.mark.parametrize(
    ("function", "heading"),
    [
        (checks.check_model, "Probabilities in place of logits"),
        (checks.check_model, "Randomised model"),
        (checks.check_model, "Zero gradients"),
        (checks.check_model, "Fewer classes than targets"),
        (_warnings, "Overfitted to a cheap attack"),
        (own.warnings_of_start, "Start from other pixels"),
        (_finish, "No detector"),
    ],
)
def test_sentences_that_take_a_model_are_those_of_the_source(function, heading):
    """The words of a pattern stand, in this order, in the text of the function that makes the sentence."""
    (kind,) = [kind for kind in KINDS if kind.heading == heading]
    text = re.sub(r'"\s+f?"', "", inspect.getsource(function))
    words = re.sub(r"\(probabilities\|sigmoids\)", "{victim.outputs}", kind.pattern.removeprefix("^"))
    for part in words.split(".*"):
        assert part.strip() in text


def test_a_sentence_of_no_kind_is_shown_all_the_same():
    assert kind_of("Something else.").heading == "Another warning"


def test_the_warnings_of_a_model_are_those_of_training_of_evaluations_and_of_its_baseline(tmp_path):
    (model,) = read_sources([model_of(tmp_path / "mine")])
    found = {doubt.sentence: (doubt.where, doubt.kind.heading) for doubt in doubts_of(model)}
    assert found["It overfits."] == ("training", "Another warning")
    (masked,) = [place for place in found.values() if place[1] == "Masked gradients"]
    assert masked[0] == "APGD-CE and Square, l_inf epsilon 0.2"
    assert found["Nothing stands."][0] == "the same network without defense"
    assert "Gradients vanish." in found
    assert np.unique(list(found)).size == len(found) == 4
