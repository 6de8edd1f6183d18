"""A model of one layer, so that a worker that loads it costs no more than TensorFlow."""

import keras
import pytest

LAYER = """
import keras

@keras.saving.register_keras_serializable("test")
class Halved(keras.layers.Layer):
    def call(self, inputs):
        return inputs / 2
"""


@pytest.fixture(scope="session")
def linear(tmp_path_factory):
    """The file of a linear model of digits, with a layer of the user's own, and the folder of the layer's module."""
    folder = tmp_path_factory.mktemp("linear")
    (folder / "halved_of_test.py").write_text(LAYER)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.syspath_prepend(folder)
        from halved_of_test import Halved

        keras.utils.set_random_seed(3)
        model = keras.Sequential([keras.Input((8, 8, 1)), Halved(), keras.layers.Flatten(), keras.layers.Dense(10)])
        model.save(folder / "linear.keras")
    return folder


@pytest.fixture
def at_home(linear, monkeypatch):
    monkeypatch.chdir(linear)
    monkeypatch.syspath_prepend(linear)
    return linear
