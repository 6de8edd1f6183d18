import itertools

import numpy as np
import pytest
import tensorflow as tf
from cleverhans.tf2.attacks.projected_gradient_descent import projected_gradient_descent

from erkeras.attacks import PGD, Victim
from erkeras.errors import InputError
from erkeras.models import ERClassifier
from erkeras.threat import ThreatModel
from helpers.attempts import batch_of
from helpers.closed_forms import images_at, linear_model, uniform

SHAPES = [(1, 8, 8, 1), (3, 5, 7, 3), (8, 3, 1, 2)]
NORMS = ["l_inf", "l2"]
EPSILON = {"l_inf": 0.1, "l2": 0.4}


def cross_entropy(model, images, labels):
    return tf.nn.sparse_softmax_cross_entropy_with_logits(labels, model(tf.constant(images))).numpy()


def test_reaches_the_optimum_of_two_classes_in_l_inf():
    weights = np.random.default_rng(2).normal(size=(12, 2))
    model = linear_model(weights)
    images, labels = uniform((8, 3, 4, 1)), np.arange(8) % 2
    toward = np.sign(weights[:, 1] - weights[:, 0]) * np.where(labels == 0, 1, -1)[:, None]
    optimum = np.clip(images + 0.1 * toward.reshape(images.shape), 0, 1)
    found = PGD(ThreatModel("l_inf", 0.1), steps=20).perturb(
        model, tf.constant(images), tf.constant(labels), tf.constant([0, 0])
    )
    np.testing.assert_allclose(found, optimum, atol=1e-6)


def test_reaches_the_optimum_of_two_classes_in_l2():
    weights = np.random.default_rng(2).normal(size=(12, 2))
    model = linear_model(weights)
    images, labels = uniform((8, 3, 4, 1), 0.4, 0.6), np.arange(8) % 2
    difference = weights[:, 1] - weights[:, 0]
    toward = difference / np.linalg.norm(difference) * np.where(labels == 0, 1, -1)[:, None]
    found = PGD(ThreatModel("l2", 0.3), steps=40, step_size=0.075).perturb(
        model, tf.constant(images), tf.constant(labels), tf.constant([0, 0])
    )
    gain = np.sum((found - images).numpy().reshape(8, 12) * toward, axis=1)
    assert gain.min() > 0.99 * 0.3
    assert gain.max() < 0.3 + 1e-6


def test_reaches_the_optimum_of_three_classes_in_l_inf():
    """The loss is convex in the image: its maximum over the cube is at a corner, and 256 corners can be tried."""
    model = linear_model(np.random.default_rng(3).normal(size=(8, 3)))
    images, labels = uniform((6, 2, 2, 2), 0.3, 0.7), np.arange(6) % 3
    corners = 0.2 * np.array(list(itertools.product([-1, 1], repeat=8)), np.float32).reshape(-1, 2, 2, 2)
    optimum = [
        cross_entropy(model, image + corners, np.full(256, label)).max()
        for image, label in zip(images, labels, strict=True)
    ]
    result = PGD(ThreatModel("l_inf", 0.2), steps=20, restarts=5)
    found = np.max(
        [
            cross_entropy(
                model, result.perturb(model, tf.constant(images), tf.constant(labels), tf.constant([seed, 0])), labels
            )
            for seed in range(5)
        ],
        axis=0,
    )
    np.testing.assert_allclose(found, optimum, rtol=1e-4)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("classes", [2, 3])
def test_succeeds_exactly_where_an_adversarial_example_exists(norm, classes):
    matrix = np.random.default_rng(5).normal(size=(12, classes))
    epsilon = {"l_inf": 0.1, "l2": 0.3}[norm]
    # Bounds that the ball does not reach.
    attack = PGD(ThreatModel(norm, epsilon, -1.0, 2.0), steps=40, step_size=epsilon / 4, restarts=10)
    for ratio, possible in ((0.99, True), (1.01, False)):
        images, labels = images_at(ratio * epsilon, 12, matrix, norm)
        result = attack(linear_model(30 * matrix), images, labels, internal_batch=12)
        np.testing.assert_array_equal(result.clean_predictions, labels)
        np.testing.assert_array_equal(result.success, possible)


@pytest.mark.parametrize(("norm", "order"), [("l_inf", np.inf), ("l2", 2)])
def test_is_as_strong_as_cleverhans(network, points, norm, order):
    images, labels = points
    epsilon = EPSILON[norm]
    ours = PGD(ThreatModel(norm, epsilon), steps=10, step_size=epsilon / 4, random_start=False)
    theirs = projected_gradient_descent(
        network, tf.constant(images), epsilon, epsilon / 4, 10, order,
        clip_min=0.0, clip_max=1.0, y=tf.constant(labels), rand_init=False, sanity_checks=False,
    )  # fmt: skip
    found = ours.perturb(network, tf.constant(images), tf.constant(labels), tf.constant([0, 0]))
    losses = [cross_entropy(network, adversarial, labels).mean() for adversarial in (images, found, theirs)]
    assert losses[1] > 1.5 * losses[0]
    assert losses[1] == pytest.approx(losses[2], rel=0.01)


