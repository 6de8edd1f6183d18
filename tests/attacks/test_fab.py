import keras
import numpy as np
import pytest
import tensorflow as tf

from erkeras.attacks import FAB, Victim
from erkeras.attacks.contract import Batch
from erkeras.errors import InputError
from erkeras.threat import ThreatModel
from helpers.attempts import batch_of, first_state
from helpers.closed_forms import (
    bent_model,
    images_at,
    linear_model,
    nearest_distances,
    points_of,
    to_hyperplane,
)

NORMS = ["l_inf", "l2"]
SHAPES = [(1, 8, 8, 1), (3, 5, 7, 3), (8, 3, 1, 2)]
EPSILON = {"l_inf": 0.1, "l2": 0.3}
BOUNDS = (-9.0, 9.0)


@pytest.mark.parametrize(
    ("shape", "norm", "targets", "make_model", "scale"),
    [((1, 8, 8, 1), "l_inf", 0, bent_model, 1), ((1, 8, 8, 1), "l2", 3, linear_model, 1e3),
     ((3, 5, 7, 3), "l_inf", 3, linear_model, 1e-30), ((3, 5, 7, 3), "l2", 0, bent_model, 1),
     ((8, 3, 1, 2), "l_inf", 3, bent_model, 1), ((8, 3, 1, 2), "l2", 0, linear_model, 1e-30)],
)  # fmt: skip
def test_finds_the_nearest_adversarial_image(shape, norm, targets, make_model, scale):
    matrix = scale * np.random.default_rng(1).normal(size=(np.prod(shape[1:]), 4))
    model = make_model(matrix)
    images, labels = points_of(model, shape)
    optimum = nearest_distances(images, labels, matrix / scale, norm)
    assert np.all(np.isfinite(optimum))
    attack = FAB(ThreatModel(norm, EPSILON[norm]), iterations=40, targets=targets)
    result = attack(model, images, labels, internal_batch=len(images))
    np.testing.assert_array_equal(result.clean_predictions, labels)
    assert np.all(result.predictions != labels)
    assert result.images.min() >= 0
    assert result.images.max() <= 1
    ratio = result.distance / optimum
    assert ratio.min() > 1 - 1e-4
    assert ratio.max() < 1.05
    np.testing.assert_array_equal(result.success, result.distance <= EPSILON[norm])


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize(("targets", "minimise", "classes"), [(0, True, 2), (2, False, 3)])
def test_succeeds_exactly_where_an_adversarial_image_exists(norm, targets, minimise, classes):
    matrix = np.random.default_rng(5).normal(size=(12, classes))
    epsilon = EPSILON[norm]
    attack = FAB(ThreatModel(norm, epsilon, -1.0, 2.0), iterations=40, targets=targets, minimise=minimise)
    victim = Victim(bent_model(matrix))
    for ratio, possible in ((0.99, True), (1.01, False)):
        images, labels = images_at(ratio * epsilon, 12, matrix, norm)
        result = attack(victim, images, labels, internal_batch=12)
        np.testing.assert_array_equal(result.clean_predictions, labels)
        np.testing.assert_array_equal(result.success, possible)
        if not possible and not minimise:
            np.testing.assert_array_equal(result.images, images)


