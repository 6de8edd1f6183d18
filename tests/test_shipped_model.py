"""The model that is in the repository: whole, small, and what its card says, without its data set."""

from pathlib import Path

import numpy as np
import pytest

from erkeras.detection import ERDetector
from erkeras.evaluation.answers import read_answers
from erkeras.evaluation.examples import STANDING
from erkeras.evaluation.record import Record
from erkeras.report import write_report
from erkeras.saved import load_model, read_card
from erkeras.serving import detect_with

FOLDER = Path(__file__).parent.parent / "saved_models" / "mnist-er-classifier-strong"
RECORD = FOLDER / "records" / "autoattack-standard-l_inf-0.3-test"


@pytest.fixture(scope="module")
def attacked():
    return Record.open(RECORD).read()


@pytest.fixture(scope="module")
def served(attacked):
    return detect_with(FOLDER / "1", attacked.images)


def test_it_is_whole_and_small():
    read_card(FOLDER)  # compares the digests
    assert sum(path.stat().st_size for path in FOLDER.rglob("*") if path.is_file()) < 5e6


def test_its_record_is_what_its_card_says(attacked):
    card = read_card(FOLDER)
    (evaluation,) = card.evaluations
    assert len(attacked) == 1000
    assert evaluation.summary.robust_accuracy == np.mean(attacked.broken_by == -1)
    assert attacked.distance.max() <= 0.3 + 1e-6


def test_its_report_has_the_figures_of_its_card(attacked, tmp_path):
    answers = read_answers(RECORD, attacked)
    np.testing.assert_array_equal(answers.margins < 0, attacked.broken_by != STANDING)
    assert write_report([FOLDER], tmp_path / "report.html") < 5e6
    text = (tmp_path / "report.html").read_text()
    assert f'<p class="big">{read_card(FOLDER).evaluations[0].summary.robust_accuracy:.1%}</p>' in text
    assert text.count("<img ") == 2 * 12 * 3 + 1


def test_it_labels_the_attacked_images_as_recorded(attacked, served):
    # Some stand so near to a boundary that another processor's rounding may decide.
    assert np.mean(served["label"] == attacked.predictions) > 0.99


def test_both_of_its_forms_give_the_same_verdicts(attacked, served):
    detector = ERDetector.load(FOLDER / "detector.npz", load_model("keras", FOLDER / "model.keras"))
    few = slice(0, 200)
    found = detector.predict(attacked.images[few])
    np.testing.assert_allclose(found.score, served["adversarial_score"][few], atol=1e-4)
    np.testing.assert_array_equal(found.verdict, served["verdict"][few])
