import numpy as np
import pytest
import tensorflow as tf

from erkeras.attacks import DivergencePGD
from erkeras.attacks.losses import kullback_leibler
from erkeras.errors import InputError
from erkeras.threat import ThreatModel

WEIGHTS = np.random.default_rng(0).normal(size=(12, 3)).astype(np.float32)


def linear(images):
    return tf.reshape(images, [tf.shape(images)[0], 12]) @ WEIGHTS


def some_images(n=6):
    images = np.random.default_rng(1).uniform(0.2, 0.8, (n, 2, 3, 2)).astype(np.float32)
    return images, linear(images).numpy().argmax(axis=1)


def softmax(logits):
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    return exponentials / exponentials.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("norm", ["l_inf", "l2"])
def test_training_follows_a_plain_rendering(norm):
    """Gradient of KL(p || softmax(x W)) by hand: (softmax(x W) - p) W^T."""
    images, labels = some_images()
    attack = DivergencePGD(ThreatModel(norm, 0.1), steps=5, step_size=0.03, start_deviation=0.01)
    seeds = tf.constant([3, 4], tf.int64)
    expected = attack.threat.normal_start(images, seeds, 0.01).numpy()
    assert 0.005 < (expected - images).std() < 0.015
    target = softmax(linear(images).numpy())
    for _ in range(5):
        gradient = ((softmax(linear(expected).numpy()) - target) @ WEIGHTS.T).reshape(images.shape)
        step = attack.threat.steepest(tf.constant(gradient)).numpy()
        expected = attack.threat.project(expected + 0.03 * step, images).numpy()
    found = attack.perturb(linear, tf.constant(images), labels, seeds)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_labels_do_not_matter_to_training():
    images, labels = some_images()
    attack = DivergencePGD(ThreatModel("l_inf", 0.1), steps=3)
    seeds = tf.constant([3, 4], tf.int64)
    first, second = (attack.perturb(linear, tf.constant(images), given, seeds) for given in (labels, 0 * labels))
    np.testing.assert_array_equal(first, second)


def test_evaluation_ascends_the_divergence_and_breaks_by_the_label():
    images, labels = some_images(40)
    attack = DivergencePGD(ThreatModel("l_inf", 0.05), steps=20, step_size=0.01)
    result = attack(linear, images, labels, seed=1)
    np.testing.assert_array_equal(result.success, linear(result.images).numpy().argmax(axis=1) != labels)
    assert 0 < result.success.sum() < 40
    clean, attacked = linear(images), linear(result.images)
    noise = np.random.default_rng(0).uniform(-0.05, 0.05, images.shape)
    start = linear((images + noise).astype(np.float32))
    assert np.all(kullback_leibler(clean, attacked) >= 0)
    assert np.mean(kullback_leibler(clean, attacked)) > 2 * np.mean(kullback_leibler(clean, start))


@pytest.mark.parametrize(
    "settings", [{"start_deviation": 0.0}, {"steps": 0}, {"restarts": 0}, {"step_size": -1.0}, {"structured": 2.0}]
)
def test_impossible_settings_are_refused(settings):
    with pytest.raises(InputError):
        DivergencePGD(**settings)


@pytest.mark.parametrize("norm", ["l_inf", "l2"])
@pytest.mark.parametrize("steps", [3, 5])
def test_step_is_2_5_epsilon_over_steps_where_none_is_given(norm, steps):
    images, labels = some_images()
    threat, seeds = ThreatModel(norm, 0.1), tf.constant([3, 4], tf.int64)
    moved = [
        DivergencePGD(threat, steps, size).perturb(linear, tf.constant(images), labels, seeds)
        for size in (None, 2.5 * threat.epsilon / steps, 0.6 * threat.epsilon / steps)
    ]
    np.testing.assert_array_equal(moved[0], moved[1])
    assert np.abs(moved[0] - moved[2]).max() > 1e-4  # another length ends elsewhere
