"""Who is evaluated: found without TensorFlow, loaded as attacks take it."""

import importlib
import json
import shutil
import subprocess
import sys

import keras
import numpy as np
import pytest
from keras import layers

from erkeras.attacks import AttackSettings
from erkeras.data import load_dataset
from erkeras.errors import InputError
from erkeras.evaluation import Subject
from erkeras.saved import find_model, fingerprint, read_card

SHAPE = (8, 8, 1)


@pytest.fixture(scope="module")
def images():
    return load_dataset("digits").test.images[:12]


def test_a_folder_of_ours_has_a_card(saved_model):
    for model in (saved_model, str(saved_model)):
        subject = Subject.find(model, ["json"])
        assert (subject.kind, subject.name, subject.short_name) == ("keras", str(saved_model), "digits")
        assert (subject.path, subject.file) == (saved_model, saved_model / "model.keras")
        assert subject.card == read_card(saved_model)
        assert subject.modules == ("json",)


@pytest.mark.parametrize(("place", "kind"), [("model.keras", "keras"), ("1", "saved_model")])
def test_other_models_have_none(saved_model, place, kind):
    subject = Subject.find(saved_model / place)
    assert (subject.kind, subject.path, subject.file) == (kind, saved_model / place, saved_model / place)
    assert subject.card is None
    assert subject.short_name == place


def test_a_model_in_memory_is_itself():
    model = object()
    subject = Subject.find(model)
    assert (subject.kind, subject.name, subject.short_name) == ("object", "model", "model")
    assert subject.path is subject.file is subject.card is subject.digest is None
    assert subject.load() is model
    assert subject.load(with_detector=True) is model


def test_a_subject_is_found_already(saved_model):
    subject = Subject.find(saved_model)
    assert Subject.find(subject) is subject


def test_its_digest_is_that_of_the_file_that_is_loaded(saved_model, tmp_path):
    copy = shutil.copytree(saved_model, tmp_path / "copy")
    for place in ("", "model.keras", "1"):
        assert Subject.find(copy / place).digest == Subject.find(saved_model / place).digest
    assert Subject.find(saved_model).digest == fingerprint(saved_model / "model.keras")
    assert Subject.find(saved_model / "1").digest == fingerprint(saved_model / "1")
    (copy / "1" / "more").write_text("more")
    assert Subject.find(copy / "1").digest != Subject.find(saved_model / "1").digest


def test_what_is_not_there_is_refused_as_find_model_refuses_it(tmp_path):
    for path in (tmp_path, tmp_path / "missing", tmp_path / "missing.keras"):
        with pytest.raises(InputError) as expected:
            find_model(path)
        with pytest.raises(InputError) as caught:
            Subject.find(path)
        assert str(caught.value) == str(expected.value)


def test_every_form_is_loaded(saved_model, images):
    expected = Subject.find(saved_model).load()(images)
    np.testing.assert_array_equal(Subject.find(saved_model / "model.keras").load()(images), expected)
    served = Subject.find(saved_model / "1").load().signatures["logits"](images=images)["logits"]
    np.testing.assert_allclose(served, expected, atol=1e-5)


def test_with_its_detector_it_gives_both(saved_model, images):
    outputs = Subject.find(saved_model).load(with_detector=True)(images)
    assert outputs.shape == (12, 20)
    np.testing.assert_allclose(outputs[:, :10], Subject.find(saved_model).load()(images), atol=1e-5)


def test_without_a_detector_none_is_loaded(saved_model, purified_model):
    for model in (saved_model / "1", saved_model / "model.keras", purified_model):
        subject = Subject.find(model)
        with pytest.raises(InputError, match=r"the detector of .* was asked for, and it has none: leave it out\.$"):
            subject.load(with_detector=True)
        with pytest.raises(InputError, match="was asked for, and it has none"):
            subject.check(True, SHAPE, "digits")


def test_images_of_another_size_are_refused_where_the_size_is_known(saved_model):
    subject = Subject.find(saved_model)
    subject.check(True, list(SHAPE), "digits")
    message = r"^mnist has images of 28 x 28 x 1 and .*digits takes 8 x 8 x 1: give images of its size\.$"
    with pytest.raises(InputError, match=message):
        subject.check(False, (28, 28, 1), "mnist")
    Subject.find(saved_model / "model.keras").check(False, (28, 28, 1), "mnist")


def test_modules_are_imported_before_the_model_is_loaded(tmp_path, monkeypatch):
    (tmp_path / "doubling.py").write_text(
        "import keras\n"
        "@keras.saving.register_keras_serializable('mine')\n"
        "class Doubling(keras.layers.Layer):\n"
        "    def call(self, inputs):\n"
        "        return 2 * inputs\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    made = importlib.import_module("doubling").Doubling
    keras.Sequential([keras.Input((4, 4, 1)), made(), layers.Flatten()]).save(tmp_path / "own.keras")
    # As in a process that has yet to hear of it.
    del sys.modules["doubling"], keras.saving.get_custom_objects()["mine>Doubling"]
    with pytest.raises(InputError, match="is made of Doubling, which is not registered: --import the module"):
        Subject.find(tmp_path / "own.keras").load()
    model = Subject.find(tmp_path / "own.keras", ["doubling"]).load()
    assert type(model.layers[0]) is not made
    np.testing.assert_array_equal(model(np.ones((1, 4, 4, 1), np.float32)), np.full((1, 16), 2))


@pytest.mark.parametrize(
    ("attacks", "knowledge"),
    [(("square",), "logits"), (("rays",), "labels"), (("rays", "square"), "logits"), (("rays", "rays"), "labels")],
)
def test_a_served_model_is_asked_for_no_more_than_the_attacks_need(attacks, knowledge):
    subject = Subject.served("grpc://localhost:1/digits", AttackSettings(attacks))
    assert (subject.kind, subject.name, subject.short_name) == ("served", "grpc://localhost:1/digits", "digits")
    assert subject.knowledge == knowledge
    assert subject.digest is None
    subject.check(False, SHAPE, "digits")


def test_a_served_model_gives_no_gradients():
    message = (
        "fgsm was asked for against grpc://localhost:1/digits, and a server gives no gradients: give one of square"
    )
    with pytest.raises(InputError, match=message):
        Subject.served("grpc://localhost:1/digits", AttackSettings(("square", "fgsm")))
    with pytest.raises(InputError, match="'localhost:1' is not the address of a served model"):
        Subject.served("localhost:1", AttackSettings(("square",)))


def test_it_is_found_without_tensorflow(tmp_path):
    keras.Sequential([keras.Input((4, 4, 1)), layers.Flatten()]).save(tmp_path / "model.keras")
    program = (
        "import sys, json\n"
        "sys.modules['tensorflow'] = sys.modules['keras'] = None  # importing them fails\n"
        "from erkeras.evaluation import Subject\n"
        "print(json.dumps(Subject.find('model.keras').digest))"
    )
    found = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert json.loads(found.stdout) == fingerprint(tmp_path / "model.keras"), found.stderr
