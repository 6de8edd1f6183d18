import numpy as np
import pytest
import tensorflow as tf
from helpers.closed_forms import (
    bent_model,
    images_at,
    linear_model,
    nearest_distances,
    points_of,
    uniform,
)

from erkeras.attacks import CarliniWagner, Victim
from erkeras.errors import InputError
from erkeras.threat import ThreatModel

L2 = ThreatModel("l2", 0.3)
QUICK = {"iterations": 60, "learning_rate": 0.1}


@pytest.mark.parametrize("shape", [(1, 8, 8, 1), (3, 5, 7, 3), (8, 3, 1, 2)])
@pytest.mark.parametrize("make_model", [linear_model, bent_model])
def test_finds_the_nearest_adversarial_image(shape, make_model):
    """Of two classes: of more, it goes for the one of the highest logit, not the nearest. Pixels leave the bounds."""
    matrix = np.random.default_rng(1).normal(size=(np.prod(shape[1:]), 2))
    model = make_model(matrix)
    images, labels = points_of(model, shape)
    optimum = nearest_distances(images, labels, matrix, "l2")
    assert np.all(np.isfinite(optimum))
    result = CarliniWagner(L2, iterations=200, learning_rate=0.02)(model, images, labels, internal_batch=len(images))
    np.testing.assert_array_equal(result.clean_predictions, labels)
    assert np.all(result.predictions != labels)
    assert result.images.min() >= 0
    assert result.images.max() <= 1
    ratio = result.distance / optimum
    assert ratio.min() > 1 - 1e-4
    assert ratio.max() < 1.05
    np.testing.assert_array_equal(result.success, result.distance <= 0.3)


def test_succeeds_exactly_where_an_adversarial_image_exists():
    matrix = np.random.default_rng(5).normal(size=(12, 2))
    attack = CarliniWagner(ThreatModel("l2", 0.3, -1.0, 2.0), iterations=200, learning_rate=0.02)
    victim = Victim(bent_model(matrix))
    for ratio, possible in ((0.99, True), (1.01, False)):
        images, labels = images_at(ratio * 0.3, 12, matrix, "l2")
        result = attack(victim, images, labels, internal_batch=12)
        np.testing.assert_array_equal(result.clean_predictions, labels)
        np.testing.assert_array_equal(result.success, possible)


@pytest.mark.parametrize("confidence", [0.5, 2.0])
def test_confidence_holds_and_costs_what_it_must(confidence):
    matrix = np.random.default_rng(2).normal(size=(12, 2))
    model = linear_model(matrix)
    images, labels = points_of(model, (6, 3, 4, 1))
    attack = CarliniWagner(L2, confidence, iterations=200, learning_rate=0.02)
    result = attack(model, images, labels, internal_batch=6)
    logits = model(result.images).numpy()
    rows = np.arange(6)
    own = logits[rows, labels].copy()
    logits[rows, labels] = -np.inf
    assert np.all(logits.max(axis=1) - own > confidence)
    ratio = result.distance / nearest_distances(images, labels, matrix, "l2", lead=confidence)
    assert ratio.min() > 1 - 1e-4
    assert ratio.max() < 1.05


def test_pixels_at_the_bounds_move_both_ways():
    """The only way to the other class leads from 0 up and from 1 down."""
    matrix = np.array([[0.0, 1], [1, 0], [0, 0], [0, 0]])
    images = np.array([0, 1, 0, 1], np.float32).reshape(1, 2, 2, 1)
    result = CarliniWagner(ThreatModel("l2", 1.0), **QUICK)(linear_model(matrix), images, [0], internal_batch=1)
    np.testing.assert_allclose(result.images.ravel(), [0.5, 0.5, 0, 1], atol=0.02)


def test_early_abort_changes_no_success_and_saves_passes(network, points):
    images, labels = points
    with_abort, without = (
        CarliniWagner(L2, abort_early=abort_early, **QUICK)(network, images, labels) for abort_early in (True, False)
    )
    clean = labels == without.clean_predictions
    np.testing.assert_array_equal(with_abort.predictions != labels, without.predictions != labels)
    np.testing.assert_array_equal(with_abort.success, without.success)
    assert 5 < with_abort.success[clean].sum() < clean.sum()
    np.testing.assert_array_equal(without.queries[clean], 1 + 9 * 60)
    assert np.mean(with_abort.queries[clean]) < 0.9 * 9 * 60
    assert len(set(with_abort.queries[clean])) > 5  # each image in its own time


def test_each_image_has_its_own_constant():
    """Two halves with logits on scales that ask for constants a thousand times apart."""
    matrix = np.random.default_rng(3).normal(size=(12, 2))
    linear = linear_model(matrix)

    def model(images):
        return linear(images) * tf.where(images[:, 0, 0] > 0.5, 100.0, 0.1)

    images = points_of(linear, (8, 3, 4, 1))[0]
    images[:, 0, 0, 0] = np.arange(8) % 2
    labels = linear(images).numpy().argmax(axis=1)
    optimum = nearest_distances(images, labels, matrix, "l2")
    result = CarliniWagner(L2, iterations=200, learning_rate=0.02)(model, images, labels, internal_batch=8)
    assert np.all(result.predictions != labels)
    assert np.max(result.distance / optimum) < 1.05


def test_no_gradient_gives_the_image_itself():
    def model(images):
        return tf.constant([[1.0, 0, 0.5]]) + 0 * tf.reduce_sum(images, axis=[1, 2, 3], keepdims=True)[:, 0, 0]

    images = uniform((2, 2, 2, 1)).round()
    result = CarliniWagner(iterations=3)(model, images, np.array([0, 0]), internal_batch=2)
    np.testing.assert_array_equal(result.images, images)
    assert not result.success.any()


@pytest.mark.parametrize(
    ("settings", "given"),
    [({"threat": ThreatModel("l_inf", 0.3)}, "l_inf"), ({"iterations": 0}, "iterations is 0"),
     ({"binary_search_steps": 0}, "binary_search_steps is 0"), ({"learning_rate": 0.0}, "learning_rate is 0.0"),
     ({"initial_constant": -1.0}, "initial_constant is -1.0"), ({"confidence": float("nan")}, "confidence is nan")],
)  # fmt: skip
def test_impossible_settings_are_refused(settings, given):
    with pytest.raises(InputError, match=given):
        CarliniWagner(**settings)
