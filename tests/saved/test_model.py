"""Models saved and loaded from Python: what comes back, what the commands make of the folder, what is refused."""

import json
import os
import shutil

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import erkeras
from erkeras.data import load_dataset
from erkeras.errors import InputError
from erkeras.models.networks import build_networks
from erkeras.saved import DetectorEntry, newest_version, read_card
from erkeras.serving import detect_with
from erkeras.versions import versions
from helpers.commands import refused, run

NAMES = ("zero", "one", "two")


@pytest.fixture(scope="module")
def digits():
    return load_dataset("digits")


@pytest.fixture(scope="module")
def trained(saved_model):
    return erkeras.load(saved_model)


@pytest.fixture(scope="module")
def mine(trained, digits, tmp_path_factory):
    """What was saved, with a detector and a data set. Not to be written to."""
    folder = tmp_path_factory.mktemp("made") / "deep" / "mine"
    return erkeras.save(trained.model, folder, detector=trained.detector, dataset=digits)


def sequential(*shape, classes=3):
    keras.utils.set_random_seed(0)
    return keras.Sequential([keras.Input(shape), layers.Flatten(), layers.Dense(classes)])


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_folder_that_training_wrote_is_opened(trained, saved_model, digits):
    assert trained.folder == saved_model
    assert trained.card == read_card(saved_model)
    images = digits.test.images[:40]
    found = trained.detector.predict(images)
    served = detect_with(saved_model / "1", images)
    np.testing.assert_allclose(found.score, served["adversarial_score"], atol=1e-5)
    np.testing.assert_array_equal(found.label, served["label"])
    assert trained.detector.threshold == trained.card.detector.threshold
    assert trained.detector.model is trained.model


def test_a_folder_may_be_given_as_text(saved_model):
    assert erkeras.load(str(saved_model)).folder == saved_model


def test_a_model_and_its_detector_come_back_as_they_were(mine, trained, digits):
    assert names(mine.folder) == ["1", "README.md", "card.json", "detector.npz", "model.keras"]
    assert names(mine.folder.parent) == ["mine"]
    again = erkeras.load(mine.folder)
    assert again.card == mine.card == read_card(mine.folder)
    images = digits.test.images[:40]
    np.testing.assert_array_equal(again.model(images), trained.model(images))
    np.testing.assert_array_equal(again.detector.score(images), trained.detector.score(images))
    served = detect_with(mine.folder / "1", images)
    np.testing.assert_allclose(served["adversarial_score"], trained.detector.score(images), atol=1e-5)


def test_its_card_says_what_is_known_and_no_more(mine, trained, digits):
    card = mine.card
    assert (card.name, card.job, card.training, card.evaluation) == ("mine", None, None, None)
    assert card.versions == versions()
    assert card.processor
    assert card.dataset.name == "digits"
    assert card.dataset.image_shape == (8, 8, 1)
    assert card.dataset.class_names == digits.class_names
    assert (card.dataset.train, card.dataset.validation, card.dataset.test) == (1149, 288, 360)
    assert card.detector == DetectorEntry("combined", trained.detector.threshold, 0.05)
    assert {"model.keras", "detector.npz", "1/saved_model.pb"} <= set(card.files)
    assert not {"card.json", "README.md"} & set(card.files)


@pytest.mark.parametrize("features", ["code", "combined"])
def test_each_kind_of_detector_is_one_of_its_card(tiny_model, images, labels, tmp_path, features):
    model = tiny_model()
    detector = erkeras.ERDetector(model, features).fit(images, labels).calibrate(images, 1 - images, 0.25)
    saved = erkeras.save(model, tmp_path / "model", detector=detector)
    assert saved.card.detector == DetectorEntry(features, detector.threshold, 0.25)
    again = erkeras.load(tmp_path / "model")
    assert again.detector.features == features
    np.testing.assert_array_equal(again.detector.score(images), detector.score(images))


def test_a_threshold_of_the_regressions_own_has_no_stated_rate(tiny_model, images, labels, tmp_path):
    model = tiny_model()
    detector = erkeras.ERDetector(model, "code").fit(images, labels).calibrate(images, 1 - images, None)
    saved = erkeras.save(model, tmp_path / "model", detector=detector)
    assert saved.card.detector == DetectorEntry("code", 0.5, None)
    assert erkeras.load(tmp_path / "model").detector.false_positive_rate is None


def test_a_model_without_a_detector_has_none(tiny_model, images, tmp_path):
    model = tiny_model()
    saved = erkeras.save(model, tmp_path / "model")
    assert names(tmp_path / "model") == ["1", "README.md", "card.json", "model.keras"]
    assert saved.detector is saved.card.detector is None
    assert saved.card.dataset.class_names == ("0", "1", "2")
    again = erkeras.load(tmp_path / "model")
    assert again.detector is None
    np.testing.assert_array_equal(again.model(images), model(images))
    signatures = tf.saved_model.load(str(tmp_path / "model" / "1")).signatures
    assert {"serving_default", "logits", "default_bytes", "logits_bytes"} == set(signatures)


