"""Networks for scikit-learn's 8 x 8 digits, and other images of up to about 16 x 16."""

from __future__ import annotations

from collections.abc import Sequence

import keras


def build_digits_encoder(image_shape: Sequence[int] = (8, 8, 1), code_size: int = 16) -> keras.Model:
    """Images in [0, 1] -> codes `[n, code_size]`: two 3 x 3 convolutions, the second of stride 2, and 128 units."""
    return keras.Sequential(
        [
            keras.Input(tuple(image_shape)),
            keras.layers.Rescaling(2.0, offset=-1.0),
            keras.layers.Conv2D(32, 3, padding="same", activation="relu"),
            keras.layers.Conv2D(64, 3, strides=2, padding="same", activation="relu"),
            keras.layers.Flatten(),
            keras.layers.Dense(128, activation="relu"),
            keras.layers.Dense(code_size, name="code"),
        ],
        name="encoder",
    )


def build_digits_classifier(code_size: int = 16, classes: int = 10) -> keras.Model:
    """Codes `[n, code_size]` -> logits `[n, classes]`."""
    return keras.Sequential(
        [
            keras.Input((code_size,)),
            keras.layers.Dense(64, activation="relu"),
            keras.layers.Dense(classes, name="logits"),
        ],
        name="classifier",
    )
