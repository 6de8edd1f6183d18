"""Layers of the networks that the paper compares with."""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Iterator
from typing import Any

import keras
import tensorflow as tf

from erkeras.errors import InputError
from erkeras.models.precision import at_least_float32
from erkeras.randomness import draw_rows


@keras.saving.register_keras_serializable("erkeras")
class GaussianCode(keras.layers.Layer):
    """Samples a code from N(mean, diag(variance)) of each image, as a variational autoencoder does (VAE-CLA).

    In training it draws a sample and adds to the loss what is between that distribution and the prior (Kingma and
    Welling 2014, appendix B), the mean over images of

        coefficient KL(N(mean, diag(variance)) || N(0, I)) = coefficient / 2 sum(mean^2 + variance - log variance - 1)

    In inference it gives the mean. The divergence is of each image's distribution, which a sample does not show:
    so it is a layer's, where other regularizers look at codes alone.

    Example:
        encoder = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Flatten(), GaussianCode(16)])

    Args:
        units: size of the code.
        coefficient: lambda, 0 or more.

    Raises:
        InputError: for a negative coefficient.
    """

    def __init__(self, units: int, coefficient: float = 1e-3, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if not coefficient >= 0:
            raise InputError(f"the coefficient (lambda) of the Gaussian code is {coefficient}: give 0 or more.")
        self.units = units
        self.coefficient = coefficient
        self.mean = keras.layers.Dense(units, name="mean", dtype=self.dtype_policy)
        self.log_variance = keras.layers.Dense(
            units, name="log_variance", kernel_initializer="zeros", dtype=self.dtype_policy
        )
        self.seed_generator = keras.random.SeedGenerator()

    def build(self, input_shape: Any) -> None:
        self.mean.build(input_shape)
        self.log_variance.build(input_shape)
        self.built = True

    def call(self, inputs: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        mean = self.mean(inputs)
        if not training:
            return mean
        log_variance = self.log_variance(inputs)
        self.add_loss(self.coefficient * _divergence(at_least_float32(mean), at_least_float32(log_variance)))
        noise = _noise(mean, self.seed_generator)
        return mean + tf.exp(log_variance / 2) * noise

    def compute_output_shape(self, input_shape: Any) -> tuple:
        return (*input_shape[:-1], self.units)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "units": self.units, "coefficient": self.coefficient}


def _noise(like: tf.Tensor, seed_generator: keras.random.SeedGenerator) -> tf.Tensor:
    """Standard normal numbers of a tensor's shape and dtype, new at every call."""
    # The generators of all replicas are at the same number.
    return draw_rows(lambda shape: keras.random.normal(shape, dtype=like.dtype, seed=seed_generator), tf.shape(like))


def _divergence(mean: tf.Tensor, log_variance: tf.Tensor) -> tf.Tensor:
    return tf.reduce_mean(tf.reduce_sum(mean**2 + tf.exp(log_variance) - log_variance - 1, axis=1) / 2)


_PASS: contextvars.ContextVar[Any] = contextvars.ContextVar("pass", default=0)


@contextlib.contextmanager
def noise_of_pass(number: Any) -> Iterator[None]:
    """Lets noise layers draw the noise of this pass in prediction, an int or int32 scalar; else of pass 0."""
    token = _PASS.set(number)
    try:
        yield
    finally:
        _PASS.reset(token)


@keras.saving.register_keras_serializable("erkeras")
class NoiseLayer(keras.layers.Layer):
    """Adds N(0, standard_deviation^2) to its input, in training and in prediction (RSE, Liu et al. 2018, section 3).

    In training the noise is new at every step. In prediction it is a function of (number, pass, position in the
    image) alone, the same for every image: an image's logits depend neither on its neighbours nor on what was asked
    before, and the attacker, who is granted the noise too, has exact gradients. The passes of `noise_of_pass` are
    the members of the ensemble.

    Example:
        noisy = [keras.Input((8, 8, 1)), NoiseLayer(0.2), keras.layers.Conv2D(16, 3), NoiseLayer(0.1, number=1)]
        encoder = keras.Sequential([*noisy, keras.layers.Flatten(), keras.layers.Dense(16)])

    Args:
        standard_deviation: of the noise, 0 or more.
        number: tells the noise layers of one network apart.

    Raises:
        InputError: for a negative standard deviation.
    """

    def __init__(self, standard_deviation: float, number: int = 0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if not standard_deviation >= 0:
            raise InputError(f"the noise has the standard deviation {standard_deviation}: give 0 or more.")
        self.standard_deviation = standard_deviation
        self.number = number
        self.seed_generator = keras.random.SeedGenerator()
        self.built = True

    def call(self, inputs: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        if training:
            noise = _noise(inputs, self.seed_generator)
        else:
            key = tf.stack([self.number, _PASS.get()])
            noise = tf.cast(tf.random.stateless_normal(tf.shape(inputs)[1:], key, alg="philox"), inputs.dtype)
        return inputs + self.standard_deviation * noise

    def compute_output_shape(self, input_shape: Any) -> tuple:
        return tuple(input_shape)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "standard_deviation": self.standard_deviation, "number": self.number}