@pytest.mark.parametrize(("norm", "targets"), [("l_inf", 2), ("l2", 0)])
def test_no_gradient_moves_nothing(norm, targets):
    def model(images):
        return tf.constant([[1.0, 0, 0.5]]) + 0 * tf.reduce_sum(images, axis=[1, 2, 3], keepdims=True)[:, 0, 0]

    images = points_of(linear_model(np.ones((4, 3))), (2, 2, 2, 1))[0]
    attack = FAB(ThreatModel(norm, 0.5), iterations=3, targets=targets)
    result = attack(model, images, np.array([0, 0]), internal_batch=2)
    np.testing.assert_array_equal(result.images, images)
    assert not result.success.any()


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("wrapped", [False, True])
def test_first_step_ends_on_the_nearest_of_the_linearised_boundaries(network, points, norm, wrapped):
    images, labels = points
    model, asked = tf.function(network) if wrapped else network, []

    def recorded(batch):
        asked.append(batch)
        return model(batch)

    # Bounds and a ball that are far, and no overshoot: the step is the projection.
    attack = FAB(ThreatModel(norm, 9.0, *BOUNDS), overshoot=1.0)
    batch = batch_of(images, labels, network)
    attack.step(recorded, batch, first_state(attack, batch))
    moved = asked[-1].numpy()
    with tf.GradientTape() as tape:
        tape.watch(batch.images)
        logits = network(batch.images)
    jacobian, logits = tape.batch_jacobian(logits, batch.images).numpy().reshape(50, 4, 36), logits.numpy()
    chosen = []
    for row, label in enumerate(labels):
        gap, slope = logits[row] - logits[row, label], jacobian[row] - jacobian[row, label]
        distances = np.abs(gap) / (np.linalg.norm(slope, 1 if norm == "l_inf" else 2, axis=1) + 1e-20)
        distances[label] = np.inf
        nearest = distances.argmin()
        expected = to_hyperplane(images[row].ravel(), slope[nearest], -gap[nearest], norm, *BOUNDS)
        np.testing.assert_allclose((moved[row] - images[row]).ravel(), expected, rtol=1e-2, atol=1e-5)
        chosen.append(nearest == np.argsort(-logits[row])[1])
    assert not all(chosen)  # the nearest is not simply the second label


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("most", [1.0, 0.2])
def test_a_step_weighs_both_projections_and_steps_back_from_what_is_adversarial(norm, most):
    """Algorithm 1 of the paper, in float64, on a linear model."""
    random = np.random.default_rng(3)
    matrix = random.normal(size=(12, 4))
    model = linear_model(matrix)
    images, labels = points_of(model, (30, 3, 2, 2))
    attack = FAB(ThreatModel(norm, 0.1, -1.0, 2.0), targets=1, alpha_max=most, overshoot=1.05, beta=0.9)
    batch = batch_of(images, labels, model)
    starts = (images + random.uniform(-0.3, 0.3, images.shape)).astype(np.float32)
    asked = []

    def recorded(candidates):
        asked.append(candidates)
        return model(candidates)

    state = attack.step(recorded, batch, {**first_state(attack, batch), "point": tf.constant(starts)})
    moved, points, clean = asked[-1].numpy(), state["point"].numpy(), batch.clean_logits.numpy()
    predictions = model(asked[-1]).numpy().argmax(axis=1)
    order, alphas = np.inf if norm == "l_inf" else 2, []
    for row, label in enumerate(labels):
        target = np.argsort(-clean[row])[1]
        image, start = (part[row].ravel().astype(np.float64) for part in (images, starts))
        weights = matrix[:, target] - matrix[:, label]
        step, image_step = (
            to_hyperplane(place, weights, -weights @ (place - 0.5), norm, -1.0, 2.0) for place in (start, image)
        )
        length, image_length = (np.linalg.norm(part, order) for part in (step, image_step))
        alpha = min(length / (length + image_length), most)
        expected = (1 - alpha) * (start + 1.05 * step) + alpha * (image + 1.05 * image_step)
        expected = np.clip(expected, -1, 2)
        np.testing.assert_allclose(moved[row].ravel(), expected, atol=1e-4)
        broken = predictions[row] != label
        back = image + 0.9 * (expected - image) if broken else expected
        np.testing.assert_allclose(points[row].ravel(), back, atol=1e-4)
        alphas.append(alpha)
    assert np.mean(np.array(alphas) == most) < 0.95
    assert 0.1 < np.mean(predictions != labels) < 1


