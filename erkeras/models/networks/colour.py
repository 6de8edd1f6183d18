"""A small network for colour images of 32 x 32 to 96 x 96, with BatchNorm."""

from __future__ import annotations

from collections.abc import Sequence

import keras

from erkeras.models.networks.channels_last import Conv2D, Flatten, MaxPooling2D
from erkeras.models.networks.ends import classifier_of, encoder_of


def build_colour_encoder(image_shape: Sequence[int] = (32, 32, 3), code_size: int = 16) -> keras.Model:
    """Builds an encoder of images in [0, 1] -> codes: 3 x 3 convolutions of 32, 64, 128 (strides 1, 2, 2)."""
    layers: list[keras.layers.Layer] = []
    for filters, strides in ((32, 1), (64, 2), (128, 2)):
        layers += [
            Conv2D(filters, 3, strides=strides, padding="same", use_bias=False),
            keras.layers.BatchNormalization(),
            keras.layers.ReLU(),
        ]
    layers += [MaxPooling2D(2), Flatten(), keras.layers.Dense(256, activation="relu")]
    return encoder_of(image_shape, layers, code_size)


def build_colour_classifier(code_size: int = 16, classes: int = 10) -> keras.Model:
    """Builds a classifier of codes `[n, code_size]` -> logits `[n, classes]`: 128 units."""
    return classifier_of(code_size, [keras.layers.Dense(128, activation="relu")], classes)
