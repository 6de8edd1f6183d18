"""Changes a network as the paper's other rows do: another kind of code, or none (section 4.3)."""

from __future__ import annotations

from typing import Any

import keras

from erkeras.errors import InputError
from erkeras.models.layers import GaussianCode, NoiseLayer
from erkeras.models.networks.ends import classifier_of, end_dtype


def without_bottleneck(encoder: keras.Model, classes: int) -> tuple[keras.Model, keras.Model]:
    """Builds the same network without a code: logits directly from its last hidden layer.

    Args:
        encoder: Sequential or Functional, its last layer the code.
        classes: number of classes.
    """
    *hidden, code = encoder.layers
    if isinstance(encoder, keras.Sequential):
        features = keras.Sequential([keras.Input(encoder.input_shape[1:]), *hidden], name="encoder")
    else:
        features = keras.Model(encoder.input, code.input, name="encoder")
    size = features.output_shape[-1]
    return features, classifier_of(size, [], classes)


def with_gaussian_code(encoder: keras.Model, coefficient: float) -> keras.Model:
    """Builds the same encoder with a stochastic code (`GaussianCode`).

    Args:
        encoder: Sequential or Functional, its last layer the code.
        coefficient: lambda.

    Raises:
        InputError: for another encoder.
    """
    hidden, code = _layers(encoder, "a stochastic code (gaussian-kl)")
    if not isinstance(code, keras.layers.Dense) or code.activation is not keras.activations.linear:
        raise InputError(
            f"a stochastic code (gaussian-kl) was asked for, and the encoder ends in {code.name!r}: let it end in a "
            "Dense layer without an activation, or give another regularizer."
        )
    gaussian = GaussianCode(code.units, coefficient, name="code", dtype=end_dtype())
    if isinstance(encoder, keras.Sequential):
        return keras.Sequential([keras.Input(encoder.input_shape[1:]), *hidden, gaussian], name="encoder")
    return keras.Model(encoder.input, gaussian(code.input), name="encoder")


def with_noise(encoder: keras.Model, standard_deviation: float) -> keras.Model:
    """Builds the same encoder with noise in front of every convolution (RSE, Liu et al. 2018).

    Args:
        encoder: Sequential or Functional.
        standard_deviation: of the first noise layer, in [0, 1] pixels: it stands before the network's own
            normalisation. The others have half of it, as Liu et al. chose.

    Raises:
        InputError: for another encoder.
    """
    hidden, code = _layers(encoder, "noise before convolutions (rse)")
    layers = [*hidden, code]
    noises = {layers[0].name: NoiseLayer(standard_deviation)}  # by the layer that is behind
    convolutions = [layer for layer in layers if isinstance(layer, keras.layers.Conv2D)]
    for number, layer in enumerate(convolutions[1:], 1):
        before = layer.input._keras_history.operation
        padded = isinstance(before, keras.layers.ZeroPadding2D)  # the zeros are the convolution's own
        noises[(before if padded else layer).name] = NoiseLayer(standard_deviation / 2, number=number)
    if isinstance(encoder, keras.Sequential):
        parts = [part for layer in layers for part in (noises.get(layer.name), layer) if part]
        return keras.Sequential([keras.Input(encoder.input_shape[1:]), *parts], name="encoder")

    def call(layer: keras.layers.Layer, inputs: Any, **options: Any) -> Any:
        return layer(noises[layer.name](inputs) if layer.name in noises else inputs, **options)

    return keras.models.clone_model(encoder, clone_function=lambda layer: layer, call_function=call)


def _layers(encoder: keras.Model, change: str) -> tuple[list[keras.layers.Layer], keras.layers.Layer]:
    """The layers but the input and the last, and the last."""
    known = isinstance(encoder, (keras.Sequential, keras.Function))  # the public base of Functional
    if not known or any(isinstance(layer, keras.Model) for layer in encoder.layers):
        kind = "has a model among its layers" if known else f"is a {type(encoder).__name__}"
        raise InputError(
            f"{change} was asked for, and the encoder {kind}: give one that is Sequential or Functional, with layers "
            "alone, or another defense."
        )
    *hidden, last = (layer for layer in encoder.layers if not isinstance(layer, keras.layers.InputLayer))
    return hidden, last
