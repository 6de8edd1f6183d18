"""Networks for MNIST and other grey images of about 28 x 28: a small fast one and a medium."""

from __future__ import annotations

from collections.abc import Sequence

import keras

from erkeras.models.networks.ends import classifier_of, encoder_of


def build_mnist_encoder(
    image_shape: Sequence[int] = (28, 28, 1), code_size: int = 16, filters: Sequence[int] = (16, 32)
) -> keras.Model:
    """Images in [0, 1] -> codes `[n, code_size]`: 4 x 4 convolutions of stride 2, and 100 units."""
    hidden = [
        *(keras.layers.Conv2D(width, 4, strides=2, padding="same", activation="relu") for width in filters),
        keras.layers.Flatten(),
        keras.layers.Dense(100, activation="relu"),
    ]
    return encoder_of(image_shape, hidden, code_size)


def build_mnist_medium_encoder(image_shape: Sequence[int] = (28, 28, 1), code_size: int = 16) -> keras.Model:
    """The small encoder with twice the filters."""
    return build_mnist_encoder(image_shape, code_size, filters=(32, 64))


def build_mnist_classifier(code_size: int = 16, classes: int = 10) -> keras.Model:
    """Codes `[n, code_size]` -> logits `[n, classes]`: 100 units."""
    return classifier_of(code_size, [keras.layers.Dense(100, activation="relu")], classes)
