"""The authors' networks for MNIST and STL-10: convolutions of stride 2, BatchNorm on all but the first."""

from __future__ import annotations

from collections.abc import Sequence

import keras

from erkeras.errors import InputError
from erkeras.models.networks.channels_last import Conv2D, Flatten
from erkeras.models.networks.ends import classifier_of, encoder_of


def build_mnist_large_encoder(image_shape: Sequence[int] = (28, 28, 1), code_size: int = 4) -> keras.Model:
    """Builds an encoder of images in [0, 1] -> codes `[n, code_size]`: four 4 x 4 convolutions."""
    return _build_encoder([_convolution(filters) for filters in (128, 256, 512, 1024)], image_shape, code_size)


def build_mnist_large_classifier(code_size: int = 4, classes: int = 10) -> keras.Model:
    """Builds a classifier of codes `[n, code_size]` -> logits `[n, classes]`: 500 and 256 units with BatchNorm."""
    layers: list[keras.layers.Layer] = []
    for units in (500, 256):
        layers += [keras.layers.Dense(units), keras.layers.BatchNormalization(), keras.layers.ReLU()]
    return classifier_of(code_size, layers, classes)


def build_stl10_encoder(image_shape: Sequence[int] = (96, 96, 3), code_size: int = 16) -> keras.Model:
    """Builds an encoder of images in [0, 1], larger than 64 x 64, -> codes: five 4 x 4 convolutions and one of 3 x 3.

    The last is not padded, and leaves a single position of 96 x 96.
    """
    height, width, _ = image_shape
    if min(height, width) <= 64:
        raise InputError(f"stl10 cannot take images of {width} x {height}: give larger ones than 64 x 64.")
    convolutions = [_convolution(filters) for filters in (128, 256, 512, 1024, 2048)]
    last = Conv2D(2048, 3, strides=2, use_bias=False)
    return _build_encoder([*convolutions, last], image_shape, code_size)


def build_stl10_classifier(code_size: int = 16, classes: int = 10) -> keras.Model:
    """Builds a classifier of codes `[n, code_size]` -> logits `[n, classes]`: the same as for MNIST."""
    return build_mnist_large_classifier(code_size, classes)


def _convolution(filters: int) -> keras.layers.Layer:
    return Conv2D(filters, 4, strides=2, padding="same", use_bias=False)


def _build_encoder(
    convolutions: Sequence[keras.layers.Layer], image_shape: Sequence[int], code_size: int
) -> keras.Model:
    layers = [convolutions[0], keras.layers.ReLU()]
    for convolution in convolutions[1:]:
        layers += [convolution, keras.layers.BatchNormalization(), keras.layers.ReLU()]
    return encoder_of(image_shape, [*layers, Flatten()], code_size)
