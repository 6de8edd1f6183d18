"""Networks for MNIST and other grey images of about 28 x 28: a small fast one and a deep one."""

from __future__ import annotations

from collections.abc import Sequence

import keras

from erkeras.errors import InputError
from erkeras.models.networks.channels_last import Conv2D, Flatten, MaxPooling2D
from erkeras.models.networks.ends import classifier_of, encoder_of


def build_mnist_encoder(image_shape: Sequence[int] = (28, 28, 1), code_size: int = 16) -> keras.Model:
    """Builds an encoder of images in [0, 1] -> codes: 4 x 4 convolutions of stride 2, and 100 units."""
    hidden = [
        *(Conv2D(width, 4, strides=2, padding="same", activation="relu") for width in (16, 32)),
        Flatten(),
        keras.layers.Dense(100, activation="relu"),
    ]
    return encoder_of(image_shape, hidden, code_size)


def build_mnist_deep_encoder(image_shape: Sequence[int] = (28, 28, 1), code_size: int = 16) -> keras.Model:
    """Builds an encoder of images in [0, 1], of 16 x 16 or more, -> codes: twice two 3 x 3 convolutions and a pooling.

    Convolutions and pooling are those of Zhang et al. (2019), TRADES, for MNIST; then 200 units.
    """
    height, width, _ = image_shape
    if min(height, width) < 16:
        raise InputError(f"mnist-deep cannot take images of {width} x {height}: give 16 x 16 or more.")
    hidden: list[keras.layers.Layer] = []
    for filters in (32, 64):
        hidden += [Conv2D(filters, 3, activation="relu") for _ in range(2)]
        hidden.append(MaxPooling2D(2))
    return encoder_of(image_shape, [*hidden, Flatten(), keras.layers.Dense(200, activation="relu")], code_size)


def build_mnist_classifier(code_size: int = 16, classes: int = 10) -> keras.Model:
    """Builds a classifier of codes `[n, code_size]` -> logits `[n, classes]`: 100 units."""
    return classifier_of(code_size, [keras.layers.Dense(100, activation="relu")], classes)
