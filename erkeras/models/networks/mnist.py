"""Networks for MNIST and other grey images of about 28 x 28: a small fast one, a medium, the authors' large one."""

from __future__ import annotations

from collections.abc import Sequence

import keras


def build_mnist_encoder(
    image_shape: Sequence[int] = (28, 28, 1), code_size: int = 16, filters: Sequence[int] = (16, 32)
) -> keras.Model:
    """Images in [0, 1] -> codes `[n, code_size]`: 4 x 4 convolutions of stride 2, and 100 units."""
    return keras.Sequential(
        [
            keras.Input(tuple(image_shape)),
            keras.layers.Rescaling(2.0, offset=-1.0),
            *(keras.layers.Conv2D(width, 4, strides=2, padding="same", activation="relu") for width in filters),
            keras.layers.Flatten(),
            keras.layers.Dense(100, activation="relu"),
            keras.layers.Dense(code_size, name="code"),
        ],
        name="encoder",
    )


def build_mnist_medium_encoder(image_shape: Sequence[int] = (28, 28, 1), code_size: int = 16) -> keras.Model:
    """The small encoder with twice the filters."""
    return build_mnist_encoder(image_shape, code_size, filters=(32, 64))


def build_mnist_classifier(code_size: int = 16, classes: int = 10) -> keras.Model:
    """Codes `[n, code_size]` -> logits `[n, classes]`."""
    return keras.Sequential(
        [
            keras.Input((code_size,)),
            keras.layers.Dense(100, activation="relu"),
            keras.layers.Dense(classes, name="logits"),
        ],
        name="classifier",
    )


def build_mnist_large_encoder(image_shape: Sequence[int] = (28, 28, 1), code_size: int = 4) -> keras.Model:
    """The authors' encoder: four 4 x 4 convolutions of stride 2, BatchNorm on all but the first."""
    layers: list[keras.layers.Layer] = []
    for number, filters in enumerate((128, 256, 512, 1024)):
        layers.append(keras.layers.Conv2D(filters, 4, strides=2, padding="same", use_bias=False))
        if number:
            layers.append(keras.layers.BatchNormalization())
        layers.append(keras.layers.ReLU())
    return keras.Sequential(
        [
            keras.Input(tuple(image_shape)),
            keras.layers.Rescaling(2.0, offset=-1.0),
            *layers,
            keras.layers.Flatten(),
            keras.layers.Dense(code_size, name="code"),
        ],
        name="encoder",
    )


def build_mnist_large_classifier(code_size: int = 4, classes: int = 10) -> keras.Model:
    """The authors' classifier: 500 and 256 units with BatchNorm."""
    layers: list[keras.layers.Layer] = []
    for units in (500, 256):
        layers += [keras.layers.Dense(units), keras.layers.BatchNormalization(), keras.layers.ReLU()]
    return keras.Sequential(
        [keras.Input((code_size,)), *layers, keras.layers.Dense(classes, name="logits")], name="classifier"
    )
