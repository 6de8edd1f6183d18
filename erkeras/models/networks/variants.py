"""What the paper's other rows change in a network: how the code is made, or that there is none (section 4.3)."""

from __future__ import annotations

from typing import Any

import keras

from erkeras.models.layers import GaussianCode, NoiseLayer
from erkeras.models.networks.ends import classifier_of, end_dtype


def without_bottleneck(encoder: keras.Model, classes: int) -> tuple[keras.Model, keras.Model]:
    """The same network without a code: its last hidden layer goes straight into the logits.

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
    """The same encoder with a stochastic code (`GaussianCode`).

    Args:
        encoder: Sequential or Functional, its last layer the code.
        coefficient: lambda.
    """
    *hidden, code = encoder.layers
    gaussian = GaussianCode(code.units, coefficient, name="code", dtype=end_dtype())
    if isinstance(encoder, keras.Sequential):
        return keras.Sequential([keras.Input(encoder.input_shape[1:]), *hidden, gaussian], name="encoder")
    return keras.Model(encoder.input, gaussian(code.input), name="encoder")


def with_noise(encoder: keras.Model, standard_deviation: float) -> keras.Model:
    """The same encoder with noise in front of every convolution (RSE, Liu et al. 2018).

    Args:
        encoder: Sequential or Functional.
        standard_deviation: of the first noise layer, in [0, 1] pixels: it stands before the network's own
            normalisation. The others have half of it, as Liu et al. chose.
    """
    layers = [layer for layer in encoder.layers if not isinstance(layer, keras.layers.InputLayer)]
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
