"""The digest of a network's layers, and the training that notices by it."""

import json
import sys
import types

import keras
import pytest
from keras import layers

from erkeras.errors import InputError
from erkeras.models.networks import build_preact_resnet_encoder
from erkeras.recipes import Job, Recipe
from erkeras.training import check_output, train, training_folder
from erkeras.training.architecture import architecture_digest
from helpers.interruptions import Interrupt


def chain(units=4, activation="relu", rate=0.3, name=None):
    return keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            layers.Dropout(rate),
            layers.Conv2D(3, 3, activation=activation, name=name),
            layers.Flatten(),
            layers.Dense(units),
        ]
    )


def difference(swapped=False):
    inputs = keras.Input((4,))
    first, second = layers.Dense(4)(inputs), layers.Dense(4, activation="relu")(inputs)
    return keras.Model(inputs, layers.Subtract()([second, first] if swapped else [first, second]))


class Silent(keras.Model):
    """Has no configuration."""

    def __init__(self, units):
        super().__init__()
        self.dense = layers.Dense(units)

    def call(self, inputs):
        return self.dense(inputs)


def silent(units=3):
    model = Silent(units)
    model(keras.ops.zeros((1, 4)))
    return model


def residual():
    return build_preact_resnet_encoder((32, 32, 3), 4, 10, 2)


@pytest.mark.parametrize("build", [chain, difference, silent, residual])
def test_what_one_function_makes_has_one_digest(build):
    """Whatever numbers Keras gives the layers, and whatever their weights are."""
    assert architecture_digest(build()) == architecture_digest(build())


@pytest.mark.parametrize(
    ("build", "changes"),
    [
        (chain, {"units": 5}),
        (chain, {"activation": "tanh"}),
        (chain, {"rate": 0.2}),
        (difference, {"swapped": True}),
        (silent, {"units": 4}),
    ],
    ids=lambda value: getattr(value, "__name__", str(value)),
)
def test_other_layers_or_connections_have_another(build, changes):
    assert architecture_digest(build()) != architecture_digest(build(**changes))


def test_names_do_not_count_and_precision_and_order_do():
    assert architecture_digest(chain(name="mine")) == architecture_digest(chain())
    plain = architecture_digest(chain(), difference())
    assert architecture_digest(difference(), chain()) != plain
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        rounded = architecture_digest(chain(), difference())
    finally:
        keras.config.set_dtype_policy("float32")
    assert rounded != plain


@pytest.fixture
def job(monkeypatch):
    """Gives the same job again and again, whose function makes a network of so many units."""
    module = types.ModuleType("changing_networks_of_test")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    recipe = Recipe(f"{module.__name__}:build", 16, 2, 64, 0.1, steps=1, critic_units=(4,))

    def with_units(units):
        module.build = lambda image_shape, code_size: keras.Sequential(
            [keras.Input(image_shape), layers.Flatten(), layers.Dense(units), layers.Dense(code_size)]
        )
        return Job("digits", recipe, limit=20, restarts=1, deterministic=False)

    return with_units


def test_a_function_that_makes_another_network_is_noticed(tmp_path, job):
    output = tmp_path / "model"
    with pytest.raises(KeyboardInterrupt):
        train(job(8), output, progress=Interrupt(after=20))
    asked = (training_folder(output) / "job.json").read_bytes()
    message = r"^the network 'changing_networks_of_test:build' has other layers than the one of the unfinished"
    with pytest.raises(InputError, match=message):
        train(job(9), output, resume=True)
    assert (training_folder(output) / "job.json").read_bytes() == asked
    assert train(job(8), output, resume=True).training.code_size == 16
    assert not training_folder(output).exists()


def test_an_older_job_goes_on(tmp_path, job):
    """One without a digest, and without settings that have come since."""
    output = tmp_path / "model"
    with pytest.raises(KeyboardInterrupt):
        train(job(8), output, progress=Interrupt(after=20))
    place = training_folder(output) / "job.json"
    asked = json.loads(place.read_text())
    assert asked.pop("architecture")
    assert (asked["recipe"].pop("label_smoothing"), asked["recipe"].pop("cutout")) == (0.0, 0.0)
    place.write_text(json.dumps(asked))
    assert check_output(output, job(8), resume=True) is False
    assert train(job(8), output, resume=True).name == "model"
