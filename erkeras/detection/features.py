"""What a detector looks at: the code, and the combined code Z' of section 3.3."""

from __future__ import annotations

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
    if not isinstance(encoder, (keras.Sequential, keras.Function)):  # the public base of Functional
        raise InputError(
            f"the encoder is a {type(encoder).__name__}, whose hidden layers cannot be read: give a Sequential or "
            "Functional one, or use the features 'code'."
        )
    inputs, outputs, code = _symbolic_outputs(encoder)
    hidden = [
        output
        for layer, output in zip(encoder.layers, outputs, strict=True)
        if _is_hidden(layer) and output is not code
    ]
    if not hidden:
        raise InputError("the encoder has no hidden layer with a nonlinearity: use the features 'code'.")
    inside = keras.Model(inputs, [*hidden, code])

    def combined(images: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        *outputs, codes = inside(images, training=False)
        means = [tf.reduce_mean(output, axis=list(range(1, output.shape.rank - 1))) for output in outputs]
        return codes, tf.concat([*means, codes], axis=1)

    return combined


def _symbolic_outputs(encoder: keras.Model) -> tuple[Any, list[Any], Any]:
    """The encoder's symbolic input, the output of each of its layers, and its own."""
    if not isinstance(encoder, keras.Sequential):
        return encoder.inputs[0], [layer.output for layer in encoder.layers], encoder.outputs[0]
    # Through its layers anew: `layer.output` of one that another network has too may belong to that network.
    inputs = keras.Input(encoder.input_shape[1:])
    outputs: list[Any] = []
    for layer in encoder.layers:
        outputs.append(layer(outputs[-1] if outputs else inputs))
    return inputs, outputs, outputs[-1]


def _is_hidden(layer: keras.layers.Layer) -> bool:
    if isinstance(layer, _NONLINEARITIES):
        return True
    return getattr(layer, "activation", keras.activations.linear) is not keras.activations.linear
