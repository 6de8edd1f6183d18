"""Models from their files."""

import json
import zipfile

import keras
import numpy as np
import pytest
from keras import layers

from erkeras.data import load_dataset
from erkeras.errors import InputError
from erkeras.saved import import_modules, load_model


def rewritten(source, path, config):
    """A .keras file with another configuration."""
    with zipfile.ZipFile(source) as whole, zipfile.ZipFile(path, "w") as archive:
        for name in whole.namelist():
            archive.writestr(name, json.dumps(config) if name == "config.json" else whole.read(name))
    return path


def test_both_forms_of_a_model_give_the_same_logits(saved_model):
    images = load_dataset("digits").test.images[:20]
    of_keras = load_model("keras", saved_model / "model.keras")
    of_tensorflow = load_model("saved_model", saved_model / "1")
    served = of_tensorflow.signatures["logits"](images=keras.ops.convert_to_tensor(images))["logits"]
    np.testing.assert_allclose(of_keras(images), served, atol=1e-5)


def test_a_keras_model_comes_uncompiled(saved_model):
    """To train on it one compiles it; to attack it nobody pays for optimizers."""
    assert not load_model("keras", saved_model / "model.keras").compiled


def test_a_class_that_is_not_registered_is_named_with_what_to_do(tmp_path):
    class Own(keras.layers.Layer):
        def call(self, inputs):
            return inputs

    keras.Sequential([keras.Input((4, 4, 1)), Own(), layers.Flatten()]).save(tmp_path / "own.keras")
    with pytest.raises(InputError, match=r"own\.keras is made of Own, which is not registered: --import the module"):
        load_model("keras", tmp_path / "own.keras")
    with keras.saving.custom_object_scope({"Own": Own}):
        assert load_model("keras", tmp_path / "own.keras").output_shape == (None, 16)


@pytest.mark.parametrize("config", [{"class_name": "Nothing"}, {}, [], None, "model", {"module": 3, "class_name": 4}])
def test_a_keras_file_that_is_no_model_is_refused(saved_model, tmp_path, config):
    path = rewritten(saved_model / "model.keras", tmp_path / "odd.keras", config)
    with pytest.raises(InputError, match=r"odd\.keras cannot be loaded \(.{1,200}\): give a model that this Keras can"):
        load_model("keras", path)


def test_weights_of_another_network_are_refused(saved_model, tmp_path):
    other = keras.Sequential([keras.Input((4, 4, 1)), layers.Flatten(), layers.Dense(3)])
    other.save(tmp_path / "other.keras")
    with zipfile.ZipFile(tmp_path / "other.keras") as archive:
        config = json.loads(archive.read("config.json"))
    path = rewritten(saved_model / "model.keras", tmp_path / "mixed.keras", config)
    with pytest.raises(InputError, match=r"mixed\.keras cannot be loaded"):
        load_model("keras", path)


def test_a_savedmodel_that_is_damaged_is_refused(tmp_path):
    (tmp_path / "saved_model.pb").write_bytes(b"\x08\xff nonsense")
    for folder in (tmp_path, tmp_path / "missing"):
        with pytest.raises(InputError, match=r"cannot be loaded \(") as caught:
            load_model("saved_model", folder)
        assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("content", "reason"),
    [("1 / 0", "ZeroDivisionError: division by zero"), ("import absent_module", "ModuleNotFoundError: No module"),
     ("def f(:", "SyntaxError"), ("raise ValueError('first\\nsecond')", r"ValueError: first\)")],
)  # fmt: skip
def test_a_module_that_cannot_be_imported_is_refused_in_one_sentence(tmp_path, monkeypatch, content, reason):
    (tmp_path / "broken_module.py").write_text(content)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(InputError, match=rf"the module 'broken_module' cannot be imported \(.*{reason}") as caught:
        import_modules(["json", "broken_module"])
    assert "\n" not in str(caught.value)