def test_any_classifier_of_keras_is_saved(tmp_path):
    model = sequential(6, 5, 3)
    saved = erkeras.save(model, tmp_path / "model", class_names=NAMES)
    assert saved.card.dataset.image_shape == (6, 5, 3)
    assert saved.card.dataset.class_names == NAMES
    assert saved.card.dataset.name is saved.card.dataset.train is None
    images = np.random.default_rng(0).uniform(size=(4, 6, 5, 3)).astype(np.float32)
    again = erkeras.load(tmp_path / "model")
    np.testing.assert_array_equal(again.model(images), model(images))
    served = tf.saved_model.load(str(tmp_path / "model" / "1")).signatures["serving_default"](images=images)
    np.testing.assert_allclose(served["probabilities"], tf.nn.softmax(model(images)), atol=1e-6)
    assert "classes zero, one, two." in (tmp_path / "model" / "README.md").read_text()


def test_names_of_classes_go_before_those_of_the_data_set(trained, digits, tmp_path):
    chosen = tuple("abcdefghij")
    saved = erkeras.save(trained.model, tmp_path / "model", dataset=digits, class_names=list(chosen))
    assert saved.card.dataset.class_names == chosen
    assert read_card(tmp_path / "model").dataset.name == "digits"


def test_a_purified_classifier_is_opened_and_saved_again(purified_model, digits, tmp_path):
    opened = erkeras.load(purified_model)
    assert opened.detector is None
    assert opened.card.purified
    saved = erkeras.save(opened.model, tmp_path / "again", dataset=digits)
    images = digits.test.images[:3]
    np.testing.assert_array_equal(erkeras.load(saved.folder).model(images), opened.model(images))


@pytest.mark.parametrize("count", [0, 2, 4])
def test_another_number_of_names_than_classes_is_refused(tmp_path, count):
    with pytest.raises(InputError, match=rf"there are {count} names of classes and the model has 3: give one each\.$"):
        erkeras.save(sequential(4, 4, 1), tmp_path / "model", class_names=["a"] * count)
    assert names(tmp_path) == []


def test_a_data_set_of_other_classes_is_refused(digits, tmp_path):
    with pytest.raises(InputError, match="there are 10 names of classes and the model has 3"):
        erkeras.save(sequential(8, 8, 1), tmp_path / "model", dataset=digits)
    assert names(tmp_path) == []


@pytest.mark.parametrize("kind", ["folder", "file"])
def test_a_folder_that_exists_is_refused_and_left(tmp_path, kind):
    place = tmp_path / "model"
    place.mkdir() if kind == "folder" else place.write_text("mine")
    with pytest.raises(InputError, match=r"model exists: give another folder, or delete it\.$"):
        erkeras.save(sequential(4, 4, 1), place)
    assert names(tmp_path) == ["model"]
    assert place.is_dir() or place.read_text() == "mine"


def test_the_detector_of_another_model_is_refused(trained, tmp_path):
    other = erkeras.ERClassifier(*build_networks("digits", (8, 8, 1), 16, 10))
    with pytest.raises(InputError, match="was fitted on another model: give the one that was fitted on this model"):
        erkeras.save(other, tmp_path / "model", detector=trained.detector)
    assert names(tmp_path) == []


def test_a_detector_that_is_not_calibrated_is_refused(tiny_model, images, labels, tmp_path):
    model = tiny_model()
    for detector in (erkeras.ERDetector(model), erkeras.ERDetector(model).fit(images, labels)):
        with pytest.raises(InputError, match="the detector is not fitted: call fit and calibrate first"):
            erkeras.save(model, tmp_path / "model", detector=detector)
    assert names(tmp_path) == []


def test_a_detector_that_cannot_be_loaded_is_refused(tiny_model, images, labels, tmp_path):
    model = tiny_model()
    detector = erkeras.KDDetector(model).fit(images, labels).calibrate(images, 1 - images)
    with pytest.raises(InputError):
        erkeras.save(model, tmp_path / "model", detector=detector)


def test_a_model_without_a_fixed_size_of_images_is_refused(tmp_path, digits):
    model = keras.Sequential([keras.Input((None, None, 1)), layers.GlobalAveragePooling2D(), layers.Dense(10)])
    with pytest.raises(
        InputError, match=r"takes images of shape \(None, None, None, 1\): give one of a fixed size, or"
    ):
        erkeras.save(model, tmp_path / "model")
    assert names(tmp_path) == []
    # The data set says which size.
    assert erkeras.save(model, tmp_path / "model", dataset=digits).card.dataset.image_shape == (8, 8, 1)


