import dataclasses
import json
import os
import signal
import subprocess
import sys
import time

import h5py
import numpy as np
import pytest

from erkeras.building import build_model
from erkeras.data import Split, load_dataset, training_batches
from erkeras.errors import InputError
from erkeras.evaluation import evaluate_robustness
from erkeras.job import Job, Progress, check_output, training_folder
from erkeras.judging import judging_attacks
from erkeras.models import Checkpoint
from erkeras.recipes import find_recipe
from erkeras.serving import detect_with, load_model, read_card
from erkeras.training import fit_model, train


def test_the_card_says_what_the_saved_model_does(saved_model):
    card = read_card(saved_model)
    evaluation = card["evaluation"]
    test = load_dataset("digits").test.sample(card["job"]["limit"], card["job"]["seed"])
    assert evaluation["indices"] == test.indices.tolist()
    model = load_model("keras", saved_model / "model.keras")
    found = evaluate_robustness(model, test, judging_attacks(evaluation["epsilon"], card["job"]["restarts"]))
    assert found.summary()["attacks"] == evaluation["attacks"]
    assert found.clean_accuracy == evaluation["clean_accuracy"]
    assert evaluation["robust_accuracy"] <= min(evaluation["attacks"].values())
    assert evaluation["baseline"]["images"] == len(test)
    # Positives are what was attacked: images that were right when clean.
    assert card["detector"]["all_attacked"]["adversarial"] == round(found.clean_accuracy * len(test))
    assert card["detector"]["successful"]["adversarial"] == found.successful.sum()


def test_the_folder_is_whole_and_nothing_is_left_beside_it(saved_model):
    names = {path.name for path in saved_model.iterdir()}
    assert names == {"1", "model.keras", "detector.npz", "card.json", "README.md", "attacked.png"}
    assert not training_folder(saved_model).exists()
    readme = (saved_model / "README.md").read_text()
    assert f"{100 * read_card(saved_model)['evaluation']['clean_accuracy']:.1f}%" in readme
    assert (saved_model / "attacked.png").read_bytes().startswith(b"\x89PNG")


def test_done_is_done_with_resume_alone(saved_model, tiny_job):
    with pytest.raises(InputError, match="add --resume"):
        train(tiny_job, saved_model)
    assert train(tiny_job, saved_model, resume=True) == read_card(saved_model)
    other = dataclasses.replace(tiny_job, seed=7, recipe=dataclasses.replace(tiny_job.recipe, epochs=9))
    with pytest.raises(InputError, match=r"seed 0 \(now 7\)") as caught:
        train(other, saved_model, resume=True)
    assert "epochs 2 (now 9)" in str(caught.value)


class Interrupt(Progress):
    def __init__(self, after):
        self.left = after

    def advance(self, units, note=""):
        self.left -= units
        if self.left < 0:
            raise KeyboardInterrupt


def test_an_unfinished_job_asks_for_resume(tmp_path, tiny_job):
    output = tmp_path / "model"
    with pytest.raises(KeyboardInterrupt):
        train(tiny_job, output, progress=Interrupt(after=5))
    assert not output.exists()
    with pytest.raises(InputError, match="add --resume to go on with it"):
        check_output(output, tiny_job, resume=False)
    assert check_output(output, tiny_job, resume=True) is False
    with pytest.raises(InputError, match=r"seed 0 \(now 1\)"):
        check_output(output, dataclasses.replace(tiny_job, seed=1), resume=True)


SETS = {
    "digits": (8, 8, 1),
    "mnist": (28, 28, 1),
    "cifar10": (32, 32, 3),
    "stl10": (96, 96, 3),
    "tiny_imagenet:somewhere:10": (64, 64, 3),
}


