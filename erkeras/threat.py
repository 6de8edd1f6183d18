"""Defines what an attacker may do to an image: norm, size of the perturbation, bounds of a pixel."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import lazy_loader
import numpy as np

from erkeras.errors import InputError
from erkeras.randomness import StartStream, draw

if TYPE_CHECKING:
    import tensorflow as tf
else:
    tf = lazy_loader.load("tensorflow")

NORMS = ("l_inf", "l2")


@dataclass(frozen=True)
class ThreatModel:
    """Defines what an attacker may do: `norm(perturbation) <= epsilon`, with every pixel within its bounds.

    Example:
        ThreatModel("l_inf", epsilon=8 / 255)

    Args:
        norm: "l_inf" or "l2" (the Euclidean length over height x width x channels).
        epsilon: radius of the ball, in units of a pixel (`l_inf`) or of the image's Euclidean length (`l2`).
        lower, upper: bounds of a pixel; images outside a network are in [0, 1].

    Raises:
        InputError: for an unknown norm, bounds in the wrong order, or an epsilon that is negative, not finite,
            or (`l_inf`) larger than the range of a pixel.
    """

    norm: str = "l_inf"
    epsilon: float = 0.3
    lower: float = 0.0
    upper: float = 1.0

    def __post_init__(self) -> None:
        if self.norm not in NORMS:
            raise InputError(f"the norm is {self.norm!r}: give one of {', '.join(NORMS)}.")
        if not self.lower < self.upper:
            raise InputError(f"the pixel bounds are [{self.lower}, {self.upper}]: give the lower one first.")
        if not (math.isfinite(self.epsilon) and self.epsilon >= 0):
            raise InputError(f"epsilon is {self.epsilon}: give a number of 0 or more.")
        if self.norm == "l_inf" and self.epsilon > self.upper - self.lower:
            raise InputError(
                f"epsilon is {self.epsilon}, more than the range of a pixel: "
                f"give at most {self.upper - self.lower:g} for the norm l_inf."
            )

    @classmethod
    def root_mean_square(cls, epsilon: float, image_shape: Sequence[int]) -> ThreatModel:
        """Makes the l2 ball of a radius in the paper's unit (its "Notations"): a root mean square.

        Args:
            epsilon: `||perturbation||_2 / sqrt(height x width x channels)`.
            image_shape: (height, width, channels).
        """
        return cls("l2", epsilon * math.sqrt(math.prod(image_shape)))

    def project(self, images: Any, origins: Any, scale: Any = 1.0) -> tf.Tensor:
        """Projects images into the ball around `origins` and into the pixel bounds.

        For l2 that is the ball first and the bounds after: still inside both, since `origins` are within bounds.

        Args:
            images, origins: float `[n, height, width, channels]`.
            scale: scalar; the ball's radius is `scale * epsilon`.
        """
        images = tf.convert_to_tensor(images)
        radius = tf.cast(scale, images.dtype) * self.epsilon
        if self.norm == "l_inf":
            images = tf.clip_by_value(images, origins - radius, origins + radius)
        else:
            perturbations = images - origins
            length = _length(perturbations)
            images = origins + perturbations * tf.minimum(1.0, radius / tf.maximum(length, 1e-12))
        return tf.clip_by_value(images, self.lower, self.upper)

    def steepest(self, gradients: Any) -> tf.Tensor:
        """Finds the perturbations of norm 1 that gradients `[n, height, width, channels]` favour most (0 for 0)."""
        if self.norm == "l_inf":
            return tf.sign(gradients)
        # To a largest entry of 1 first: the square of a confident model's gradient is 0 in float32.
        axes = _pixel_axes(gradients)
        gradients /= tf.maximum(tf.reduce_max(tf.abs(gradients), axis=axes, keepdims=True), 1e-37)
        return gradients / tf.maximum(_length(gradients), 1e-15)

    def random_start(self, origins: Any, seeds: Any, scale: Any = 1.0) -> tf.Tensor:
        """Draws images uniformly from the ball around `origins`, and clips them to the pixel bounds.

        Args:
            origins: float `[n, height, width, channels]`.
            seeds: integers `[2]`, one draw for the whole batch, or `[n, 2]`, one for each image, which then gets
                the same start whatever its neighbours are.
            scale: scalar; the ball's radius is `scale * epsilon`.
        """
        origins = tf.convert_to_tensor(origins)
        radius = tf.cast(scale, origins.dtype) * self.epsilon
        if self.norm == "l_inf":
            noise = draw("uniform", tf.shape(origins), seeds, StartStream.POINT, origins.dtype)
            start = origins + radius * (2 * noise - 1)
        else:
            directions = draw("normal", tf.shape(origins), seeds, StartStream.POINT, origins.dtype)
            column = tf.concat([tf.shape(origins)[:1], tf.ones([tf.rank(origins) - 1], tf.int32)], 0)
            # The radius of a uniform point of a d-ball is distributed as U^(1/d).
            fractions = draw("uniform", column, seeds, StartStream.RADIUS, origins.dtype)
            dimensions = tf.cast(tf.reduce_prod(tf.shape(origins)[1:]), origins.dtype)
            start = origins + radius * fractions ** (1 / dimensions) * directions / _length(directions)
        return self.project(start, origins, scale)

    def structured_start(self, origins: Any, seeds: Any, scale: Any = 1.0) -> tf.Tensor:
        """Moves every pixel by +-radius, the same in a column, or in blocks of a seventh or a fourth of the side.

        Where Square begins and what it is made of; each image draws one of the three patterns. Norm l_inf.

        Args:
            origins, seeds, scale: as for `random_start`.

        Raises:
            InputError: for another norm.
        """
        if self.norm != "l_inf":
            raise InputError(f"structured starts were asked for the norm {self.norm}: use them with l_inf.")
        origins = tf.convert_to_tensor(origins)
        n, (height, width, channels) = tf.shape(origins)[0], origins.shape[1:]
        blocks = [(height, 1), *((-(-height // part), -(-width // part)) for part in (7, 4))]
        kind = draw("uniform", [n, 1, 1, 1], seeds, StartStream.PATTERN, origins.dtype) * len(blocks)
        pattern = tf.zeros_like(origins)
        for number, (rows, columns) in enumerate(blocks):
            shape = [n, -(-height // rows), -(-width // columns), channels]
            signs = tf.where(draw("uniform", shape, seeds, StartStream.BLOCKS + number, origins.dtype) < 0.5, -1.0, 1.0)
            signs = tf.gather(signs, [row // rows for row in range(height)], axis=1)
            signs = tf.gather(signs, [column // columns for column in range(width)], axis=2)
            pattern = tf.where(tf.floor(kind) == number, tf.cast(signs, origins.dtype), pattern)
        return self.project(origins + tf.cast(scale, origins.dtype) * self.epsilon * pattern, origins, scale)

    def normal_start(self, origins: Any, seeds: Any, deviation: float, scale: Any = 1.0) -> tf.Tensor:
        """Adds normal noise of a standard deviation, and projects. Seeds and scale are as for `random_start`."""
        origins = tf.convert_to_tensor(origins)
        noise = draw("normal", tf.shape(origins), seeds, StartStream.POINT, origins.dtype)
        return self.project(origins + deviation * noise, origins, scale)

    def distance(self, images: Any, origins: Any) -> tf.Tensor:
        """Computes the norm of each perturbation, `[n]`."""
        perturbations = tf.convert_to_tensor(images) - origins
        if self.norm == "l_inf":
            return tf.reduce_max(tf.abs(perturbations), axis=_pixel_axes(perturbations))
        return tf.reshape(_length(perturbations), [-1])

    def allows(self, distances: np.ndarray) -> np.ndarray:
        """Tells, bool `[n]`, whether perturbations of these norms are inside the ball, but for rounding."""
        return distances <= self.epsilon * (1 + 1e-5) + 1e-6


def _pixel_axes(images: Any) -> list[int]:
    return list(range(1, images.shape.rank))


def _length(perturbations: Any) -> tf.Tensor:
    return tf.sqrt(tf.reduce_sum(tf.square(perturbations), axis=_pixel_axes(perturbations), keepdims=True))
