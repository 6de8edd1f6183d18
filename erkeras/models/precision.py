"""Precision: what is taken in float32 under any policy, and the adversary's passes in bfloat16."""

from __future__ import annotations

from collections.abc import Callable

import keras
import tensorflow as tf

from erkeras.errors import InputError


def at_least_float32(tensor: tf.Tensor) -> tf.Tensor:
    """Casts float16 and bfloat16 to float32, as Keras does before a loss; leaves float32 and float64 as they are."""
    return tf.cast(tensor, tf.float32) if tensor.dtype in (tf.float16, tf.bfloat16) else tensor


def in_bfloat16(*networks: keras.Model) -> Callable[[tf.Tensor], tf.Tensor]:
    """Computes networks one after the other in bfloat16, in inference mode, and returns the images' dtype.

    The networks' own float32 variables are read at each call, so what it computes follows training.

    Raises:
        InputError: for a network that is not Sequential or Functional, which cannot be built again in bfloat16.
    """
    twins = [(network, _twin(network)) for network in networks]

    def run(images: tf.Tensor) -> tf.Tensor:
        outputs = images
        for network, twin in twins:
            outputs, _ = twin.stateless_call(
                network.trainable_variables, network.non_trainable_variables, outputs, training=False
            )
        return tf.cast(outputs, images.dtype)

    return run


def _twin(network: keras.Model) -> keras.Model:
    if not isinstance(network, (keras.Sequential, keras.Function)):  # the public base of Functional
        raise InputError(
            f"inner_bfloat16 was asked for a {type(network).__name__}: give Sequential or Functional networks."
        )

    def rebuild(layer: keras.layers.Layer) -> keras.layers.Layer:
        return type(layer).from_config({**layer.get_config(), "dtype": "mixed_bfloat16"})

    return keras.models.clone_model(network, clone_function=rebuild, recursive=True)
