import keras
import numpy as np
import pytest
import tensorflow as tf

from erkeras.errors import InputError
from erkeras.models.networks import NETWORKS, build_networks

SHAPES = {
    "digits": [(8, 8, 1), (9, 11, 3)],
    "mnist": [(28, 28, 1)],
    "mnist-deep": [(28, 28, 1), (16, 20, 3)],
    "mnist-large": [(28, 28, 1)],
    "colour": [(32, 32, 3), (16, 20, 1), (64, 64, 3), (96, 96, 3)],
    "vgg16": [(32, 32, 3)],
    "vgg19": [(32, 40, 1)],
    "preact-resnet18": [(32, 32, 3), (96, 96, 3)],
    "wide-resnet28-10": [(32, 32, 3)],
    "wide-resnet34-10": [(64, 64, 3)],
    "stl10": [(96, 96, 3)],
    "tiny-imagenet": [(64, 64, 3)],
}


@pytest.mark.parametrize(("name", "shape"), [(name, shape) for name, shapes in SHAPES.items() for shape in shapes])
def test_builds_for_its_shapes(name, shape):
    encoder, classifier = build_networks(name, shape, 5, 7)
    codes = encoder(np.zeros((2, *shape), np.float32))
    assert codes.shape == (2, 5)
    assert classifier(codes).shape == (2, 7)
    assert classifier.layers[-1].activation is keras.activations.linear
    assert [layer.name for layer in (encoder.layers[-1], classifier.layers[-1])] == ["code", "logits"]


def test_every_network_has_a_test():
    assert set(SHAPES) == set(NETWORKS)


def test_unknown_network_is_refused():
    with pytest.raises(InputError, match=r"'resnet'.*digits"):
        build_networks("resnet", (8, 8, 1), 4, 10)


@pytest.mark.parametrize("name", NETWORKS)
def test_first_layer_maps_0_1_to_minus_1_1(name):
    layers = NETWORKS[name][0](SHAPES[name][0]).layers
    first = next(layer for layer in layers if not isinstance(layer, keras.layers.InputLayer))
    np.testing.assert_allclose(first(tf.constant([[0.0, 0.5, 1.0]])), [[-1, 0, 1]])


@pytest.mark.parametrize("name", NETWORKS)
def test_defaults_of_encoder_and_classifier_fit(name):
    encoder, classifier = (builder() for builder in NETWORKS[name])
    cifar = ("vgg19", "tiny-imagenet", "wide-resnet34-10")
    assert encoder.input_shape[1:] == ((32, 32, 3) if name in cifar else SHAPES[name][0])
    assert encoder.output_shape == classifier.input_shape
    assert classifier.output_shape == (None, 10)


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        ("vgg16", (28, 28, 1), "vgg16 halves an image five times and was given 28 x 28: give 32 x 32"),
        ("tiny-imagenet", (31, 64, 3), "vgg19 .* was given 64 x 31"),
        ("mnist-deep", (28, 15, 1), "mnist-deep cannot take images of 15 x 28: give 16 x 16 or more"),
        ("wide-resnet34-10", (32, 38, 3), "wide-resnet34-10 halves .* was given 38 x 32: give sides .* multiples of 4"),
        ("stl10", (64, 96, 3), "stl10 cannot take images of 96 x 64: give larger ones than 64 x 64"),
    ],
)
def test_images_that_a_network_does_not_take_are_refused(name, shape, message):
    with pytest.raises(InputError, match=message):
        build_networks(name, shape, 16, 10)
