"""Operations on tensors that attacks share."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from erkeras import randomness
from erkeras.attacks.contract import Logits
from erkeras.threat import ThreatModel


def where(condition: tf.Tensor, first: tf.Tensor, second: tf.Tensor) -> tf.Tensor:
    """Chooses by row, as `tf.where`: `condition` is `[n]`, the others `[n, ...]` of a known shape."""
    # As matrices: TensorFlow broadcasts a condition over three axes half as fast as over one.
    rows = [-1, math.prod(second.shape[1:])]
    chosen = tf.where(condition[:, tf.newaxis], tf.reshape(first, rows), tf.reshape(second, rows))
    return tf.reshape(chosen, tf.shape(first))


def gradient_of(tape: tf.GradientTape, outputs: tf.Tensor, points: tf.Tensor, weights: Any = None) -> tf.Tensor:
    """Takes a gradient that is zero where there is none: where a model breaks the path, and where it is no number."""
    gradient = tape.gradient(outputs, points, weights, unconnected_gradients=tf.UnconnectedGradients.ZERO)
    return tf.where(tf.math.is_finite(gradient), gradient, tf.zeros_like(gradient))


def ascend(
    logits: Logits, points: tf.Tensor, objective: Callable[[tf.Tensor], tf.Tensor]
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Looks up an objective: outputs `[n, classes]`, losses `[n]` and their gradient at points `[n, ...]`."""
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(points)
        outputs = logits(points)
        losses = objective(outputs)
    return outputs, losses, gradient_of(tape, losses, points)


def random_directions(threat: ThreatModel, images: tf.Tensor, seeds: tf.Tensor) -> tf.Tensor:
    """Draws a direction of length 1 for each image: from the sphere for l2, from the surface of the cube for l_inf.

    Args:
        threat: whose norm measures the length.
        images: float32 `[n, height, width, channels]`, for the shape.
        seeds: int64 `[n, 2]`.
    """
    keys, shape = randomness.row_keys(seeds), tf.shape(images)[1:]
    if threat.norm == "l2":
        return threat.steepest(randomness.normal(keys, shape))
    noise = 2 * randomness.uniform(keys, shape) - 1
    return noise / tf.maximum(tf.reduce_max(tf.abs(noise), axis=[1, 2, 3], keepdims=True), 1e-12)


def fused(function: Callable[..., Any]) -> Any:
    """Compiles a function of tensors by XLA where that saves time: on a CPU, whose operations each walk the memory.

    A GPU is fast enough without, and XLA would ask for a part of CUDA that many installations lack.
    """
    return tf.function(function, autograph=False, jit_compile=not tf.config.list_physical_devices("GPU"))
