"""Networks for scikit-learn's 8 x 8 digits, and other images of up to about 16 x 16."""

from __future__ import annotations

from collections.abc import Sequence

import keras

from erkeras.models.networks.channels_last import Conv2D, Flatten
from erkeras.models.networks.ends import classifier_of, encoder_of


def build_digits_encoder(image_shape: Sequence[int] = (8, 8, 1), code_size: int = 16) -> keras.Model:
    """Builds an encoder of images in [0, 1] -> codes: two 3 x 3 convolutions (strides 1, 2), 128 units."""
    hidden = [
        Conv2D(32, 3, padding="same", activation="relu"),
        Conv2D(64, 3, strides=2, padding="same", activation="relu"),
        Flatten(),
        keras.layers.Dense(128, activation="relu"),
    ]
    return encoder_of(image_shape, hidden, code_size)


def build_digits_classifier(code_size: int = 16, classes: int = 10) -> keras.Model:
    """Builds a classifier of codes `[n, code_size]` -> logits `[n, classes]`: 64 units."""
    return classifier_of(code_size, [keras.layers.Dense(64, activation="relu")], classes)
