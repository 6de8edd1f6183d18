import numpy as np
import pytest
import tensorflow as tf
from helpers.attempts import batch_of, follow
from helpers.closed_forms import images_at, linear_model, uniform

from erkeras import randomness
from erkeras.attacks import APGD
from erkeras.attacks.losses import LOSSES
from erkeras.attacks.targets import target_classes
from erkeras.errors import InputError
from erkeras.threat import ThreatModel

SHAPES = [(1, 8, 8, 1), (3, 5, 7, 3), (8, 3, 1, 2)]
NORMS = ["l_inf", "l2"]
EPSILON = {"l_inf": 0.1, "l2": 0.4}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("norm", NORMS)
def test_starts_on_the_surface_of_the_ball(norm, shape):
    threat = ThreatModel(norm, 0.2, -5.0, 5.0)
    model = linear_model(np.zeros((np.prod(shape[1:]), 3)))
    images = uniform(shape)
    (start, other), (again, _) = (
        [APGD(threat).initial(batch_of(images, np.zeros(shape[0]), model, seed))["point"].numpy() for seed in (1, 2)]
        for _ in range(2)
    )
    np.testing.assert_allclose(threat.distance(start, images), 0.2, rtol=1e-5)
    np.testing.assert_array_equal(start, again)
    assert np.abs(start - other).max(axis=(1, 2, 3)).min() > 0.01
    if norm == "l_inf" and np.prod(shape[1:]) > 50:
        # Uniform but for its scale: half of the pixels within half of the ball.
        assert 0.4 < np.mean(np.abs(start - images) < 0.1) < 0.6


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("shape", SHAPES)
def test_every_iterate_stays_in_the_ball_and_in_bounds_and_uses_both(norm, shape):
    images = uniform(shape)
    images[:, 0] = images[:, 0].round()
    model = linear_model(np.random.default_rng(1).normal(size=(np.prod(shape[1:]), 3)))
    labels = model(images).numpy().argmax(axis=1)
    threat = ThreatModel(norm, EPSILON[norm])
    made = follow(APGD(threat, iterations=12), model, batch_of(images, labels, model))["point"]
    assert made.min() == 0
    assert made.max() == 1
    distances = [threat.distance(points, images).numpy() for points in made]
    assert np.max(distances) <= threat.epsilon + 1e-6
    assert np.min(distances) > 0.5 * threat.epsilon


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize(
    ("classes", "loss", "targets"),
    [(2, "cross_entropy", 0), (2, "margin", 0), (3, "margin", 2), (4, "dlr", 3)],
)
def test_succeeds_exactly_where_an_adversarial_example_exists(norm, classes, loss, targets):
    """Of many classes each is asked for: any loss but the target's may lead to a class that is out of reach."""
    matrix = np.random.default_rng(5).normal(size=(12, classes))
    epsilon = {"l_inf": 0.1, "l2": 0.3}[norm]
    # Bounds that the ball does not reach.
    attack = APGD(ThreatModel(norm, epsilon, -1.0, 2.0), loss, targets)
    possible, impossible = (images_at(ratio * epsilon, 12, matrix, norm) for ratio in (0.99, 1.01))
    images, labels = (np.concatenate(parts) for parts in zip(possible, impossible, strict=True))
    result = attack(linear_model(matrix), images, labels, internal_batch=8)
    np.testing.assert_array_equal(result.clean_predictions, labels)
    np.testing.assert_array_equal(result.success, np.arange(24) < 12)
    np.testing.assert_array_equal(result.queries[12:], 1 + attack.attempts * 101)


@pytest.mark.parametrize("targets", [0, 3])
def test_dlr_and_margin_do_not_mind_logits_times_a_thousand(network, points, targets):
    images, labels = points
    for loss in ("dlr", "margin"):
        attack = APGD(ThreatModel("l_inf", 0.02), loss, targets, iterations=20)
        plain, scaled = (
            attack(lambda images, scale=scale: scale * network(images), images, labels) for scale in (1.0, 1000.0)
        )
        assert 5 < plain.success.sum() < 45
        assert np.sum(plain.success != scaled.success) <= 1
        assert np.isfinite(scaled.images).all()


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("targets", [0, 2])
@pytest.mark.parametrize("loss", LOSSES)
def test_equal_logits_make_no_nan(norm, loss, targets):
    """Four logits that are equal at the start, and a network that is flat on half of the images."""

    def model(images):
        flat = tf.nn.relu(tf.reshape(images, [-1, 4]) - 0.5)
        return 1e3 * tf.stack([flat[:, 0], flat[:, 0], flat[:, 0], flat[:, 0], flat[:, 1] - 1.0], axis=1)

    images = np.stack([np.zeros((2, 2, 1)), np.full((2, 2, 1), 0.6), np.ones((2, 2, 1))]).astype(np.float32)
    attack = APGD(ThreatModel(norm, 0.2), loss, targets, iterations=15)
    made = follow(attack, model, batch_of(images, np.zeros(3), model, attempt=1))
    for name in ("point", "best_gradient", "found"):
        assert np.isfinite(made[name]).all(), name


