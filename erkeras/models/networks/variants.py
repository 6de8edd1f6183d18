"""What the paper's other rows change in a network: how the code is made, or that there is none (section 4.3)."""

from __future__ import annotations

import keras

from erkeras.errors import InputError
from erkeras.models.layers import GaussianCode, NoiseLayer


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

    Raises:
        InputError: for another encoder.
    """
    *hidden, code = _layers(encoder, "a stochastic code (gaussian-kl)")
    if not isinstance(code, keras.layers.Dense) or code.activation is not keras.activations.linear:
        raise InputError(
            f"a stochastic code (gaussian-kl) was asked for, and the encoder ends in {code.name!r}: let it end in a "
            "Dense layer without an activation, or give another regularizer."
        )
    return keras.Sequential(
        [keras.Input(encoder.input_shape[1:]), *hidden, GaussianCode(code.units, coefficient, name="code")],
        name="encoder",
    )


def with_noise(encoder: keras.Model, standard_deviation: float) -> keras.Model:
    """The same encoder with noise in front of every convolution (RSE, Liu et al. 2018).

    Args:
        encoder: Sequential.
        standard_deviation: of the first noise layer, in [0, 1] pixels: it stands before the network's own
            normalisation. The others have half of it, as Liu et al. chose.

    Raises:
        InputError: for another encoder.
    """
    layers: list[keras.layers.Layer] = [NoiseLayer(standard_deviation)]
    convolutions = 0
    for layer in _layers(encoder, "noise before convolutions (rse)"):
        if isinstance(layer, keras.layers.Conv2D):
            if convolutions:
                layers.append(NoiseLayer(standard_deviation / 2, number=convolutions))
            convolutions += 1
        layers.append(layer)
    return keras.Sequential([keras.Input(encoder.input_shape[1:]), *layers], name="encoder")


def _layers(encoder: keras.Model, change: str) -> list[keras.layers.Layer]:
    if not isinstance(encoder, keras.Sequential):
        raise InputError(
            f"{change} was asked for, and the encoder is a {type(encoder).__name__}: give a Sequential one, or another "
            "defense."
        )
    return list(encoder.layers)