def test_restarts_never_weaken_any_image(network, points):
    images, labels = points
    threat = ThreatModel("l_inf", 0.03)
    once, often = (PGD(threat, steps=3, restarts=restarts)(network, images, labels) for restarts in (1, 5))
    assert np.all(often.success | ~once.success)
    np.testing.assert_array_equal(often.images[once.success], once.images[once.success])
    standing = ~often.success
    assert standing.any()
    gain = (cross_entropy(network, often.images, labels) - cross_entropy(network, once.images, labels))[standing]
    assert gain.min() >= -1e-6
    assert gain.max() > 1e-4


def test_another_seed_or_index_starts_elsewhere(network, points):
    images, labels = points
    attack = PGD(ThreatModel("l_inf", 0.03), steps=1, step_size=0.0)

    def start(seed=0, indices=None):
        return attack(network, images, labels, seed=seed, indices=indices).images[labels == 1]

    np.testing.assert_array_equal(start(), start(indices=np.arange(50)))
    assert not np.allclose(start(), start(seed=1))
    assert not np.allclose(start(), start(indices=np.arange(50) + 1))


def test_queries_are_the_forward_passes_run(network, points):
    images, labels = (part[1:10] for part in points)
    passes = tf.Variable(0)

    def counted(images):
        passes.assign_add(1)
        return network(images, training=False)

    for restarts in (1, 3):
        passes.assign(0)
        result = PGD(ThreatModel("l_inf", 1e-4), steps=4, restarts=restarts)(
            Victim(counted), images, labels, internal_batch=9
        )
        assert not result.success.any()
        # One pass more tells what the outputs are, three look at the model, and one confirms what was found.
        np.testing.assert_array_equal(result.queries, passes.numpy() - 5)
        np.testing.assert_array_equal(result.gradients, restarts * 5)


@pytest.mark.parametrize("norm", NORMS)
def test_scale_0_returns_the_image_and_scale_half_halves_the_ball(network, points, norm):
    images, labels = (tf.constant(part) for part in points)
    attack = PGD(ThreatModel(norm, 0.2), steps=4)
    np.testing.assert_array_equal(attack.perturb(network, images, labels, tf.constant([1, 2]), 0.0), images)
    half = attack.perturb(network, images, labels, tf.constant([1, 2]), 0.5)
    np.testing.assert_allclose(tf.reduce_max(attack.threat.distance(half, images)), 0.1, atol=1e-5)


def test_without_random_start_one_round_from_the_image(network, points):
    images, labels = (tf.constant(part) for part in points)
    attack = PGD(ThreatModel("l_inf", 0.2), steps=1, step_size=0.0, restarts=5, random_start=False)
    assert attack.attempts == 1
    np.testing.assert_array_equal(attack.perturb(network, images, labels, tf.constant([1, 2])), images)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("steps", [1, 5, 40])
def test_step_is_2_5_epsilon_over_steps_where_none_is_given(network, points, norm, steps):
    images, labels = (tf.constant(part) for part in points)
    threat, seeds = ThreatModel(norm, EPSILON[norm]), tf.constant([1, 2])
    default, given = PGD(threat, steps), PGD(threat, steps, step_size=2.5 * threat.epsilon / steps)
    assert default.step_size is None
    assert default.step_length == given.step_length == 2.5 * threat.epsilon / steps
    moved = [attack.perturb(network, images, labels, seeds) for attack in (default, given)]
    np.testing.assert_array_equal(*moved)
    # Nought is a length too.
    assert PGD(threat, steps, step_size=0.0).step_length == 0


def test_one_step_of_the_default_goes_2_5_epsilon_far():
    """From the image, where neither the ball nor the bounds cut it short, by a gradient that is known."""
    images = tf.fill([1, 2, 2, 1], 0.5)
    threat = ThreatModel("l2", 1e-3)
    steps = [PGD(threat, number, random_start=False) for number in (1, 5)]
    model = linear_model(np.array([[1.0, 0], [0, 0], [0, 0], [0, 0]]))
    moved = [attack.perturb(model, images, tf.constant([0]), tf.constant([0, 0])) for attack in steps]
    for found in moved:  # five of half of epsilon end on the ball as one does
        np.testing.assert_allclose(found - images, [[[[-1e-3], [0]], [[0], [0]]]], atol=1e-7)
    state = {"point": images, "loss": tf.constant([-np.inf]), "found": images, "answered": tf.constant([True])}
    batch = batch_of(images.numpy(), [0], model)
    point = steps[1].step(model, batch, state)["point"]
    np.testing.assert_allclose(0.5 - point[0, 0, 0, 0], 2.5 * 1e-3 / 5, rtol=1e-3)


