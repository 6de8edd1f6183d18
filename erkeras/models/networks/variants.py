"""What the paper's other rows change in a network: how the code is made, or that there is none (section 4.3)."""

from __future__ import annotations

import keras

from erkeras.models.layers import GaussianCode


def without_bottleneck(encoder: keras.Model, classes: int) -> tuple[keras.Model, keras.Model]:
    """The same network without a code: its last hidden layer goes straight into the logits.

    Args:
        encoder: Sequential, its last layer the code.
        classes: number of classes.
    """
    *hidden, _ = encoder.layers
    features = keras.Sequential([keras.Input(encoder.input_shape[1:]), *hidden], name="encoder")
    size = features.output_shape[-1]
    classifier = keras.Sequential([keras.Input((size,)), keras.layers.Dense(classes, name="logits")], name="classifier")
    return features, classifier


def with_gaussian_code(encoder: keras.Model, coefficient: float) -> keras.Model:
    """The same encoder with a stochastic code (`GaussianCode`).

    Args:
        encoder: Sequential, its last layer the code.
        coefficient: lambda.
    """
    *hidden, code = encoder.layers
    return keras.Sequential(
        [keras.Input(encoder.input_shape[1:]), *hidden, GaussianCode(code.units, coefficient, name="code")],
        name="encoder",
    )