def test_first_attempt_starts_at_the_image_and_others_at_half_the_radius():
    images = tf.fill([40, 6, 6, 1], 0.5)
    for norm, epsilon in EPSILON.items():
        attack = FAB(ThreatModel(norm, epsilon), restarts=3, targets=2)
        assert attack.attempts == 6
        attempt = np.arange(40) % 6
        seeds = tf.constant(np.stack([np.arange(40), np.arange(40)], axis=1))
        batch = Batch(images, tf.zeros(40, tf.int32), tf.zeros((40, 3)), seeds, tf.constant(attempt, tf.int32))
        start = attack.initial(batch)["point"]
        distance = attack.threat.distance(start, images).numpy()
        np.testing.assert_array_equal(distance[attempt < 2], 0)
        np.testing.assert_allclose(distance[attempt >= 2], epsilon / 2, rtol=1e-5)
        moved = start.numpy()[attempt >= 2]
        assert len(np.unique(moved.round(4), axis=0)) == len(moved)


def test_restarts_never_find_less(network, points):
    images, labels = points
    once, often = (
        FAB(ThreatModel("l2", 0.4), iterations=5, restarts=restarts)(network, images, labels) for restarts in (1, 4)
    )
    adversarial = once.predictions != labels
    assert np.all(often.distance[adversarial] <= once.distance[adversarial] + 1e-6)
    assert np.any(often.distance[adversarial] < once.distance[adversarial] - 1e-3)


def test_first_success_inside_the_ball_ends_an_attempt(network, points):
    images, labels = points
    threat = ThreatModel("l_inf", 0.02)
    far, quick = (
        FAB(threat, iterations=15, targets=3, minimise=minimise)(network, images, labels) for minimise in (True, False)
    )
    np.testing.assert_array_equal(quick.success, far.success)
    clean = labels == quick.clean_predictions
    assert 5 < quick.success[clean].sum() < clean.sum()
    assert np.all(quick.distance[quick.success] >= far.distance[quick.success] - 1e-6)
    assert np.all(quick.queries[quick.success & clean] < far.queries[quick.success & clean])
    # Outside the ball: nothing.
    np.testing.assert_array_equal(quick.images[~quick.success], images[~quick.success])
    assert np.all(far.distance[~far.success] > threat.epsilon)
    steps = far.gradients[clean]
    np.testing.assert_array_equal(far.queries[clean], 1 + 2 * steps)
    assert steps.min() >= 15 * 3
    assert steps.max() <= 23 * 3


def test_another_seed_starts_elsewhere(network, points):
    images, labels = points
    attack = FAB(ThreatModel("l_inf", 0.3), iterations=2, restarts=3)
    found = [attack(network, images, labels, seed=seed).distance for seed in (0, 0, 1)]
    np.testing.assert_array_equal(found[0], found[1])
    assert np.any(np.abs(found[0] - found[2]) > 1e-4)


@pytest.mark.parametrize(
    ("settings", "given"),
    [({"iterations": 0}, "iterations is 0"), ({"restarts": 0}, "restarts is 0"), ({"targets": -1}, "-1"),
     ({"alpha_max": 1.5}, "alpha_max is 1.5"), ({"beta": -0.1}, "beta is -0.1"), ({"beta": float("nan")}, "nan"),
     ({"overshoot": 0.9}, "overshoot is 0.9"), ({"overshoot": float("inf")}, "inf")],
)  # fmt: skip
def test_impossible_settings_are_refused(settings, given):
    with pytest.raises(InputError, match=given):
        FAB(**settings)


def test_name_and_config_round_trip():
    assert FAB().name == "fab"
    attack = FAB(ThreatModel("l2", 0.7, -1.0, 2.0), 7, 2, 3, 0.2, 1.1, 0.8, False)
    assert attack.name == "fab-t"
    assert not attack.minimises
    config = keras.saving.serialize_keras_object(attack)
    assert config["registered_name"] == "erkeras>FAB"
    assert keras.saving.deserialize_keras_object(config) == attack
