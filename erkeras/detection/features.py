"""What a detector looks at: the code, the combined code Z' of section 3.3, the last hidden layer, or every layer."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from erkeras.errors import InputError

#: ER1 looks at the encoder's output alone, ER2 at the combined code.
FEATURES = ("code", "combined")

_NONLINEARITIES = (
    keras.layers.Activation,
    keras.layers.ReLU,
    keras.layers.LeakyReLU,
    keras.layers.PReLU,
    keras.layers.ELU,
)
#: What leaves the distances between images as they were, up to a factor.
_PASSIVE = (
    keras.layers.InputLayer,
    keras.layers.Flatten,
    keras.layers.Reshape,
    keras.layers.Rescaling,
    keras.layers.Dropout,
)


def feature_function(encoder: keras.Model, features: str) -> Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor]]:
    """images -> (codes `[n, code_size]`, features `[n, size]`), in inference mode and in one pass.

    Raises:
        InputError: for an unknown kind of features, or an encoder whose layers cannot be read.
    """
    if features not in FEATURES:
        raise InputError(f"the detector's features are {features!r}: give one of {', '.join(FEATURES)}.")
    if features == "code":

        def code(images: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            codes = encoder(images, training=False)
            return codes, codes

        return code
    return combined_code(encoder)


def combined_code(encoder: keras.Model) -> Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor]]:
    """images -> (codes, combined codes): every hidden layer's output averaged over positions, then the code.

    A hidden layer's output is what its nonlinearity gives; the average over height and width leaves one number
    for each channel.

    Raises:
        InputError: for an encoder that is not Sequential or Functional, or has no hidden layer.
    """
    inputs, outputs, code = _symbolic_outputs(encoder, "encoder", ", or use the features 'code'")
    hidden = [output for layer, output in outputs if _is_hidden(layer) and output is not code]
    if not hidden:
        raise InputError("the encoder has no hidden layer with a nonlinearity: use the features 'code'.")
    inside = keras.Model(inputs, [*hidden, code])

    def combined(images: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        *outputs, codes = inside(images, training=False)
        return codes, tf.concat([*(_mean_over_positions(output) for output in outputs), codes], axis=1)

    return combined


def last_hidden_layer(
    encoder: keras.Model, classifier: keras.Model
) -> Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor]]:
    """images -> (codes, what the last nonlinearity before the logits gives), averaged over positions if there are any.

    Raises:
        InputError: for networks that are not Sequential or Functional, or without a hidden layer.
    """
    inputs, outputs, logits = _symbolic_outputs(classifier, "classifier")
    hidden = [output for layer, output in outputs if _is_hidden(layer) and output is not logits]
    if hidden:
        of_classifier = keras.Model(inputs, hidden[-1])

        def in_classifier(images: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            codes = encoder(images, training=False)
            return codes, _mean_over_positions(of_classifier(codes, training=False))

        return in_classifier
    inputs, outputs, code = _symbolic_outputs(encoder, "encoder")
    hidden = [output for layer, output in outputs if _is_hidden(layer)]
    if not hidden:
        raise InputError("the network has no hidden layer with a nonlinearity: KD-Detection looks at the last one.")
    of_encoder = keras.Model(inputs, [code, hidden[-1]])

    def in_encoder(images: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        codes, features = of_encoder(images, training=False)
        return codes, _mean_over_positions(features)

    return in_encoder


def all_layers(
    encoder: keras.Model, classifier: keras.Model
) -> Callable[[tf.Tensor], tuple[tf.Tensor, list[tf.Tensor]]]:
    """images -> (codes, the outputs `[n, size]` of every layer that computes, images first and softmax last).

    The softmax is float64: in float32 a confident network's are all the same.

    Raises:
        InputError: for networks that are not Sequential or Functional.
    """
    parts = []
    for name, network in (("encoder", encoder), ("classifier", classifier)):
        inputs, outputs, own = _symbolic_outputs(network, name)
        computed = [output for layer, output in outputs if not isinstance(layer, _PASSIVE)]
        parts.append(keras.Model(inputs, [own, *computed]))

    def layers(images: tf.Tensor) -> tuple[tf.Tensor, list[tf.Tensor]]:
        codes, *encoded = parts[0](images, training=False)
        logits, *classified = parts[1](codes, training=False)
        softmax = tf.nn.softmax(tf.cast(logits, tf.float64))
        # A size of its own for each, so that an empty batch has one too.
        found = [images, *encoded, *classified, softmax]
        return codes, [tf.reshape(output, [tf.shape(output)[0], math.prod(output.shape[1:])]) for output in found]

    return layers


def _symbolic_outputs(network: keras.Model, name: str, otherwise: str = "") -> tuple[Any, list[tuple[Any, Any]], Any]:
    """A network's symbolic input, each of its layers with its output, and its own output."""
    if not isinstance(network, (keras.Sequential, keras.Function)):  # the public base of Functional
        raise InputError(
            f"the {name} is a {type(network).__name__}, whose hidden layers cannot be read: give a Sequential or "
            f"Functional one{otherwise}."
        )
    if not isinstance(network, keras.Sequential):
        return network.inputs[0], [(layer, layer.output) for layer in network.layers], network.outputs[0]
    # Through its layers anew: `layer.output` of one that another network has too may belong to that network.
    inputs = keras.Input(network.input_shape[1:])
    outputs: list[Any] = []
    for layer in network.layers:
        outputs.append(layer(outputs[-1] if outputs else inputs))
    return inputs, list(zip(network.layers, outputs, strict=True)), outputs[-1]


def _mean_over_positions(output: tf.Tensor) -> tf.Tensor:
    return tf.reduce_mean(output, axis=list(range(1, output.shape.rank - 1)))


def _is_hidden(layer: keras.layers.Layer) -> bool:
    if isinstance(layer, _NONLINEARITIES):
        return True
    return getattr(layer, "activation", keras.activations.linear) is not keras.activations.linear
