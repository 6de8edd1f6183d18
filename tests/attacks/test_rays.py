import math

import numpy as np
import pytest
import tensorflow as tf

from erkeras.attacks import RayS, Victim
from erkeras.errors import InputError
from erkeras.threat import ThreatModel
from helpers.closed_forms import two_layers, uniform

SHAPES = [(1, 8, 8, 1), (3, 5, 7, 3), (8, 3, 1, 2)]


def linear(weights):
    """A model of two classes: 1 where `weights` [d] times the image is positive."""
    weights = tf.constant(np.stack([-weights, weights], axis=1) / 2, tf.float32)
    return lambda images: tf.reshape(images - 0.5, [tf.shape(images)[0], -1]) @ weights


def points_of(model, shape):
    images = uniform(shape, seed=2)
    return images, model(tf.constant(images)).numpy().argmax(axis=1)


def labels_only(model):
    return lambda images: tf.argmax(model(images), axis=1, output_type=tf.int32)


def recording(model, asked):
    def recorded(images):
        with tf.control_dependencies([tf.numpy_function(lambda batch: asked.append(batch.copy()), [images], [])]):
            return model(tf.identity(images))

    return Victim(recorded)


def rays_slowly(model, image, label, queries):
    """The search for one image, query by query, and no cleverness: the images asked for and the last distance."""
    size, asked = image.size, []
    planes = image.transpose(2, 0, 1).reshape(-1)
    unit = np.float32(1 / math.sqrt(size))
    best_signs, best, found = np.ones(size, np.float32), np.float32(np.inf), None

    def moved(signs, radius):
        flat = np.clip(planes + radius * unit * signs, 0, 1)
        return flat.reshape(image.shape[2], *image.shape[:2]).transpose(1, 2, 0)

    def wrong(signs, radius):
        if len(asked) == queries:
            raise StopIteration
        asked.append(moved(signs, radius))
        return model(asked[-1][None]).numpy().argmax() != label

    try:
        level = block = 0
        while True:
            block_size = math.ceil(size / 2**level)
            signs = best_signs.copy()
            signs[block * block_size : (block + 1) * block_size] *= -1
            if wrong(signs, best):
                low, high = np.float32(0), np.minimum(best, np.float32(math.sqrt(size)))
                while True:
                    middle = (low + high) / 2
                    low, high = (low, middle) if wrong(signs, middle) else (middle, high)
                    if high - low <= 1e-3:
                        break
                if high < best:
                    best_signs, best, found = signs, high, moved(signs, high)
            block += 1
            if block == 2**level or block * block_size >= size:
                level, block = min(level + 1, 30), 0
    except StopIteration:
        return asked, None if found is None else np.abs(found - image).max()


@pytest.mark.parametrize(("shape", "queries"), list(zip(SHAPES, [600, 3000, 600], strict=True)))
def test_asks_what_a_plain_rendering_asks(shape, queries):
    model = two_layers(shape[1:])
    images, labels = points_of(model, shape)
    compiled = tf.function(model, autograph=False)
    for image, label in zip(images[:2], labels[:2], strict=True):
        asked = []
        result = RayS(queries=queries)(recording(model, asked), image[None], label[None], internal_batch=1)
        # The first passes tell what the outputs are, whether they repeat, and the clean label; the last one judges.
        asked = asked[4:-1]
        expected, distance = rays_slowly(compiled, image, label, queries)
        np.testing.assert_allclose(np.concatenate(asked), expected[: len(asked)], atol=1e-6)
        assert result.queries[0] == 1 + len(asked)
        # Where it has ended early, the rest changed nothing.
        assert result.distance[0] == pytest.approx(distance, abs=1e-6)


@pytest.mark.parametrize("count", [1, 3, 8])
def test_finds_the_nearest_direction_of_a_linear_model(count):
    weights = np.random.default_rng(3).normal(size=24) + 0.2
    model = linear(weights)
    images = uniform((count, 2, 4, 3), 0.3, 0.7)
    logits = model(tf.constant(images)).numpy()
    result = RayS(queries=3000)(model, images, logits.argmax(axis=1))
    optimum = np.abs(logits[:, 1] - logits[:, 0]) / np.abs(weights).sum()
    assert optimum.max() < 0.3  # no pixel meets its bound
    # A flip that gains less than the tolerance of the radius is missed.
    tolerance = 1e-3 / math.sqrt(24)
    assert np.all(result.distance >= optimum - 1e-6)
    assert np.all(result.distance <= 1.01 * optimum + 2 * tolerance)
    np.testing.assert_array_equal(result.success, result.distance <= 0.3)
    assert result.queries.max() < 3000


