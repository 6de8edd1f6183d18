"""The words that attacks and their runner share."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

Logits = Callable[[tf.Tensor], tf.Tensor]
#: What an attempt knows between two steps: tensors whose first axis is the batch.
State = dict[str, tf.Tensor]

#: Images that a model under attack sees at once.
INTERNAL_BATCH = 128


class Batch(NamedTuple):
    """What the slots of the internal batch are about.

    Attributes:
        images: float32 `[n, height, width, channels]`, as they came.
        labels: int32 `[n]`.
        clean_logits: float32 `[n, classes]`, the model's outputs for `images`.
        seeds: int64 `[n, 2]`, different for each (seed, attempt) and (original) index of an image.
        attempt: int32 `[n]`, from 0 to `attempts` - 1.
    """

    images: tf.Tensor
    labels: tf.Tensor
    clean_logits: tf.Tensor
    seeds: tf.Tensor
    attempt: tf.Tensor


@dataclass(frozen=True)
class Attacked:
    """What an attack made of n images.

    Attributes:
        images: float32 `[n, height, width, channels]`; the image itself where it was misclassified from the
            start; else an adversarial image where the attack found one (the nearest, for an attack that minimises
            the perturbation, even outside the ball); else the attempt of the highest loss.
        success: bool `[n]`, true where `images` are what the attacker wants (the model misclassifies them) and within
            the threat model.
        wrong_when_clean: bool `[n]`, true where that was so from the start.
        predictions: int32 `[n]`, the model's label for `images`.
        clean_predictions: int32 `[n]`, its label for the images as they came.
        distance: float32 `[n]`, norm of the perturbation in the attack's threat model.
        queries: int64 `[n]`, forward passes spent on each image, the clean one included.
        gradients: int64 `[n]`, backward passes spent on each image.
        outputs: what the model's outputs were taken for: "logits", "probabilities", "logits before the softmax" or
            "labels".
    """

    images: np.ndarray
    success: np.ndarray
    wrong_when_clean: np.ndarray
    predictions: np.ndarray
    clean_predictions: np.ndarray
    distance: np.ndarray
    queries: np.ndarray
    gradients: np.ndarray
    outputs: str

    @property
    def robust_accuracy(self) -> float:
        """Fraction of images that are classified correctly, clean and attacked."""
        return float(np.mean(~self.success))

    def followed_by(self, other: Attacked, rows: np.ndarray) -> Attacked:
        """This, with what another attack then made of some rows of the same images."""
        merged = {name: np.copy(value) for name, value in vars(self).items() if name != "outputs"}
        for name in ("images", "success", "predictions", "distance"):
            merged[name][rows] = getattr(other, name)
        merged["queries"][rows] += other.queries
        merged["gradients"][rows] += other.gradients
        return Attacked(**merged, outputs=self.outputs)


def where(condition: tf.Tensor, first: tf.Tensor, second: tf.Tensor) -> tf.Tensor:
    """`tf.where` by row: `condition` is `[n]`, the others `[n, ...]` of a known shape."""
    # As matrices: TensorFlow broadcasts a condition over three axes half as fast as over one.
    rows = [-1, math.prod(second.shape[1:])]
    chosen = tf.where(condition[:, tf.newaxis], tf.reshape(first, rows), tf.reshape(second, rows))
    return tf.reshape(chosen, tf.shape(first))


def gradient_of(tape: tf.GradientTape, outputs: tf.Tensor, points: tf.Tensor, weights: Any = None) -> tf.Tensor:
    """`tape.gradient` that is zero, not None, where a model breaks the path: rounding, a look-up, integers."""
    return tape.gradient(outputs, points, weights, unconnected_gradients=tf.UnconnectedGradients.ZERO)
