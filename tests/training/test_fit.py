import dataclasses

import keras
import numpy as np
import pytest
from keras import layers

from erkeras.data import load_dataset, training_batches
from erkeras.models import Checkpoint, refresh_statistics
from erkeras.progress import Progress
from erkeras.training import build_model, fit_model
from helpers.training_state import OPTIMIZERS


class StopAfter(Progress):
    def __init__(self, steps):
        self.left = steps

    def advance(self, units, note=""):
        self.left -= units if note else 0  # what was done before has no figure
        if not self.left:
            raise KeyboardInterrupt


def test_an_epoch_is_gone_on_with(tmp_path, tiny_job):
    """Its averaged weights and the best epoch's are those of a training that nothing interrupted."""
    recipe = dataclasses.replace(tiny_job.recipe, averaging=0.9, keep_best=True, batch_size=200, steps=2)
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


def test_what_is_trained_in_mixed_precision_computes_in_float32(tmp_path, tiny_job):
    """With the weights and the optimizers' states of its training, which a checkpoint has too."""
    recipe = dataclasses.replace(
        tiny_job.recipe,
        mixed_precision=True,
        optimizer="sgd",
        learning_rate=0.1,
        weight_decay=1e-3,
        averaging=0.9,
        steps=2,
    )
    job, dataset = dataclasses.replace(tiny_job, recipe=recipe), load_dataset("digits")
    checkpoint = Checkpoint(tmp_path / "checkpoint")
    model = fit_model(job, dataset, checkpoint)
    assert {layer.dtype_policy.name for layer in model.encoder.layers + model.classifier.layers} == {"float32"}
    assert keras.config.dtype_policy().name == "float32"
    mixed = build_model(recipe, dataset.image_shape, dataset.classes, 17, seed=9)
    checkpoint.restore(mixed)
    for name in OPTIMIZERS:
        for one, other in zip(getattr(model, name).variables, getattr(mixed, name).variables, strict=True):
            np.testing.assert_array_equal(one, other, err_msg=one.path)
    mixed.optimizer.finalize_variable_values(mixed.trainable_weights)
    for one, other in zip(model.variables, mixed.variables, strict=True):
        np.testing.assert_array_equal(one, other, err_msg=one.path)
    images = dataset.test.images[:50]
    rounded, exact = mixed(images).numpy(), model(images).numpy()
    np.testing.assert_allclose(rounded, exact, atol=0.1)
    assert not np.array_equal(rounded, exact)
    assert checkpoint.history[-1]["clean_accuracy"] > 0.2


def with_statistics(image_shape, code_size):
    return keras.Sequential(
        [
            keras.Input(image_shape),
            layers.Conv2D(4, 3, strides=2),
            layers.BatchNormalization(),
            layers.ReLU(),
            layers.Flatten(),
            layers.BatchNormalization(),
            layers.Dense(code_size),
        ]
    )


def test_statistics_are_taken_anew_for_averaged_weights(tmp_path, tiny_job, heard):
    changes = {"network": f"{__name__}:with_statistics", "averaging": 0.9, "epochs": 1, "steps": 1, "batch_size": 200}
    recipe = dataclasses.replace(tiny_job.recipe, **changes)
    job, dataset = dataclasses.replace(tiny_job, recipe=recipe), load_dataset("digits")
    checkpoint = Checkpoint(tmp_path / "checkpoint")
    model = fit_model(job, dataset, checkpoint, heard)
    assert heard.stages == [("training", 5)]
    assert sum(heard.units) == 5
    other = build_model(recipe, dataset.image_shape, dataset.classes, 5, job.seed)
    checkpoint.restore(other)
    other.optimizer.finalize_variable_values(other.trainable_weights)
    before = [variable.numpy() for variable in other.non_trainable_variables]
    refresh_statistics(other, training_batches(dataset.train, 200, job.seed, 1, recipe.augment).take(40), 5)
    for one, two in zip(model.variables, other.variables, strict=True):
        np.testing.assert_array_equal(one, two, err_msg=one.path)
    moved = [not np.array_equal(*pair) for pair in zip(before, other.non_trainable_variables, strict=True)]
    assert sum(moved) >= 4  # mean and variance of two normalisations
