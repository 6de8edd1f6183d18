"""The small networks of one builder each: digits, colour and grey images, and what all have at their ends."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from erkeras.attacks import PGD
from erkeras.models import ERClassifier, WassersteinCritic
from erkeras.models.networks import (
    build_colour_classifier,
    build_colour_encoder,
    build_critic,
    build_digits_classifier,
    build_digits_encoder,
    build_mnist_classifier,
    build_mnist_deep_encoder,
    build_mnist_encoder,
    build_networks,
)
from erkeras.models.networks.ends import classifier_of, encoder_of
from erkeras.threat import ThreatModel


def convolutions(encoder):
    found = [layer for layer in encoder.layers if isinstance(layer, layers.Conv2D)]
    return [(layer.filters, layer.kernel_size[0], layer.strides[0], layer.padding) for layer in found]


def units(network):
    return [layer.units for layer in network.layers if isinstance(layer, layers.Dense)]


@pytest.mark.parametrize(
    ("build", "expected", "dense"),
    [
        (build_digits_encoder, [(32, 3, 1, "same"), (64, 3, 2, "same")], [128, 5]),
        (build_mnist_encoder, [(16, 4, 2, "same"), (32, 4, 2, "same")], [100, 5]),
        (build_mnist_deep_encoder, [(32, 3, 1, "valid")] * 2 + [(64, 3, 1, "valid")] * 2, [200, 5]),
        (build_colour_encoder, [(32, 3, 1, "same"), (64, 3, 2, "same"), (128, 3, 2, "same")], [256, 5]),
    ],
)
def test_encoders_are_what_they_say(build, expected, dense):
    encoder = build(code_size=5)
    assert convolutions(encoder) == expected
    assert units(encoder) == dense


@pytest.mark.parametrize(
    ("build", "hidden"), [(build_digits_classifier, 64), (build_mnist_classifier, 100), (build_colour_classifier, 128)]
)
def test_classifiers_are_what_they_say(build, hidden):
    classifier = build(5, 7)
    assert units(classifier) == [hidden, 7]
    assert classifier.layers[0].activation is keras.activations.relu


def test_batch_norm_stands_between_every_convolution_and_its_nonlinearity():
    kinds = [type(layer).__name__ for layer in build_colour_encoder().layers]
    assert kinds[1:10] == ["Conv2D", "BatchNormalization", "ReLU"] * 3


def test_ends_are_the_same_whatever_is_between():
    encoder = encoder_of([2, 3, 1], [layers.Flatten()], 4)
    assert [layer.name for layer in (encoder, encoder.layers[-1])] == ["encoder", "code"]
    assert (encoder.input_shape, encoder.output_shape) == ((None, 2, 3, 1), (None, 4))
    np.testing.assert_allclose(encoder.layers[0](tf.constant([[0.0, 0.25, 1.0]])), [[-1, -0.5, 1]])
    classifier = classifier_of(4, [], 3)
    assert [layer.name for layer in (classifier, *classifier.layers)] == ["classifier", "logits"]
    assert (classifier.input_shape, classifier.output_shape) == ((None, 4), (None, 3))


def test_colour_images_train_a_step():
    random = np.random.default_rng(0)
    images, labels = random.uniform(size=(4, 32, 32, 3)).astype(np.float32), np.arange(4) % 2
    model = ERClassifier(
        *build_networks("colour", (32, 32, 3), 8, 2),
        regularizer=WassersteinCritic(0.1, build_critic(8, units=(8,))),
        adversary=PGD(ThreatModel("l_inf", 8 / 255), steps=2),
    )
    model.compile()
    before = [weight.copy() for weight in model.get_weights()]
    logs = model.fit(images, labels, batch_size=4, verbose=0).history
    assert np.isfinite([values[0] for values in logs.values()]).all()
    unmoved = [
        weight.path
        for weight, old in zip(model.weights, before, strict=True)
        if np.array_equal(weight.numpy(), old) and "critic" not in weight.path
    ]
    assert unmoved == []
