import dataclasses
import shutil
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import h5py
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.python.framework.config import disable_op_determinism

from erkeras.attacks.named import report_attacks
from erkeras.data import load_dataset
from erkeras.errors import InputError, OutOfMemoryError
from erkeras.evaluation import evaluate_robustness
from erkeras.progress import Progress
from erkeras.recipes import Job, find_recipe
from erkeras.saved import PGDEntry, load_model, read_card
from erkeras.serving import detect_with
from erkeras.threat import ThreatModel
from erkeras.training import train, training_folder
from helpers.shared import made_once


def test_the_card_says_what_the_saved_model_does(saved_model):
    card = read_card(saved_model)
    report = card.evaluation
    test = load_dataset("digits").test.sample(card.job.limit, card.job.seed)
    assert report.indices == tuple(test.indices)
    model = load_model("keras", saved_model / "model.keras")
    attacks = report_attacks(report.threat, restarts=card.job.restarts)
    found = evaluate_robustness(model, test, attacks)
    assert found.summary() == report.summary
    assert report.pgd == PGDEntry(40, attacks[1].step_length, card.job.restarts)
    assert report.summary.robust_accuracy <= min(report.summary.attacks.values())
    assert report.baseline.images == len(test)
    # Positives are what was attacked: images that were right when clean.
    assert card.detector.all_attacked.adversarial == round(found.clean_accuracy * len(test))
    assert card.detector.successful.adversarial == found.successful.sum()


def test_the_folder_is_whole_and_nothing_is_left_beside_it(saved_model):
    names = {path.name for path in saved_model.iterdir()}
    assert names == {"1", "model.keras", "detector.npz", "card.json", "README.md", "attacked.png"}
    assert not training_folder(saved_model).exists()
    readme = (saved_model / "README.md").read_text()
    assert f"{100 * read_card(saved_model).evaluation.summary.clean_accuracy:.1f}%" in readme
    assert (saved_model / "attacked.png").read_bytes().startswith(b"\x89PNG")


def states(path, tmp_path):
    """Every array of the .keras file: weights and the states of all optimizers."""
    import zipfile

    with zipfile.ZipFile(path) as archive:
        archive.extract("model.weights.h5", tmp_path)
    arrays = {}
    with h5py.File(tmp_path / "model.weights.h5") as file:
        file.visititems(lambda name, item: arrays.update({name: item[()]}) if isinstance(item, h5py.Dataset) else None)
    return arrays


KILLED = Job("digits", dataclasses.replace(find_recipe("default", "digits", (8, 8, 1)), epochs=4), limit=20, restarts=1)