def test_labels_are_enough():
    model = two_layers((5, 7, 3))
    images, labels = points_of(model, (12, 5, 7, 3))
    attack = RayS(ThreatModel("l_inf", 0.05), queries=300)
    of_logits, of_labels = (attack(part, images, labels, internal_batch=5) for part in (model, labels_only(model)))
    assert of_labels.outputs == "labels"
    assert 0 < of_labels.success.sum() < 12
    for name in ("images", "success", "predictions", "distance", "queries"):
        np.testing.assert_array_equal(getattr(of_logits, name), getattr(of_labels, name))


def test_reports_the_nearest_image_inside_the_ball_or_not():
    model = two_layers((5, 7, 3))
    images, labels = points_of(model, (12, 5, 7, 3))
    distances = []
    for epsilon in (0.001, 0.05, 1.0):
        result = RayS(ThreatModel("l_inf", epsilon), queries=400)(model, images, labels)
        np.testing.assert_array_equal(model(tf.constant(result.images)).numpy().argmax(axis=1), result.predictions)
        assert np.all(result.predictions != labels)
        np.testing.assert_allclose(result.distance, np.abs(result.images - images).max(axis=(1, 2, 3)), atol=1e-7)
        np.testing.assert_array_equal(result.success, result.distance <= epsilon)
        distances.append(result.distance)
    np.testing.assert_array_equal(distances[0], distances[1])
    np.testing.assert_array_equal(distances[0], distances[2])


@pytest.mark.parametrize("queries", [1, 2, 7, 100])
def test_never_asks_more_than_its_queries_and_more_never_hurt(queries):
    model = two_layers((5, 7, 3))
    images, labels = points_of(model, (6, 5, 7, 3))
    less, more = (RayS(queries=number)(model, images, labels) for number in (queries, 2 * queries))
    np.testing.assert_array_equal(less.queries, 1 + queries)
    found = less.predictions != labels
    assert np.all(more.distance[found] <= less.distance[found])
    np.testing.assert_array_equal(less.images[~found], images[~found])
    assert not less.success[~found].any()


def test_ends_once_inside_where_that_is_enough():
    model = two_layers((5, 7, 3))
    images, labels = points_of(model, (12, 5, 7, 3))
    threat = ThreatModel("l_inf", 0.05)
    to_the_end, ended = (RayS(threat, queries=300, stop_inside=inside)(model, images, labels) for inside in (0, 1))
    np.testing.assert_array_equal(ended.success, to_the_end.success)
    inside = ended.success
    assert 0 < inside.sum() < 12
    assert ended.queries[inside].max() < 301
    assert ended.distance[inside].max() <= 0.05
    np.testing.assert_array_equal(ended.distance[~inside], to_the_end.distance[~inside])


def test_a_model_of_one_answer_is_never_wrong():
    images = uniform((3, 2, 2, 1))
    result = RayS(queries=50)(lambda images: tf.zeros([tf.shape(images)[0]], tf.int32), images, np.zeros(3))
    assert not result.success.any()
    np.testing.assert_array_equal(result.images, images)
    # Four single pixels have been turned in vain: nothing else will come.
    np.testing.assert_array_equal(result.queries, 1 + 1 + 2 + 4)


def test_pixel_bounds_are_the_unit_of_the_radius():
    model = two_layers((5, 7, 3))
    images, labels = points_of(model, (6, 5, 7, 3))
    unit = RayS(queries=300)(model, images, labels)
    wide = RayS(ThreatModel("l_inf", 0.6, -1.0, 1.0), queries=300)(
        lambda images: model((images + 1) / 2), 2 * images - 1, labels
    )
    np.testing.assert_allclose(wide.distance, 2 * unit.distance, atol=1e-3)
    np.testing.assert_array_equal(wide.success, unit.success)


@pytest.mark.parametrize(
    ("settings", "given"), [({"queries": 0}, "queries is 0"), ({"threat": ThreatModel("l2", 1.0)}, "'l2'")]
)
def test_impossible_settings_are_refused(settings, given):
    with pytest.raises(InputError, match=given):
        RayS(**settings)