def test_a_model_of_anything_but_images_is_refused(tmp_path):
    for model in (sequential(4), lambda images: images, keras.Sequential([layers.Dense(3)])):
        with pytest.raises(InputError, match=r"the model takes images of shape .*: give one of a fixed size"):
            erkeras.save(model, tmp_path / "model")
    assert names(tmp_path) == []


def stops(*_, **__):
    raise OSError("no space left on device")


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
@pytest.mark.parametrize("step", ["export_classifier", "write_card"])
def test_interrupted_in_the_middle_there_is_no_folder(tmp_path, monkeypatch, step, error):
    def stop(*_, **__):
        raise error

    owner = {"export_classifier": "erkeras.serving", "write_card": "erkeras.saved.model"}[step]
    with monkeypatch.context() as patch:
        patch.setattr(f"{owner}.{step}", stop)
        with pytest.raises(error):
            erkeras.save(sequential(4, 4, 1), tmp_path / "model")
    assert not (tmp_path / "model").exists()
    assert all(name.startswith(".") for name in names(tmp_path))
    # What is left there is in nobody's way.
    erkeras.save(sequential(4, 4, 1), tmp_path / "model")
    assert names(tmp_path) == ["model"]
    assert erkeras.load(tmp_path / "model").card.name == "model"


def test_interrupted_in_the_middle_nothing_is_left(tmp_path, monkeypatch):
    monkeypatch.setattr("erkeras.serving.export_classifier", stops)
    with pytest.raises(OSError, match="no space left"):
        erkeras.save(sequential(4, 4, 1), tmp_path / "model")
    assert names(tmp_path) == []


def test_a_model_is_saved_into_the_working_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    erkeras.save(sequential(4, 4, 1), "model")
    assert os.listdir() == ["model"]
    assert erkeras.load("model").card.name == "model"


# What the commands make of it.


def test_the_folder_can_be_attacked(mine, tmp_path):
    arguments = ["--dataset", "digits", "--epsilon", "0.1", "--limit", "20", "--json", tmp_path / "out.json"]
    result = run("attack", mine.folder, *arguments)
    assert result.exit_code == 0, result.output
    found = json.loads((tmp_path / "out.json").read_text())
    assert found["images"] == 20
    assert found["robust_accuracy"] <= found["clean_accuracy"]
    assert "on 20 test images of digits, l_inf, epsilon 0.1 " in result.output


def test_attacked_it_needs_an_epsilon_and_no_data_set(mine):
    refused(run("attack", mine.folder, "--limit", "20"), "no epsilon is known for")
    result = run("attack", mine.folder, "--epsilon", "0.1", "--limit", "20", "--attack", "fgsm")
    assert result.exit_code == 0, result.output


def test_its_card_takes_the_figures_of_an_attack(mine, tmp_path):
    folder = shutil.copytree(mine.folder, tmp_path / "copy")
    result = run("attack", folder, "--epsilon", "0.1", "--limit", "20", "--attack", "fgsm", "--card")
    assert result.exit_code == 0, result.output
    (entry,) = read_card(folder).evaluations
    assert entry.title == "fgsm l_inf 0.1 test"
    assert run("verify", folder / entry.record).exit_code == 0


def test_its_detector_detects(mine, trained, digits, tmp_path):
    images = digits.test.images[:10]
    np.savez(tmp_path / "images.npz", images=images)
    result = run("detect", mine.folder, tmp_path / "images.npz", "--json", "-")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    np.testing.assert_allclose([row["score"] for row in found["images"]], trained.detector.score(images), atol=1e-5)
    assert found["threshold"] == trained.detector.threshold


def test_its_detectors_are_compared(mine, tmp_path):
    arguments = ["--attack", "fgsm", "--epsilon", "0.15", "--json", tmp_path / "out.json"]
    result = run("detectors", mine.folder, "--detector", "er1", *arguments)
    assert result.exit_code == 0, result.output
    cells = json.loads((tmp_path / "out.json").read_text())["cells"]
    assert [(cell["detector"], cell["model"], cell["positives"]) for cell in cells] == [
        ("er1", "mine", "all"),
        ("er1", "mine", "successful"),
    ]
    refused(run("detectors", mine.folder, *arguments[:4]), "does not say how it was trained: give --detector")


def test_another_version_is_exported(mine, trained, digits, tmp_path):
    folder = shutil.copytree(mine.folder, tmp_path / "copy")
    result = run("export", folder)
    assert result.exit_code == 0, result.output
    assert newest_version(folder) == 2
    images = digits.test.images[:10]
    served = detect_with(folder / "2", images)
    np.testing.assert_allclose(served["adversarial_score"], trained.detector.score(images), atol=1e-5)
