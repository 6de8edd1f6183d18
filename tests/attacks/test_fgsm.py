import numpy as np
import pytest
import tensorflow as tf

from erkeras.attacks import FGSM
from erkeras.threat import ThreatModel

MATRIX = np.random.default_rng(0).normal(size=(30, 3))


def model(images):
    return tf.reshape(images, [-1, 30]) @ tf.constant(MATRIX, images.dtype)


@pytest.fixture
def points():
    random = np.random.default_rng(1)
    images = random.uniform(size=(9, 2, 5, 3))
    images[::2] = images[::2].round()
    return images.astype(np.float32), random.integers(3, size=9).astype(np.int32)


def gradient(images, labels):
    """Of the odds against the label at the temperature of `losses.cross_entropy`, for the linear model, by hand."""
    logits = images.reshape(-1, 30).astype(np.float64) @ MATRIX
    own = np.eye(3)[labels]
    exponentials = np.exp(5 * logits / logits.std(axis=1, keepdims=True)) * (1 - own)
    others = exponentials / exponentials.sum(axis=1, keepdims=True)
    return ((others - own) @ MATRIX.T).reshape(images.shape)


def expected(images, labels, norm, epsilon):
    direction = gradient(images, labels)
    if norm == "l_inf":
        direction = np.sign(direction)
    else:
        direction /= np.sqrt((direction**2).sum(axis=(1, 2, 3), keepdims=True))
    return np.clip(images + epsilon * direction, 0, 1)


@pytest.mark.parametrize("norm", ["l_inf", "l2"])
@pytest.mark.parametrize("scale", [1.0, 0.25, 0.0])
def test_is_one_step_along_the_gradient(points, norm, scale):
    images, labels = points
    found = FGSM(ThreatModel(norm, 0.3)).perturb(
        model, tf.constant(images), tf.constant(labels), tf.constant([0, 0]), scale
    )
    np.testing.assert_allclose(found, expected(images, labels, norm, scale * 0.3), atol=1e-5)


@pytest.mark.parametrize("norm", ["l_inf", "l2"])
def test_evaluation_returns_the_step_of_every_image_that_stood(points, norm):
    images, _ = points
    labels = model(images).numpy().argmax(axis=1)
    labels[0] = (labels[0] + 1) % 3
    result = FGSM(ThreatModel(norm, 0.05))(model, images, labels, internal_batch=4)
    np.testing.assert_array_equal(result.images[0], images[0])
    np.testing.assert_allclose(result.images[1:], expected(images, labels, norm, 0.05)[1:], atol=1e-5)
    np.testing.assert_array_equal(result.queries, [1] + [3] * 8)


def test_step_respects_other_bounds(points):
    images, labels = points
    threat = ThreatModel("l_inf", 0.3, -1.0, 1.0)
    found = FGSM(threat).perturb(model, tf.constant(images), tf.constant(labels), tf.constant([0, 0])).numpy()
    assert found.min() < -0.2
    assert found.max() <= 1


def test_keeps_the_dtype(points):
    images, labels = points
    found = FGSM().perturb(model, tf.constant(images, tf.float64), tf.constant(labels), tf.constant([0, 0]))
    assert found.dtype == tf.float64
