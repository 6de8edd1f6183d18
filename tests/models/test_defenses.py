"""Every row of the paper trains, saves, loads, goes on and exports; what tells them apart is what it says."""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf

from erkeras.attacks import PGD, DivergencePGD
from erkeras.errors import InputError
from erkeras.models import TRADES, Checkpoint, CrossEntropy, WassersteinCritic
from erkeras.models.layers import GaussianCode, NoiseLayer
from erkeras.recipes import DEFENSES, TITLES, find_recipe
from erkeras.training import build_model

SHAPE = (8, 8, 1)
#: row: regularizer, adversary, objective.
PARTS = {
    "er-classifier": (WassersteinCritic, PGD, CrossEntropy),
    "er-classifier-minus": (WassersteinCritic, None, CrossEntropy),
    "er-trades": (WassersteinCritic, DivergencePGD, TRADES),
    "madry": (None, PGD, CrossEntropy),
    "trades": (None, DivergencePGD, TRADES),
    "e-cla": (None, None, CrossEntropy),
    "vae-cla": (None, None, CrossEntropy),
    "rse": (None, None, CrossEntropy),
    "none": (None, None, CrossEntropy),
    "defense-gan": (None, None, CrossEntropy),
}


def recipe(defense):
    row = find_recipe("default", "digits", SHAPE, defense)
    return dataclasses.replace(row, epochs=2, batch_size=16, steps=2, critic_units=(8,), epsilon_warm_up=0.0)


def build(defense, seed=0):
    return build_model(recipe(defense), SHAPE, 10, 2, seed)


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    return rng.uniform(size=(32, *SHAPE)).astype(np.float32), rng.integers(0, 10, 32)


def fit(model, data, epochs, initial_epoch=0, checkpoint=None):
    callbacks = [checkpoint] if checkpoint else None
    model.fit(
        *data,
        batch_size=16,
        epochs=epochs,
        initial_epoch=initial_epoch,
        shuffle=False,
        verbose=0,
        callbacks=callbacks,
    )


def test_every_row_is_here():
    assert set(PARTS) == set(DEFENSES) == set(TITLES)


@pytest.mark.parametrize("defense", PARTS)
def test_row_is_composed_as_the_paper_says(defense):
    model = build(defense)
    found = [type(part) if part is not None else None for part in (model.regularizer, model.adversary)]
    assert (*found, type(model.objective)) == PARTS[defense]
    code = model.encoder.layers[-1]
    assert isinstance(code, GaussianCode) == (defense == "vae-cla")
    noise = [layer.standard_deviation for layer in model.encoder.layers if isinstance(layer, NoiseLayer)]
    assert (noise, model.passes) == (([0.4, 0.2], 50) if defense == "rse" else ([], 1))
    if defense in ("none", "defense-gan"):  # straight from the last hidden layer to the logits
        assert code.activation is keras.activations.relu
        assert [layer.units for layer in model.classifier.layers] == [10]
    else:
        assert model.encoder.output_shape == (None, 16)
        assert len(model.classifier.layers) == 2


@pytest.mark.parametrize("defense", PARTS)
def test_row_trains_saves_loads_goes_on_and_exports(defense, data, tmp_path):
    straight = build(defense)
    before = [weight.copy() for weight in straight.get_weights()]
    fit(straight, data, 1, checkpoint=Checkpoint(tmp_path / "checkpoint"))
    fit(straight, data, 2, initial_epoch=1)
    assert all(np.all(np.isfinite(weight)) for weight in straight.get_weights())
    assert any(not np.array_equal(*pair) for pair in zip(before, straight.get_weights(), strict=True))

    resumed = build(defense, seed=1)
    resumed.seed = 0  # of training's draws; all else comes from the checkpoint
    epoch = Checkpoint(tmp_path / "checkpoint").restore(resumed)
    fit(resumed, data, 2, initial_epoch=epoch)
    for one, other in zip(straight.get_weights(), resumed.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)

    straight.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    images = data[0]
    np.testing.assert_array_equal(straight(images), loaded(images))
    archive = keras.export.ExportArchive()
    archive.track(loaded)
    archive.add_endpoint("serve", loaded.call, [tf.TensorSpec((None, *SHAPE))])
    archive.write_out(str(tmp_path / "saved_model"), verbose=False)
    served = tf.saved_model.load(str(tmp_path / "saved_model"))
    np.testing.assert_allclose(served.serve(images), straight(images), atol=1e-5)


def test_unknown_defense_is_refused():
    with pytest.raises(InputError, match=r"'gan'.*er-classifier, "):
        find_recipe("default", "digits", SHAPE, "gan")
