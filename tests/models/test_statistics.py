"""Statistics of BatchNorm that are taken anew, against NumPy."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from erkeras.attacks import PGD
from erkeras.models import ERClassifier, has_statistics, refresh_statistics
from erkeras.threat import ThreatModel


def model_of(*first, **options):
    keras.utils.set_random_seed(3)
    encoder = keras.Sequential([keras.Input((4, 4, 1)), *first, layers.Flatten(), layers.Dense(3)])
    classifier = keras.Sequential([keras.Input((3,)), layers.Dense(3)])
    return ERClassifier(encoder, classifier, **options)


@pytest.fixture
def batches():
    random = np.random.default_rng(0)
    images = random.uniform(size=(5, 6, 4, 4, 1)).astype(np.float32)
    return [(tf.constant(part), tf.constant(random.integers(0, 3, 6), tf.int32)) for part in images]


@pytest.mark.parametrize("momentum", [0.9, 0.99])
def test_they_are_the_average_over_the_batches_whatever_was_there(batches, momentum):
    normalisation = layers.BatchNormalization(momentum=momentum)
    model = model_of(normalisation)
    normalisation.moving_mean.assign([50.0])
    normalisation.moving_variance.assign([1e4])
    weights = [weight.numpy() for weight in model.trainable_variables]
    refresh_statistics(model, batches, 0)
    parts = [images.numpy() for images, _ in batches]
    assert normalisation.moving_mean.numpy()[0] == pytest.approx(np.mean([part.mean() for part in parts]), rel=1e-5)
    assert normalisation.moving_variance.numpy()[0] == pytest.approx(np.mean([part.var() for part in parts]), rel=1e-4)
    assert normalisation.momentum == momentum
    for before, after in zip(weights, model.trainable_variables, strict=True):
        np.testing.assert_array_equal(before, after)


def test_the_batches_are_those_that_training_would_attack_at_that_step(batches):
    def fresh():
        normalisation = layers.BatchNormalization()
        adversary = PGD(ThreatModel("l_inf", 0.3), steps=3)
        return normalisation, model_of(
            normalisation, adversary=adversary, epsilon_warm_up=20, clean_fraction=0.5, seed=4
        )

    def attacked(model, number):
        images, labels = batches[number]
        adversarial, first = model.attack_batch(images, labels, tf.constant(10 + number, tf.int64))
        assert first == 3
        assert np.abs(adversarial - images).max() == pytest.approx(0.3 * (10 + number) / 20, rel=1e-4)
        return adversarial.numpy().mean()

    normalisation, model = fresh()
    first = attacked(model, 0)
    refresh_statistics(model, batches[:1], 10)
    assert normalisation.moving_mean.numpy()[0] == pytest.approx(first, rel=1e-5)
    second = attacked(model, 1)  # which sees the first one's statistics
    normalisation, model = fresh()
    refresh_statistics(model, batches[:2], 10)
    assert normalisation.moving_mean.numpy()[0] == pytest.approx((first + second) / 2, rel=1e-5)
    assert first != pytest.approx(batches[0][0].numpy().mean(), abs=1e-4)


def test_the_same_batches_give_the_same_bits(batches):
    found = []
    for _ in range(2):
        normalisation = layers.BatchNormalization()
        model = model_of(normalisation, adversary=PGD(ThreatModel("l_inf", 0.3), steps=2))
        refresh_statistics(model, batches, 7)
        found.append([normalisation.moving_mean.numpy(), normalisation.moving_variance.numpy()])
    np.testing.assert_array_equal(*found)


def test_a_network_without_has_none():
    assert not has_statistics(model_of())
    assert has_statistics(model_of(layers.BatchNormalization()))
    assert has_statistics(model_of(keras.Sequential([keras.Input((4, 4, 1)), layers.BatchNormalization()])))
