"""What a model and its detector say of a record's images: kept by the card's records, read, verified."""

import shutil

import numpy as np
import pytest

import erkeras
from erkeras.errors import InputError
from erkeras.evaluation import Record, verify_record
from erkeras.evaluation.answers import ANSWERS, SHOWN, Answers, read_answers, rows_to_show, write_answers
from erkeras.evaluation.examples import STANDING, WRONG_WHEN_CLEAN
from helpers.commands import refused, run
from helpers.evaluations import evaluation
from helpers.reports import answers_of, examples_of


@pytest.fixture(scope="module")
def made(saved_model, tmp_path_factory):
    """A model whose card names a record. Not to be written to."""
    model = shutil.copytree(saved_model, tmp_path_factory.mktemp("answers") / "model")
    run = evaluation(model, limit=60, card=True)
    run.run()
    return model, run.folder


@pytest.fixture
def record(made, tmp_path):
    model = shutil.copytree(made[0], tmp_path / "model")
    return model / "records" / made[1].name


def test_a_record_that_a_card_names_keeps_what_model_and_detector_say(made):
    model, folder = made
    examples = Record.open(folder).read()
    found = read_answers(folder, examples)
    saved = erkeras.load(model)
    logits = saved.model.predict(examples.images, verbose=0)
    right = logits[np.arange(60), examples.labels]
    others = np.where(np.arange(logits.shape[1]) == examples.labels[:, np.newaxis], -np.inf, logits).max(axis=1)
    np.testing.assert_allclose(found.margins, right - others, atol=1e-3)
    np.testing.assert_array_equal(found.clean_margins < 0, examples.broken_by == WRONG_WHEN_CLEAN)
    np.testing.assert_array_equal(found.margins < 0, examples.broken_by != STANDING)
    np.testing.assert_array_equal(found.scores > 0, saved.detector.predict(examples.images).verdict)
    clean = erkeras.load_dataset("digits").test.sample(60, 0)
    np.testing.assert_array_equal(found.clean_images, clean.images[found.rows])
    np.testing.assert_array_equal(found.rows, rows_to_show(examples, found.margins))
    assert verify_record(folder).holds


def test_a_record_elsewhere_keeps_them_once_it_is_verified(made, tmp_path):
    model, folder = made
    run = evaluation(model, limit=60, record=tmp_path / "record")
    run.run()
    assert not (tmp_path / "record" / ANSWERS).exists()
    assert verify_record(tmp_path / "record", model).holds
    assert not (tmp_path / "record" / ANSWERS).exists()
    assert verify_record(tmp_path / "record", model, keep=True).holds
    examples = Record.open(folder).read()
    assert not read_answers(folder, examples).differs(read_answers(tmp_path / "record", examples))


def test_an_adaptive_attack_keeps_the_scores_that_it_saw(saved_model, tmp_path):
    model = shutil.copytree(saved_model, tmp_path / "model")
    settings = erkeras.AttackSettings(("pgd",), steps=2, restarts=1, with_detector=True)
    run = evaluation(model, settings, limit=30, card=True)
    found = run.run()
    answers = read_answers(run.folder, found.examples)
    verdicts = erkeras.load(model).detector.predict(found.examples.images).verdict
    np.testing.assert_array_equal(answers.scores > 0, verdicts)


def test_a_model_without_a_detector_keeps_margins_alone(in_memory, tmp_path):
    erkeras.save(in_memory, tmp_path / "model", dataset=erkeras.load_dataset("digits"))
    run = evaluation(tmp_path / "model", limit=20, card=True)
    run.run()
    found = read_answers(run.folder, Record.open(run.folder).read())
    assert (found.scores, found.clean_scores) == (None, None)
    assert found.margins.shape == (20,)


def test_answers_that_are_false_are_found_out_and_made_again(record):
    examples = Record.open(record).read()
    found = vars(read_answers(record, examples))
    write_answers(record, Answers(**{**found, "scores": found["scores"][::-1]}))
    refused(run("verify", record), "answers.npz says otherwise of the images than the model and its detector")
    assert run("verify", record, "--keep").exit_code == 0
    assert not read_answers(record, examples).differs(Answers(**found))


@pytest.mark.parametrize("name", ["clean_margins", "margins", "clean_scores", "scores", "clean_images"])
def test_answers_differ_by_more_than_rounding(name):
    answers = answers_of(*examples_of())
    value = getattr(answers, name)
    assert not answers.differs(Answers(**{**vars(answers), name: value + 0.005}))
    assert answers.differs(Answers(**{**vars(answers), name: value[::-1]}))
    assert answers.differs(Answers(**{**vars(answers), name: value[:-1]}))
    assert answers.differs(Answers(**{**vars(answers), "scores": None}))


def test_answers_of_other_images_are_refused(tmp_path):
    examples, clean = examples_of()
    few, few_clean = examples_of(broken=(), later=(), n=20)
    write_answers(tmp_path, answers_of(few, few_clean))
    with pytest.raises(InputError, match=r"answers\.npz is of other images than the record"):
        read_answers(tmp_path, examples)
    answers = answers_of(examples, clean)
    write_answers(tmp_path, Answers(**{**vars(answers), "rows": answers.rows + 50}))
    with pytest.raises(InputError, match=r"answers\.npz is of other images than the record"):
        read_answers(tmp_path, examples)
    (tmp_path / ANSWERS).write_bytes(b"")
    with pytest.raises(InputError, match=r"answers\.npz is not an \.npz file"):
        read_answers(tmp_path, examples)
    (tmp_path / ANSWERS).unlink()
    assert read_answers(tmp_path, examples) is None


@pytest.mark.parametrize("with_scores", [True, False])
def test_answers_are_read_as_they_were_written(tmp_path, with_scores):
    examples, clean = examples_of()
    answers = answers_of(examples, clean, with_scores)
    write_answers(tmp_path, answers)
    found = read_answers(tmp_path, examples)
    for name, value in vars(answers).items():
        np.testing.assert_array_equal(getattr(found, name), value)
    assert not found.differs(answers)
    bytes_of = Answers(**{**vars(answers), "clean_images": np.round(answers.clean_images * 255) / np.float32(255)})
    write_answers(tmp_path, bytes_of)
    with np.load(tmp_path / ANSWERS) as arrays:
        assert arrays["clean_images"].dtype == np.uint8
    np.testing.assert_allclose(read_answers(tmp_path, examples).clean_images, bytes_of.clean_images, atol=1e-6)


def test_broken_images_are_shown_by_distance_and_standing_ones_by_margin():
    examples, _ = examples_of(broken=(1, 2, 3), later=(), wrong=(0,))
    examples.distance[[1, 2, 3]] = 0.2, 0.05, 0.1
    margins = np.linspace(5, 1, 60).astype(np.float32)
    rows = rows_to_show(examples, margins)
    assert rows[:3].tolist() == [2, 3, 1]
    assert rows[3:].tolist() == list(range(59, 59 - SHOWN, -1))
    assert rows_to_show(examples).tolist() == [2, 3, 1]
    # An attack that minimises goes on outside the ball: there the distance says how near an image is.
    beyond = examples.broken_by == STANDING
    examples.predictions[beyond] = (examples.labels[beyond] + 1) % 3
    examples.distance[beyond] = np.linspace(0.3, 0.9, beyond.sum())
    assert rows_to_show(examples, -margins)[3:].tolist() == list(range(4, 4 + SHOWN))