@pytest.mark.parametrize(
    ("name", "dataset"),
    [("default", dataset) for dataset in SETS] + [("paper", dataset) for dataset in SETS if dataset != "digits"],
)
def test_recipes_of_every_set_train_a_step(name, dataset):
    """On two images, and with two steps of PGD, so that the paper's networks take seconds."""
    shape = SETS[dataset]
    recipe = dataclasses.replace(find_recipe(name, dataset, shape), batch_size=2, steps=2, epsilon_warm_up=0.0)
    classes = 200 if dataset.startswith("tiny_imagenet") else 10
    pixels = np.random.RandomState(0).randint(0, 256, (2, *shape)).astype(np.uint8)
    split = Split(pixels, np.array([1, classes - 1], np.int32), np.arange(2))
    model = build_model(recipe, shape, classes, 1, seed=0)
    model.run_eagerly = name == "paper"  # to trace the deep ones takes longer than their step
    parts = {"encoder": model.encoder, "classifier": model.classifier, "critic": model.regularizer.critic}
    before = {name: [weight.numpy() for weight in part.trainable_variables] for name, part in parts.items()}
    logs = model.fit(
        training_batches(split, 2, 0, augment=recipe.augment), steps_per_epoch=1, shuffle=False, verbose=0
    ).history
    assert np.isfinite([values[-1] for values in logs.values()]).all()
    assert model(split.images).shape == (2, classes)
    for name, part in parts.items():
        moved = [not np.array_equal(*pair) for pair in zip(before[name], part.trainable_variables, strict=True)]
        assert np.mean(moved) > 0.8, name  # a bias of the critic may be clipped to where it was


@pytest.mark.parametrize(
    ("name", "dataset", "defense", "setting", "value"),
    [
        ("default", "mnist", "er-classifier-minus", "coefficient", 0.1),  # chosen on validation images
        ("paper", "mnist", "er-classifier-minus", "coefficient", 5e-4),
        ("default", "mnist", "rse", "noise", 0.4),
        ("default", "cifar10", "rse", "noise", 0.2),  # Liu et al.'s
        ("paper", "mnist", "trades", "beta", 1.0),  # Zhang et al.'s
        ("paper", "cifar10", "er-trades", "beta", 6.0),
    ],
)
def test_rows_have_what_was_chosen_for_them_or_their_papers_settings(name, dataset, defense, setting, value):
    assert getattr(find_recipe(name, dataset, SETS[dataset], defense), setting) == value


def test_recipes_are_chosen_by_the_kind_of_set():
    paper = {name: find_recipe("paper", name, shape) for name, shape in SETS.items() if name != "digits"}
    settings = ("code_size", "batch_size", "learning_rate", "coefficient", "epsilon", "augment")
    assert {name: tuple(getattr(recipe, setting) for setting in settings) for name, recipe in paper.items()} == {
        "mnist": (4, 100, 1e-4, 5e-4, 0.3, False),
        "cifar10": (16, 100, 5e-5, 0.1, 0.03, True),
        "stl10": (16, 64, 5e-5, 0.1, 0.03, True),
        "tiny_imagenet:somewhere:10": (64, 100, 5e-5, 0.1, 0.01, True),
    }
    steps = [(recipe.steps, recipe.epochs, recipe.step_ratio * recipe.epsilon) for recipe in paper.values()]
    np.testing.assert_allclose(steps, [(40, 30, 0.01), (20, 30, 0.01), (20, 30, 0.0078), (20, 30, 0.01 / 3)])
    for place in ("", ":somewhere", "::10"):
        name = f"tiny_imagenet{place}"
        assert find_recipe("default", name, (64, 64, 3)) == find_recipe("default", "tiny_imagenet", (64, 64, 3))
    assert find_recipe("default", "tiny_imagenet", (64, 64, 3)).epsilon == 0.01
    assert find_recipe("default", "folder:x", (64, 64, 3)) == find_recipe("default", "cifar10", (32, 32, 3))
    assert not find_recipe("default", "mnist", (28, 28, 1)).augment
    with pytest.raises(InputError, match="is for mnist, cifar10, stl10, tiny_imagenet, not for digits"):
        find_recipe("paper", "digits", (8, 8, 1))
    with pytest.raises(InputError, match="there is no recipe 'best'"):
        find_recipe("best", "digits", (8, 8, 1))


