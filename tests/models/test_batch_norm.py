"""Which passes of a training step move the statistics of BatchNorm."""

import keras
import numpy as np
import tensorflow as tf
from helpers.algorithm_1 import CLIP, Network, as_data, batches, dense_network, moves
from keras import layers

from erkeras.attacks import PGD
from erkeras.models import ERClassifier, WassersteinCritic
from erkeras.threat import ThreatModel


def model_with_batch_norm(**options):
    keras.utils.set_random_seed(11)
    encoder = keras.Sequential(
        [
            keras.Input((2, 3, 1), dtype="float64"),
            layers.Flatten(dtype="float64"),
            layers.BatchNormalization(momentum=0.9, dtype="float64"),
            *dense_network([7, 3], "tanh"),
        ]
    )
    classifier = keras.Sequential(
        [
            keras.Input((3,), dtype="float64"),
            layers.BatchNormalization(momentum=0.8, dtype="float64"),
            *dense_network([3], "linear"),
        ]
    )
    critic = keras.Sequential([keras.Input((3,), dtype="float64"), *dense_network([8, 1], "relu")])
    model = ERClassifier(
        encoder,
        classifier,
        regularizer=WassersteinCritic(0.7, critic, CLIP),
        adversary=PGD(ThreatModel("l_inf", 0.2), steps=3, random_start=False),
        dtype="float64",
        **options,
    )
    model.compile(keras.optimizers.SGD(0.1), keras.optimizers.SGD(0.1), keras.optimizers.SGD(0.1))
    return model


def test_adversary_leaves_batch_norm_statistics_alone():
    model = model_with_batch_norm()
    images, labels, _ = next(batches(1))
    before = [variable.numpy() for variable in model.non_trainable_variables]
    attacked = model.adversary.perturb(
        lambda images: model(images, training=False), *as_data(images, labels), tf.constant([0, 0])
    )
    assert np.abs(attacked - images).max() > 0.1
    model.test_step(as_data(images, labels))
    assert moves(before, model.non_trainable_variables) == [0] * len(before)


def test_batch_norm_statistics_move_once_a_step_with_line_6():
    model = model_with_batch_norm()
    images, labels, _ = next(batches(1))
    attacked = model.adversary.perturb(
        lambda images: model(images, training=False), *as_data(images, labels), tf.constant([0, 0])
    ).numpy()
    inputs = attacked.reshape(8, 6)
    dense = Network(model.encoder)
    codes = dense.forward((inputs - inputs.mean(axis=0)) / np.sqrt(inputs.var(axis=0) + 1e-3))
    model.train_step(as_data(images, labels))
    for network, momentum, seen in ((model.encoder, 0.9, inputs), (model.classifier, 0.8, codes)):
        norm = next(layer for layer in network.layers if isinstance(layer, layers.BatchNormalization))
        np.testing.assert_allclose(norm.moving_mean, (1 - momentum) * seen.mean(axis=0), atol=1e-12)
        np.testing.assert_allclose(norm.moving_variance, momentum + (1 - momentum) * seen.var(axis=0), atol=1e-12)
