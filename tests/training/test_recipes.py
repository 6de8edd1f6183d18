"""Recipes of the table become models that train."""

import dataclasses

import numpy as np
import pytest

from erkeras.data import Split, training_batches
from erkeras.models.layers import GaussianCode, NoiseLayer
from erkeras.recipes import find_recipe
from erkeras.training import build_model

SETS = {
    "digits": (8, 8, 1),
    "mnist": (28, 28, 1),
    "cifar10": (32, 32, 3),
    "stl10": (96, 96, 3),
    "tiny_imagenet:somewhere:10": (64, 64, 3),
}


@pytest.mark.parametrize(
    ("name", "dataset"),
    [("default", dataset) for dataset in SETS]
    + [("paper", dataset) for dataset in SETS if dataset not in ("digits", "stl10")]
    + [pytest.param("paper", "stl10", marks=pytest.mark.slow)]
    + [("strong", "cifar10")],
)
def test_recipes_of_every_set_train_a_step(name, dataset):
    """On two images, and with two steps of PGD, so that the paper's networks take seconds."""
    shape = SETS[dataset]
    recipe = dataclasses.replace(find_recipe(name, dataset, shape), batch_size=2, steps=2, epsilon_warm_up=0.0)
    classes = 200 if dataset.startswith("tiny_imagenet") else 10
    pixels = np.random.RandomState(0).randint(0, 256, (2, *shape)).astype(np.uint8)
    split = Split(pixels, np.array([1, classes - 1], np.int32), np.arange(2))
    model = build_model(recipe, shape, classes, 1, seed=0)
    model.run_eagerly = name != "default" or max(shape) > 32  # to trace the deep ones takes longer than their step
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


@pytest.mark.parametrize(("defense", "kind"), [("none", None), ("rse", NoiseLayer), ("vae-cla", GaussianCode)])
def test_rows_that_change_a_network_take_a_residual_one(defense, kind):
    recipe = dataclasses.replace(find_recipe("default", "cifar10", SETS["cifar10"], defense), network="preact-resnet18")
    model = build_model(recipe, SETS["cifar10"], 10, 1, seed=0)
    layers = model.encoder.layers
    assert kind is None or any(isinstance(layer, kind) for layer in layers)
    assert model.encoder.output_shape == (None, 512 if defense == "none" else recipe.code_size)
    logits = model.classifier(model.encoder(np.full((2, *SETS["cifar10"]), 0.5, np.float32)))  # one pass of RSE's 50
    assert logits.shape == (2, 10)
    assert np.isfinite(logits).all()


@pytest.mark.parametrize("defense", ["madry", "trades", "er-trades"])
def test_the_strong_recipe_trains_other_rows(defense):
    """A step of each, by SGD and in mixed precision, with smoothed labels and Cutout."""
    shape, changes = SETS["cifar10"], {"network": "colour", "batch_size": 4, "label_smoothing": 0.1, "cutout": 0.5}
    recipe = dataclasses.replace(find_recipe("strong", "cifar10", shape, defense), **changes)
    assert (recipe.objective == "trades", recipe.coefficient > 0) == ("trades" in defense, defense == "er-trades")
    pixels = np.random.RandomState(0).randint(0, 256, (4, *shape)).astype(np.uint8)
    split = Split(pixels, np.arange(4, dtype=np.int32), np.arange(4))
    model = build_model(recipe, shape, 10, 1, seed=0)
    batches = training_batches(split, 4, 0, augment=recipe.augment, cutout=recipe.cutout)
    logs = model.fit(batches, steps_per_epoch=1, shuffle=False, verbose=0).history
    assert {"loss", "clean_accuracy", "adversarial_accuracy"} <= set(logs)
    assert np.isfinite([values[-1] for values in logs.values()]).all()