def test_ends_at_the_first_misclassified_iterate(network, points):
    images, labels = points
    attack = APGD(ThreatModel("l_inf", 0.03), iterations=30)
    result = attack(network, images, labels)
    made = follow(attack, network, batch_of(images, labels, network))
    predictions = np.stack([network(points).numpy().argmax(axis=1) for points in made["point"]])
    ended = 0
    for row in np.flatnonzero(result.clean_predictions == labels):
        broken = np.flatnonzero(predictions[:, row] != labels[row])
        assert result.success[row] == (broken.size > 0)
        if broken.size:
            np.testing.assert_allclose(result.images[row], made["point"][broken[0], row], atol=1e-6)
            assert result.queries[row] == 2 + broken[0]
            ended += 0 < broken[0] < 30
    assert ended > 5
    # What stands comes back as its point of the highest loss.
    standing = ~result.success
    losses = np.stack([LOSSES["cross_entropy"](labels, network(points)) for points in made["point"]])
    np.testing.assert_allclose(
        LOSSES["cross_entropy"](labels, network(result.images))[standing], losses.max(axis=0)[standing], rtol=1e-5
    )


def test_eot_averages_gradients_and_counts_its_passes():
    """A model that adds noise: many passes follow the slope beneath it, one does not."""
    slope = tf.constant(uniform((36, 3), -1, 1))
    passes, noise = tf.Variable(0), 5.0

    def model(images):
        passes.assign_add(1)
        flat = tf.reshape(images, [-1, 36])
        keys = tf.range(8, dtype=tf.int64) + 1000 * tf.cast(passes, tf.int64)
        jitter = noise * randomness.normal(keys, [36, 3])
        return tf.einsum("ni,nij->nj", flat - 0.5, slope + jitter) + tf.constant([50.0, 0, 0])

    images = np.full((8, 6, 6, 1), 0.5, np.float32)
    batch = batch_of(images, np.zeros(8), model)
    agreement = {}
    for eot in (1, 60):
        attack = APGD(ThreatModel("l2", 1e-3), "margin", 1, iterations=1, eot=eot)
        assert attack.passes == (eot, eot)
        passes.assign(0)
        made = follow(attack, model, batch)
        assert passes.numpy() == 2 * eot
        moved = (made["point"][1] - images).reshape(8, 36)
        target = target_classes(batch, 1).numpy()
        toward = slope.numpy().T[target] - slope.numpy()[:, 0]
        agreement[eot] = np.mean(
            np.sum(moved * toward, axis=1) / np.linalg.norm(moved, axis=1) / np.linalg.norm(toward, axis=1)
        )
    assert agreement[60] > 0.6
    assert agreement[1] < 0.4


def test_names_tell_the_losses_apart():
    settings = [("cross_entropy", 0), ("dlr", 0), ("margin", 0), ("dlr", 9), ("cross_entropy", 9), ("margin", 9)]
    names = [APGD(loss=loss, targets=targets).name for loss, targets in settings]
    assert names == ["apgd-ce", "apgd-dlr", "apgd-margin", "apgd-t", "apgd-t-ce", "apgd-t-margin"]
    assert APGD(targets=9, restarts=2).attempts == 18


@pytest.mark.parametrize(
    ("settings", "given"),
    [
        ({"iterations": 0}, "iterations is 0"),
        ({"restarts": 0}, "restarts is 0"),
        ({"eot": 0}, "eot is 0"),
        ({"rho": 1.5}, "rho is 1.5"),
        ({"rho": float("nan")}, "rho is nan"),
        ({"loss": "hinge"}, "loss is 'hinge'"),
        ({"targets": -1}, "targets are -1"),
    ],
)
def test_impossible_settings_are_refused(settings, given):
    with pytest.raises(InputError, match=given):
        APGD(**settings)


@pytest.mark.parametrize(("targets", "classes"), [(0, 2), (9, 3)])
def test_too_few_classes_are_refused(targets, classes):
    model = linear_model(np.eye(4)[:, :classes])
    images = uniform((2, 2, 2, 1))
    with pytest.raises(InputError, match=rf"needs {classes + 1} classes and the model has {classes}"):
        APGD(loss="dlr", targets=targets)(model, images, [0, 1])
