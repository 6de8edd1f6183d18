"""The contract of every attack: settings in an immutable object, one pure TensorFlow function, one runner.

A new attack is a frozen dataclass with a `perturb`. Training calls `perturb` inside its compiled step; evaluation
calls the attack itself, which runs the same function on one fixed, padded internal batch, so that a verdict does
not depend on how many images it came with, on their order, or on the worker.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self

import keras
import numpy as np
import tensorflow as tf

from erkeras.attacks.victim import Victim, as_victim, padded_batches
from erkeras.errors import InputError
from erkeras.threat import ThreatModel

Logits = Callable[[tf.Tensor], tf.Tensor]


@dataclass(frozen=True)
class Attacked:
    """What an attack made of n images.

    Attributes:
        images: float32 `[n, height, width, channels]`; the image itself where it was misclassified from the
            start, else an adversarial image where the attack succeeded, else the attempt of the highest loss.
        success: bool `[n]`, true where the model misclassifies `images`.
        predictions: int32 `[n]`, the model's label for `images`.
        clean_predictions: int32 `[n]`, its label for the images as they came.
        distance: float32 `[n]`, norm of the perturbation in the attack's threat model.
        queries: int64 `[n]`, forward passes spent on each image, the clean one included.
        outputs: what the model's outputs were taken for: "logits", "probabilities" or "logits before the softmax".
    """

    images: np.ndarray
    success: np.ndarray
    predictions: np.ndarray
    clean_predictions: np.ndarray
    distance: np.ndarray
    queries: np.ndarray
    outputs: str

    @property
    def robust_accuracy(self) -> float:
        """Fraction of images that are classified correctly, clean and attacked."""
        return float(np.mean(~self.success))


@dataclass(frozen=True)
class Attack:
    """Base of all attacks.

    Args:
        threat: what the attack may do to an image.
    """

    threat: ThreatModel = field(default_factory=ThreatModel)

    name: ClassVar[str]

    @property
    def rounds(self) -> int:
        """How often `perturb` is tried, each time on the images that still stand."""
        return 1

    @property
    def forward_passes(self) -> int:
        """Forward passes of one `perturb`."""
        raise NotImplementedError

    def perturb(
        self, logits: Logits, images: tf.Tensor, labels: tf.Tensor, seeds: tf.Tensor, scale: Any = 1.0
    ) -> tf.Tensor:
        """One attempt at every image, as a pure function of its arguments.

        Args:
            logits: images `[n, height, width, channels]` -> logits `[n, classes]`.
            images: float, within the pixel bounds.
            labels: int `[n]`.
            seeds: int `[2]` for the whole batch or `[n, 2]`, one for each image.
            scale: scalar in [0, 1]; the attack acts with `scale * epsilon` (epsilon warm-up while training).

        Returns:
            Images like `images`, within the threat model.
        """
        raise NotImplementedError

    def __call__(
        self,
        model: Any,
        images: Any,
        labels: Any,
        *,
        seed: int = 0,
        indices: Any = None,
        batch_size: int = 128,
        progress: Callable[[int], None] | None = None,
    ) -> Attacked:
        """Attacks every image; rounds after the first go to the images that still stand.

        Args:
            model: a `keras.Model`, a loaded SavedModel, a function from images to logits, or a `Victim`.
            images: `[n, height, width, channels]` within the pixel bounds of the threat model.
            labels: int `[n]`.
            seed: random numbers come from (seed, round, index of the image) alone.
            indices: int `[n]`, the images' original indices; their positions by default.
            batch_size: size of the internal batch, to which the last one is padded.
            progress: called with the number of images whose round is done; it sums to n x `rounds`.

        Raises:
            InputError: for images or labels that do not fit each other, the bounds or the model.
        """
        images, labels, indices = self._check(images, labels, indices)
        victim = as_victim(model)
        clean_predictions, classes = victim.predict(images, batch_size)
        if labels.size and (labels.min() < 0 or labels.max() >= classes):
            raise InputError(
                f"the labels run from {labels.min()} to {labels.max()}, and the model has {classes} outputs: "
                f"give labels from 0 to {classes - 1}."
            )

        adversarial = images.copy()
        predictions = clean_predictions.copy()
        success = clean_predictions != labels
        queries = np.ones(len(images), np.int64)
        best_loss = np.full(len(images), -np.inf, np.float32)
        run = victim.function(self, self._attempt)
        report = progress or (lambda _: None)
        for number in range(self.rounds):
            standing = np.flatnonzero(~success)
            report(len(images) - len(standing))
            for rows, count in padded_batches(standing, batch_size):
                seeds = np.stack([np.full(batch_size, seed + (number << 32), np.int64), indices[rows]], axis=1)
                found, labelled, loss = (
                    output.numpy()[:count]
                    for output in run(tf.constant(images[rows]), tf.constant(labels[rows]), tf.constant(seeds))
                )
                rows = rows[:count]
                queries[rows] += self.forward_passes + 1
                success[rows] = labelled != labels[rows]
                better = success[rows] | (loss > best_loss[rows])
                adversarial[rows[better]] = found[better]
                predictions[rows[better]] = labelled[better]
                best_loss[rows[better]] = loss[better]
                report(count)

        distance = _in_batches(self.threat.distance, adversarial, images)
        return Attacked(adversarial, success, predictions, clean_predictions, distance, queries, victim.outputs)

    def _attempt(self, logits: Logits, images: tf.Tensor, labels: tf.Tensor, seeds: tf.Tensor) -> Any:
        adversarial = self.perturb(logits, images, labels, seeds)
        outputs = logits(adversarial)
        loss = cross_entropy(labels, outputs)
        return adversarial, tf.argmax(outputs, axis=1, output_type=tf.int32), loss

    def _check(self, images: Any, labels: Any, indices: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        images = np.asarray(images, np.float32)
        labels = np.asarray(labels).astype(np.int32).reshape(-1)
        indices = np.arange(len(images)) if indices is None else np.asarray(indices)
        if images.ndim != 4:
            raise InputError(
                f"the images have shape {images.shape}: give [n, height, width, channels], with channels 1 for grey."
            )
        if not len(images) == len(labels) == len(indices):
            raise InputError(
                f"there are {len(images)} images, {len(labels)} labels and {len(indices)} indices: "
                "give one label, and one index, for each image."
            )
        lower, upper = self.threat.lower, self.threat.upper
        if not np.all((images >= lower) & (images <= upper)):  # false for NaN too
            raise InputError(f"some pixels are outside [{lower:g}, {upper:g}] or not numbers: scale the images.")
        return images, labels, indices.astype(np.int64)

    def get_config(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        return cls(**{**config, "threat": ThreatModel(**config["threat"])})


def cross_entropy(labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """Softmax cross-entropy, `[n]`, as `log(1 + exp(z))` of the other classes' log-sum-exp less the label's logit.

    TensorFlow's own takes 1 from the label's probability: where float32 has rounded that to 1 (a lead of 17), its
    gradient forgets the label, and an attack on a confident model goes astray.
    """
    own = tf.cast(tf.one_hot(labels, tf.shape(logits)[1]), tf.bool)
    others = tf.reduce_logsumexp(tf.where(own, tf.constant(float("-inf"), logits.dtype), logits), axis=1)
    return tf.math.softplus(others - tf.gather(logits, labels, batch_dims=1))


def serializable(cls: type) -> type:
    """Registers a class with Keras as `erkeras>NAME`, so that a saved model can name it."""
    return keras.saving.register_keras_serializable("erkeras")(cls)


def _in_batches(function: Callable, *arrays: np.ndarray, size: int = 1024) -> np.ndarray:
    def parts() -> Iterator[np.ndarray]:
        for start in range(0, len(arrays[0]), size):
            yield function(*(array[start : start + size] for array in arrays)).numpy()

    return np.concatenate([*parts(), np.zeros(0, np.float32)])


__all__ = ["Attack", "Attacked", "Logits", "Victim", "serializable"]