def kill_in_the_third_epoch(output):
    """Leaves what is beside it of a training by the command line, which had no time to clean up."""
    options = ["--epochs", "4", "--limit", "20", "--restarts", "1", "--output", str(output)]
    program = [sys.executable, "-c", "from erkeras.cli import main; main()", "train", *options]
    process = subprocess.Popen(program, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 240
    while not list(training_folder(output).glob("checkpoint/epoch-*2")) and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not output.exists()


@pytest.fixture
def killed(tmp_path, tmp_path_factory):
    """Where a killed training was to write its model."""
    made = made_once(tmp_path_factory, "killed", kill_in_the_third_epoch)
    shutil.copytree(training_folder(made), training_folder(tmp_path / "model"))
    return tmp_path / "model"


@pytest.fixture
def deterministic_again():
    """Deterministic operations, once on, would stay on for every other test."""
    yield
    disable_op_determinism()


class StopAtAttacks(Progress):
    def __init__(self):
        self.units = []

    def stage(self, name, total):
        if name == "attacking":
            raise KeyboardInterrupt

    def advance(self, units, note=""):
        self.units.append(units)


@pytest.mark.usefixtures("deterministic_again")
def test_killed_and_resumed_training_ends_with_the_same_bits(tmp_path, killed, heard):
    """Killed in an epoch, and again after the last one, when there is nothing left to train."""
    resumed = StopAtAttacks()
    with pytest.raises(KeyboardInterrupt):
        train(KILLED, killed, resume=True, progress=resumed)
    steps = 1149 // KILLED.recipe.batch_size
    assert resumed.units[0] >= 2 * steps
    assert sum(resumed.units) == 4 * steps
    card = train(KILLED, killed, resume=True, progress=heard)
    assert heard.units[0] == 4 * steps
    assert set(card.training.last_epoch) >= {"loss", "adversarial_accuracy", "val_clean_accuracy"}
    with pytest.raises(KeyboardInterrupt):
        train(KILLED, tmp_path / "straight", progress=StopAtAttacks())
    straight = training_folder(tmp_path / "straight")
    arrays, expected = (states(path / "model.keras", tmp_path) for path in (killed, straight))
    assert arrays.keys() == expected.keys()
    assert len(expected) > 40
    for name, array in expected.items():
        np.testing.assert_array_equal(arrays[name], array, err_msg=name)


def test_colour_images_of_a_users_own_go_the_whole_way(tmp_path):
    random = np.random.RandomState(0)
    labels = np.arange(60) % 2
    images = np.clip(random.rand(60, 16, 16, 3) * 0.5 + 0.5 * labels[:, None, None, None], 0, 1)
    np.savez(tmp_path / "colour.npz", images=(images * 255).astype(np.uint8), labels=labels)
    name = f"npz:{tmp_path / 'colour.npz'}"
    recipe = dataclasses.replace(find_recipe("default", name, (16, 16, 3)), epochs=1, batch_size=8, steps=2)
    card = train(Job(name, recipe, restarts=1, deterministic=False), tmp_path / "model")
    assert card.dataset.image_shape == (16, 16, 3)
    assert card.evaluation.summary.images == 12
    found = detect_with(tmp_path / "model" / "1", images[:3].astype(np.float32))
    np.testing.assert_allclose(found["probabilities"].sum(axis=1), 1, atol=1e-5)


def test_checkpoints_outlive_a_resume_that_is_refused(killed, monkeypatch):
    def refused(*_, **__):
        raise InputError("the regularizer cannot be imported")

    before = sorted(training_folder(killed).rglob("*"))
    monkeypatch.setattr("erkeras.training.fit.build_model", refused)
    with pytest.raises(InputError, match="imported"):
        train(KILLED, killed, resume=True)
    assert sorted(training_folder(killed).rglob("*")) == before
    assert any("epoch-" in path.name for path in before)


def test_a_batch_larger_than_the_set_is_refused(tmp_path, tiny_job):
    job = dataclasses.replace(tiny_job, recipe=dataclasses.replace(tiny_job.recipe, batch_size=5000))
    with pytest.raises(InputError, match="1149 training images"):
        train(job, tmp_path / "model")


def test_a_compact_model_is_the_same_with_less_around_it(tmp_path, tiny_job, saved_model, monkeypatch):
    job = dataclasses.replace(tiny_job, compact=True, baseline=False)
    whole = read_card(saved_model)
    trained = SimpleNamespace(model=load_model("keras", saved_model / "model.keras"), entry=whole.training)
    # What compact changes comes after the training.
    monkeypatch.setattr(sys.modules[train.__module__], "_fit", lambda *_: trained)
    card = train(job, tmp_path / "model")
    assert card.evaluation.summary == whole.evaluation.summary
    # What it is reduced from is the detector of the model that was not: digits have less than 1,000 of each class.
    assert card.detector.unreduced.all_attacked == whole.detector.all_attacked
    assert card.detector.fitted_on == "clean training images, all of each class"
    with np.load(tmp_path / "model" / "detector.npz") as arrays:
        assert arrays["counts"].tolist() == [50] * 10
    sizes = [(place / "model.keras").stat().st_size for place in (tmp_path / "model", saved_model)]
    assert sizes[0] < sizes[1] / 3
    # Networks and densities, each once.
    model = load_model("keras", tmp_path / "model" / "model.keras")
    stored = (tmp_path / "model" / "1" / "variables" / "variables.data-00000-of-00001").stat().st_size
    with np.load(tmp_path / "model" / "detector.npz") as arrays:
        needed = 4 * sum(weight.size for weight in (*model.get_weights(), arrays["centres"]))
        needed += arrays["weights"].nbytes + arrays["bandwidth"].nbytes
    assert needed <= stored < 1.1 * needed
    images = load_dataset("digits").test.images[:50]
    small, large = (load_model("keras", place / "model.keras") for place in (tmp_path / "model", saved_model))
    np.testing.assert_array_equal(small(images), large(images))
    found = detect_with(tmp_path / "model" / "1", images)["probabilities"]
    np.testing.assert_allclose(found, detect_with(saved_model / "1", images)["probabilities"], atol=1e-6)
    assert "reduced by k-means to 50 centres a class" in (tmp_path / "model" / "README.md").read_text()


def test_a_purified_classifier_is_attacked_by_less_and_has_no_detector(purified_model):
    card = read_card(purified_model)
    names = {path.name for path in purified_model.iterdir()}
    assert names == {"1", "model.keras", "card.json", "README.md", "attacked.png"}
    assert card.detector is None
    assert set(card.training.generator_last_epoch) == {"wasserstein_distance", "gradient_penalty"}
    assert card.evaluation.pgd == PGDEntry(10, 0.15 / 4, 1)
    model = load_model("keras", purified_model / "model.keras")
    assert (model.steps, model.restarts, model.step_size) == (5, 2, 30.0)
    test = load_dataset("digits").test.sample(20, 0)
    found = evaluate_robustness(model, test, report_attacks(ThreatModel("l_inf", 0.15), steps=10, restarts=1))
    assert found.summary() == card.evaluation.summary
    text = (purified_model / "README.md").read_text()
    assert "5 steps from each of\n2 starts" in text
    assert "ER-Detector" not in text


@pytest.mark.usefixtures("deterministic_again")
def test_a_generator_interrupted_and_resumed_is_the_same(tmp_path, purified_model, purified_job):
    class StopInGenerator(Progress):
        left = None

        def stage(self, name, total):
            self.left = 5 if name == "training generator" else None

        def advance(self, units, note=""):
            if self.left is not None:
                self.left -= units
                if self.left < 0:
                    raise KeyboardInterrupt

    output = tmp_path / "model"
    with pytest.raises(KeyboardInterrupt):
        train(purified_job, output, progress=StopInGenerator())
    assert list((training_folder(output) / "generator").glob("epoch-*1"))
    with pytest.raises(KeyboardInterrupt):
        train(purified_job, output, resume=True, progress=StopAtAttacks())
    trained = training_folder(output) / "model.keras"
    resumed, straight = (states(path, tmp_path) for path in (trained, purified_model / "model.keras"))
    assert resumed.keys() == straight.keys()
    for name, array in straight.items():
        np.testing.assert_array_equal(resumed[name], array, err_msg=name)


def test_images_that_no_generator_makes_are_refused_at_once(tmp_path, purified_job):
    labels = np.arange(60) % 2
    np.savez(tmp_path / "odd.npz", images=np.zeros((60, 9, 8, 1), np.uint8), labels=labels)
    job = dataclasses.replace(purified_job, dataset=f"npz:{tmp_path / 'odd.npz'}")
    with pytest.raises(InputError, match="multiples of 4"):
        train(job, tmp_path / "model")
    assert [path.name for path in tmp_path.iterdir()] == ["odd.npz"]


class OutOfMemory(Progress):
    """A device whose memory runs out after some units of a stage."""

    def __init__(self, stage, after):
        self.wanted, self.left, self.now = stage, after, ""

    def stage(self, name, total):
        self.now = name

    def advance(self, units, note=""):
        self.left -= units * (self.now == self.wanted)
        if self.left < 0:
            raise tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor")


def test_where_memory_runs_out_a_training_can_be_gone_on_with(tmp_path, saved_model, tiny_job):
    output = tmp_path / "model"
    sentence = "the memory ran out in training: give a smaller --batch-size than 64"
    with pytest.raises(OutOfMemoryError, match=sentence):
        train(tiny_job, output, progress=OutOfMemory("training", 20))  # of 34 steps
    assert list((training_folder(output) / "checkpoint").glob("epoch-*"))
    sentence = "ran out in attacking what was trained: .*; the trained model is in .*model.keras"
    with pytest.raises(OutOfMemoryError, match=sentence):
        train(tiny_job, output, resume=True, progress=OutOfMemory("training undefended", 5))
    assert not output.exists()
    card = train(tiny_job, output, resume=True)
    assert card.evaluation == read_card(saved_model).evaluation
    assert {path.name for path in tmp_path.iterdir()} == {"model"}