def test_training_and_evaluation_run_the_same_function(tiny_networks, images, labels, monkeypatch):
    """Up to the temperature of the cross-entropy, which the margin does not have."""
    made = []

    def recording(self, *arguments, perturb=PGD.perturb):
        made.append(perturb(self, *arguments))
        return made[-1]

    attack = PGD(ThreatModel("l_inf", 0.05), steps=3, random_start=False, loss="margin")
    model = ERClassifier(*tiny_networks(), adversary=attack)
    model.compile("sgd")
    labels = model(images).numpy().argmax(axis=1)
    evaluated = attack(model, images, labels)
    monkeypatch.setattr(PGD, "perturb", recording)
    model.train_step((tf.constant(images), tf.constant(labels)))
    (trained,) = made
    # Evaluation ends at the first iterate that is misclassified, training with the last.
    standing = ~evaluated.success
    assert standing.sum() > 3
    np.testing.assert_allclose(trained[standing], evaluated.images[standing], atol=1e-6)
    assert np.abs(evaluated.images - images)[standing].max() > 0.049


@pytest.mark.parametrize("steepness", [1.0, 50.0])
def test_step_in_l2_has_its_length_however_confident_the_model_is(steepness):
    model = linear_model(steepness * np.array([[1.0, 0], [0.5, 0], [0, 0], [0, 0]]))
    images = tf.fill([1, 2, 2, 1], 0.9)
    attack = PGD(ThreatModel("l2", 0.5), steps=1, step_size=0.25, random_start=False)
    found = attack.perturb(model, images, tf.constant([0]), tf.constant([0, 0]))
    np.testing.assert_allclose(attack.threat.distance(found, images), 0.25, rtol=1e-4)


def test_float64_images_stay_float64():
    attack = PGD(ThreatModel("l2", 0.2), steps=2)
    matrix = tf.constant(np.random.default_rng(0).normal(size=(4, 2)))
    images = tf.fill([2, 2, 2, 1], tf.constant(0.5, tf.float64))
    found = attack.perturb(
        lambda images: tf.reshape(images, [-1, 4]) @ matrix, images, tf.constant([0, 1]), tf.constant([0, 0])
    )
    assert found.dtype == tf.float64


@pytest.mark.parametrize(
    ("settings", "given"),
    [
        ({"steps": 0}, "steps is 0"),
        ({"restarts": 0}, "restarts is 0"),
        ({"step_size": -1.0}, "-1.0"),
        ({"step_size": float("nan")}, "nan"),
        ({"loss": "hinge"}, "loss is 'hinge'"),
        ({"targets": -1}, "targets are -1"),
    ],
)
def test_impossible_settings_are_refused(settings, given):
    with pytest.raises(InputError, match=given):
        PGD(**settings)


@pytest.mark.parametrize("fraction", [0.0, 0.4, 1.0])
def test_a_fraction_of_the_starts_is_structured(fraction):
    images = np.full((400, 8, 8, 1), 0.5, np.float32)
    attack = PGD(ThreatModel("l_inf", 0.2), steps=1, step_size=0.0, structured=fraction)
    seeds = tf.constant(np.stack([np.full(400, 3), np.arange(400)], axis=1))
    moved = attack.perturb(lambda points: tf.reshape(points, [-1, 64]), tf.constant(images), np.zeros(400, int), seeds)
    at_the_edge = np.all(np.abs(np.abs(moved.numpy() - 0.5) - 0.2) < 1e-5, axis=(1, 2, 3))
    assert at_the_edge.mean() == pytest.approx(fraction, abs=0.08)


@pytest.mark.parametrize("settings", [{"structured": 1.5}, {"structured": 0.5, "threat": ThreatModel("l2", 1.0)}])
def test_structured_starts_out_of_place_are_refused(settings):
    with pytest.raises(InputError, match="PGD's structured is"):
        PGD(**settings)


def test_a_step_without_end_is_refused():
    """Infinity times a gradient of 0 is no number."""
    with pytest.raises(InputError, match="step_size is inf: give a finite number"):
        PGD(ThreatModel("l_inf", 0.1), steps=2, step_size=float("inf"))


def test_names_tell_the_losses_apart():
    settings = [("cross_entropy", 0), ("margin", 0), ("dlr", 0), ("dlr", 9), ("cross_entropy", 9), ("margin", 9)]
    names = [PGD(loss=loss, targets=targets).name for loss, targets in settings]
    assert names == ["pgd", "pgd-margin", "pgd-dlr", "pgd-t", "pgd-t-ce", "pgd-t-margin"]
    assert PGD(targets=9, restarts=2).attempts == 18


def test_training_with_targets_is_refused(network, points):
    images, labels = (tf.constant(part) for part in points)
    with pytest.raises(InputError, match="PGD's targets are 2: training takes an adversary without targets"):
        PGD(targets=2).perturb(network, images, labels, tf.constant([0, 0]))


@pytest.mark.parametrize(("targets", "classes"), [(0, 2), (9, 3)])
def test_too_few_classes_are_refused(targets, classes):
    with pytest.raises(InputError, match=rf"needs {classes + 1} classes and the model has {classes}"):
        PGD(loss="dlr", targets=targets)(linear_model(np.eye(4)[:, :classes]), uniform((2, 2, 2, 1)), [0, 1])
