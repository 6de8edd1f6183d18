import keras
import numpy as np
import pytest
from keras import layers

from erkeras.models.layers import GaussianCode, NoiseLayer
from erkeras.models.networks import (
    NETWORKS,
    build_digits_encoder,
    build_wide_resnet_encoder,
    with_gaussian_code,
    with_noise,
    without_bottleneck,
)


def image_of(network):
    return np.random.default_rng(0).uniform(size=(2, *network.input_shape[1:])).astype(np.float32)


def test_without_a_bottleneck_the_last_hidden_layer_goes_straight_into_the_logits():
    plain = build_digits_encoder((8, 8, 1), 6)
    encoder, classifier = without_bottleneck(plain, 7)
    assert [layer.name for layer in encoder.layers] == [layer.name for layer in plain.layers[:-1]]
    assert encoder.output_shape == classifier.input_shape == (None, 128)
    assert [layer.name for layer in classifier.layers] == ["logits"]
    assert classifier.output_shape == (None, 7)
    # The same layers, not copies.
    np.testing.assert_array_equal(plain.layers[-1](encoder(image_of(plain))), plain(image_of(plain)))


def test_a_gaussian_code_stands_in_the_place_of_the_code():
    plain = build_digits_encoder((8, 8, 1), 6)
    encoder = with_gaussian_code(plain, 0.25)
    *hidden, code = encoder.layers
    assert [layer.name for layer in hidden] == [layer.name for layer in plain.layers[:-1]]
    assert isinstance(code, GaussianCode)
    assert (code.units, code.coefficient, code.name) == (6, 0.25, "code")
    images = image_of(plain)
    np.testing.assert_array_equal(encoder(images), encoder(images))
    assert not np.allclose(encoder(images, training=True), encoder(images, training=True))


def test_noise_stands_before_every_convolution_and_the_first_before_the_normalisation():
    inner = [layers.Rescaling(2.0, offset=-1.0), layers.Conv2D(3, 3), layers.Conv2D(4, 3), layers.Flatten()]
    encoder = with_noise(keras.Sequential([keras.Input((6, 6, 1)), *inner, layers.Dense(5)]), 0.4)
    names = [type(layer).__name__ for layer in encoder.layers]
    assert names == ["NoiseLayer", "Rescaling", "Conv2D", "NoiseLayer", "Conv2D", "Flatten", "Dense"]
    assert [encoder.layers[place].standard_deviation for place in (0, 3)] == [0.4, 0.2]
    assert [encoder.layers[place].number for place in (0, 3)] == [0, 1]


@pytest.mark.parametrize(
    ("name", "convolutions"), [("digits", 2), ("mnist", 2), ("colour", 3), ("vgg16", 13), ("preact-resnet18", 20)]
)
def test_noise_fits_every_kind_of_network(name, convolutions):
    plain = NETWORKS[name][0]()
    noisy = with_noise(plain, 0.2)
    assert sum(isinstance(layer, NoiseLayer) for layer in noisy.layers) == convolutions
    image = np.full((1, *plain.input_shape[1:]), 0.5, np.float32)
    assert noisy(image).shape == plain(image).shape


def test_without_its_noise_a_noisy_network_is_the_plain_one():
    plain = build_digits_encoder((8, 8, 1), 6)
    images = image_of(plain)
    np.testing.assert_array_equal(with_noise(plain, 0.0)(images), plain(images))
    assert not np.allclose(with_noise(plain, 0.2)(images), plain(images))


@pytest.fixture
def branching():
    """A Functional encoder, with blocks."""
    return build_wide_resnet_encoder((32, 32, 3), 6, depth=10, width=1)


def test_a_functional_encoder_loses_its_code(branching):
    encoder, classifier = without_bottleneck(branching, 7)
    assert (encoder.name, encoder.output_shape, classifier.input_shape) == ("encoder", (None, 64), (None, 64))
    assert [layer.name for layer in encoder.layers] == [layer.name for layer in branching.layers[:-1]]
    images = image_of(branching)
    np.testing.assert_allclose(branching.layers[-1](encoder(images)), branching(images), atol=1e-6)


def test_a_functional_encoder_gets_a_gaussian_code(branching, tmp_path):
    encoder = with_gaussian_code(branching, 0.25)
    *hidden, code = encoder.layers
    assert [layer.name for layer in hidden] == [layer.name for layer in branching.layers[:-1]]
    assert (code.units, code.coefficient, code.name, encoder.name) == (6, 0.25, "code", "encoder")
    images = image_of(branching)
    assert not np.allclose(encoder(images, training=True), encoder(images, training=True))
    encoder.save(tmp_path / "encoder.keras")
    np.testing.assert_array_equal(keras.models.load_model(tmp_path / "encoder.keras")(images), encoder(images))


def test_a_functional_encoder_gets_noise_before_every_convolution(branching):
    encoder = with_noise(branching, 0.4)
    assert [type(layer) for layer in encoder.layers[:3]] == [layers.InputLayer, NoiseLayer, layers.Rescaling]
    noises = [layer for layer in encoder.layers if isinstance(layer, NoiseLayer)]
    assert noises[0].standard_deviation == 0.4
    assert {noise.standard_deviation for noise in noises[1:]} == {0.2}
    assert sorted(noise.number for noise in noises) == list(range(9))
    before = [came_from(layer) for layer in encoder.layers if isinstance(layer, layers.Conv2D)]
    assert isinstance(before[0], layers.Rescaling)
    padded = [operation for operation in before if isinstance(operation, layers.ZeroPadding2D)]
    assert len(padded) == 2
    # Zeros around an image have no noise: it comes before them.
    noisy = [came_from(operation) if operation in padded else operation for operation in before[1:]]
    assert sorted(noise.number for noise in noisy) == list(range(1, 9))
    images = image_of(branching)
    np.testing.assert_allclose(with_noise(branching, 0.0)(images), branching(images), atol=1e-6)
    assert not np.allclose(encoder(images), branching(images))


def came_from(operation):
    """What gives an operation its input, in the network that called it last."""
    (source,) = operation._inbound_nodes[-1].parent_nodes
    return source.operation
