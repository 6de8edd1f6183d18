import numpy as np
import pytest
import tensorflow as tf
from helpers.closed_forms import linear_model, uniform

from erkeras.attacks.tensors import ascend, fused, gradient_of, random_directions, where
from erkeras.threat import ThreatModel


@pytest.mark.parametrize("shape", [(5,), (5, 3), (5, 2, 3, 1)])
def test_where_chooses_whole_rows(shape):
    first, second = uniform(shape), uniform(shape, seed=1)
    condition = np.array([True, False, False, True, False])
    found = where(tf.constant(condition), tf.constant(first), tf.constant(second))
    expected = [first[row] if condition[row] else second[row] for row in range(5)]
    np.testing.assert_array_equal(found, np.stack(expected))


def test_where_knows_its_shape_in_a_graph():
    spec = tf.TensorSpec([None, 2, 3, 1])
    function = tf.function(where, input_signature=[tf.TensorSpec([None], tf.bool), spec, spec])
    images = uniform((4, 2, 3, 1))
    np.testing.assert_array_equal(function(tf.constant([True] * 4), images, 0 * images), images)


def test_the_gradient_of_a_broken_path_is_zero():
    points = tf.constant(uniform((3, 2, 2, 1)))
    with tf.GradientTape() as tape:
        tape.watch(points)
        outputs = tf.cast(tf.cast(points, tf.int32), tf.float32)
    np.testing.assert_array_equal(gradient_of(tape, outputs, points), np.zeros_like(points))


def test_ascend_gives_outputs_losses_and_each_row_its_own_gradient():
    matrix = uniform((4, 3), -1, 1, seed=1)
    model, points = linear_model(matrix), tf.constant(uniform((5, 2, 2, 1)))
    outputs, losses, gradient = ascend(model, points, lambda outputs: outputs[:, 0] ** 2 - outputs[:, 2])
    np.testing.assert_array_equal(outputs, model(points))
    logits = outputs.numpy()
    np.testing.assert_allclose(losses, logits[:, 0] ** 2 - logits[:, 2], rtol=1e-6)
    expected = 2 * logits[:, :1] * matrix[:, 0] - matrix[:, 2]
    np.testing.assert_allclose(gradient.numpy().reshape(5, 4), expected, rtol=1e-5)


@pytest.mark.parametrize("norm", ["l_inf", "l2"])
def test_random_directions_have_length_1_and_are_of_their_seeds(norm):
    images = tf.zeros([300, 3, 4, 2])
    seeds = np.stack([np.full(300, 5), np.arange(300)], axis=1)
    threat = ThreatModel(norm, 0.3)
    found = random_directions(threat, images, tf.constant(seeds)).numpy()
    np.testing.assert_allclose(threat.distance(found, 0 * found), 1, rtol=1e-5)
    assert np.abs(found.mean(axis=0)).max() < 0.2  # no way is preferred
    assert len(np.unique(found.round(4), axis=0)) == 300
    some = seeds[[7, 3]]
    np.testing.assert_array_equal(random_directions(threat, images[:2], tf.constant(some)), found[[7, 3]])


def test_fused_is_the_function():
    first, second = uniform((4, 3)), uniform((4, 3), seed=1)
    together = fused(lambda first, second: (tf.sqrt(first) + second, first * second))(first, second)
    for found, expected in zip(together, (np.sqrt(first) + second, first * second), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-6)