def command(output, *more):
    arguments = ["train", "--epochs", "4", "--limit", "20", "--restarts", "1", "--output", str(output), *more]
    return [sys.executable, "-c", "from erkeras.cli import main; main()", *arguments]


def states(path, tmp_path):
    """Every array of the .keras file: weights and the states of all optimizers."""
    import zipfile

    with zipfile.ZipFile(path) as archive:
        archive.extract("model.weights.h5", tmp_path)
    arrays = {}
    with h5py.File(tmp_path / "model.weights.h5") as file:
        file.visititems(lambda name, item: arrays.update({name: item[()]}) if isinstance(item, h5py.Dataset) else None)
    return arrays


@pytest.mark.parametrize("epochs_before", [1, 3])
def test_killed_and_resumed_training_ends_with_the_same_bits(tmp_path, straight_run, epochs_before):
    output = tmp_path / "killed"
    process = subprocess.Popen(command(output), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    checkpoints = training_folder(output) / "checkpoint"
    deadline = time.monotonic() + 240
    while not list(checkpoints.glob(f"epoch-*{epochs_before}")) and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not output.exists()
    subprocess.run(command(output, "--resume"), check=True, capture_output=True, timeout=300)
    resumed = states(output / "model.keras", tmp_path)
    straight = states(straight_run / "model.keras", tmp_path)
    assert resumed.keys() == straight.keys()
    assert len(straight) > 40
    for name, array in straight.items():
        np.testing.assert_array_equal(resumed[name], array, err_msg=name)
    first, second = (json.loads((path / "card.json").read_text())["evaluation"] for path in (output, straight_run))
    assert first == second


@pytest.fixture(scope="module")
def straight_run(tmp_path_factory):
    output = tmp_path_factory.mktemp("straight") / "model"
    subprocess.run(command(output), check=True, capture_output=True, timeout=300, env={**os.environ})
    return output


def test_colour_images_of_a_users_own_go_the_whole_way(tmp_path):
    random = np.random.RandomState(0)
    labels = np.arange(60) % 2
    images = np.clip(random.rand(60, 32, 32, 3) * 0.5 + 0.5 * labels[:, None, None, None], 0, 1)
    np.savez(tmp_path / "colour.npz", images=(images * 255).astype(np.uint8), labels=labels)
    name = f"npz:{tmp_path / 'colour.npz'}"
    recipe = dataclasses.replace(find_recipe("default", name, (32, 32, 3)), epochs=2, batch_size=8)
    card = train(Job(name, recipe, restarts=1, deterministic=False), tmp_path / "model")
    assert card["dataset"]["image_shape"] == [32, 32, 3]
    assert card["evaluation"]["images"] == 12
    found = detect_with(tmp_path / "model" / "1", images[:3].astype(np.float32))
    np.testing.assert_allclose(found["probabilities"].sum(axis=1), 1, atol=1e-5)


def test_a_job_killed_after_its_last_epoch_needs_no_training(tmp_path, tiny_job):
    class StopAtAttacks(Progress):
        def stage(self, name, total):
            if name == "attacking":
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(tiny_job, tmp_path / "model", progress=StopAtAttacks())
    card = train(tiny_job, tmp_path / "model", resume=True)
    assert set(card["training"]["last_epoch"]) >= {"loss", "adversarial_accuracy", "val_clean_accuracy"}


def test_checkpoints_outlive_a_resume_that_is_refused(tmp_path, tiny_job, monkeypatch):
    def refused(*_, **__):
        raise InputError("the regularizer cannot be imported")

    with pytest.raises(KeyboardInterrupt):
        train(tiny_job, tmp_path / "model", progress=Interrupt(after=30))
    before = sorted(training_folder(tmp_path / "model").rglob("*"))
    with monkeypatch.context() as patch:
        patch.setattr("erkeras.training.build_model", refused)
        with pytest.raises(InputError, match="imported"):
            train(tiny_job, tmp_path / "model", resume=True)
    assert sorted(training_folder(tmp_path / "model").rglob("*")) == before
    assert any("epoch-" in path.name for path in before)


class StopAfter(Progress):
    def __init__(self, steps):
        self.left = steps

    def advance(self, units, note=""):
        self.left -= units if note else 0  # what was done before has no figure
        if not self.left:
            raise KeyboardInterrupt


def test_an_epoch_is_gone_on_with(tmp_path, tiny_job):
    """Its averaged weights and the best epoch's are those of a training that nothing interrupted."""
    recipe = dataclasses.replace(tiny_job.recipe, averaging=0.9, keep_best=True, batch_size=200)
    job, dataset = dataclasses.replace(tiny_job, recipe=recipe), load_dataset("digits")
    whole = Checkpoint(tmp_path / "whole")
    straight = fit_model(job, dataset, whole)
    for steps in (7, 2):  # of five an epoch: in the second, twice
        with pytest.raises(KeyboardInterrupt):
            fit_model(job, dataset, Checkpoint(tmp_path / "parts", seconds=0), StopAfter(steps))
    done = Checkpoint(tmp_path / "parts", seconds=0)
    resumed = fit_model(job, dataset, done)
    assert done.history == whole.history
    for one, other in zip(straight.get_weights(), resumed.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_batch_larger_than_the_set_is_refused(tmp_path, tiny_job):
    job = dataclasses.replace(tiny_job, recipe=dataclasses.replace(tiny_job.recipe, batch_size=5000))
    with pytest.raises(InputError, match="1149 training images"):
        train(job, tmp_path / "model")


def test_a_compact_model_is_the_same_with_less_around_it(tmp_path, tiny_job, saved_model):
    job = dataclasses.replace(tiny_job, compact=True, baseline=False)
    card = train(job, tmp_path / "model")
    whole = read_card(saved_model)
    assert card["evaluation"]["attacks"] == whole["evaluation"]["attacks"]
    # What it is reduced from is the detector of the model that was not: digits have less than 1,000 of each class.
    assert card["detector"]["unreduced"]["all_attacked"] == whole["detector"]["all_attacked"]
    assert card["detector"]["fitted_on"] == "clean training images, all of each class"
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


def test_a_purified_classifier_is_judged_by_less_and_has_no_detector(purified_model, purified_job):
    card = read_card(purified_model)
    names = {path.name for path in purified_model.iterdir()}
    assert names == {"1", "model.keras", "card.json", "README.md", "attacked.png"}
    assert card["detector"] is None
    assert set(card["training"]["generator_last_epoch"]) == {"wasserstein_distance", "gradient_penalty"}
    evaluation = card["evaluation"]
    assert evaluation["pgd"] == {"steps": 10, "step_size": 0.15 / 4, "restarts": 1}
    model = load_model("keras", purified_model / "model.keras")
    assert (model.steps, model.restarts, model.step_size) == (5, 2, 30.0)
    test = load_dataset("digits").test.sample(20, 0)
    found = evaluate_robustness(model, test, judging_attacks(0.15, 1, 10, 1 / 4))
    assert found.summary()["attacks"] == evaluation["attacks"]
    assert found.clean_accuracy == evaluation["clean_accuracy"]
    text = (purified_model / "README.md").read_text()
    assert "5 steps from each of\n2 starts" in text
    assert "ER-Detector" not in text
    # Of a larger sample, one internal batch.
    recipe = dataclasses.replace(purified_job.recipe, purifier_steps=1, purifier_restarts=1)
    larger = dataclasses.replace(purified_job, limit=None, recipe=recipe)
    assert train(larger, purified_model.parent / "larger")["evaluation"]["images"] == 128


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
    train(purified_job, output, resume=True)
    resumed, straight = (states(path / "model.keras", tmp_path) for path in (output, purified_model))
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
