"""The contract between attacks and whoever runs them: what is asked of an attack, and what comes of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
import tensorflow as tf

from erkeras.notebook import html_table
from erkeras.threat import ThreatModel

Logits = Callable[[tf.Tensor], tf.Tensor]
#: What an attempt knows between two steps: tensors whose first axis is the batch.
State = dict[str, tf.Tensor]

#: Images that a model under attack sees at once on a CPU.
INTERNAL_BATCH = 128


class Batch(NamedTuple):
    """Says what the slots of the internal batch are about.

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


@dataclass(frozen=True, repr=False)
class Attacked:
    """Holds what an attack made of n images.

    Attributes:
        images: float32 `[n, height, width, channels]`; the image itself where it was misclassified from the
            start; else an adversarial image where the attack found one (the nearest, for an attack that minimises
            the perturbation, even outside the ball); else the attempt of the highest loss.
        success: bool `[n]`, true where `images` are what the attacker wants (the model misclassifies them) and within
            the threat model.
        answered: bool `[n]`, false where the model gave what is no number for an image that was tried: neither a
            success nor robust.
        unconfirmed: bool `[n]`, true where an attempt broke the image and a plain pass has it right again, as where the
            model is randomised, or rounds otherwise there: no success.
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
    answered: np.ndarray
    unconfirmed: np.ndarray
    wrong_when_clean: np.ndarray
    predictions: np.ndarray
    clean_predictions: np.ndarray
    distance: np.ndarray
    queries: np.ndarray
    gradients: np.ndarray
    outputs: str

    def __repr__(self) -> str:
        """Says how it ended: a notebook shows this, and arrays would hide it."""
        if not len(self.success):
            return "Attacked(0 images)"
        wrong = self.wrong_when_clean.mean()
        return f"Attacked({len(self.success)} images, clean {1 - wrong:.1%}, robust {self.robust_accuracy:.1%})"

    def _repr_html_(self) -> str:
        """Shows the same as a table, in a notebook."""
        n = len(self.success)
        counts = {
            "right when clean": n - int(self.wrong_when_clean.sum()),
            "robust": int((~self.success & self.answered).sum()),
            "broken": int((self.success & ~self.wrong_when_clean).sum()),
        }
        rows = [[name, f"{count:,}", f"{count / n:.1%}" if n else ""] for name, count in counts.items()]
        return html_table(f"Attacked: {n} images, outputs: {self.outputs}", ["images", "number", "fraction"], rows)

    @property
    def robust_accuracy(self) -> float:
        """Gives the fraction of images that are classified correctly, clean and attacked."""
        return float(np.mean(~self.success & self.answered))

    def followed_by(self, other: Attacked, rows: np.ndarray) -> Attacked:
        """Adds what another attack then made of some rows of the same images."""
        merged = {name: np.copy(value) for name, value in vars(self).items() if name != "outputs"}
        for name in ("images", "success", "predictions", "distance"):
            merged[name][rows] = getattr(other, name)
        merged["answered"][rows] &= other.answered
        merged["unconfirmed"][rows] = (self.unconfirmed[rows] | other.unconfirmed) & ~other.success
        merged["queries"][rows] += other.queries
        merged["gradients"][rows] += other.gradients
        return Attacked(**merged, outputs=self.outputs)


class Steps(Protocol):
    """Lists what the runner asks of an attack, and the adapter of a model; `Attack` says what each means."""

    @property
    def threat(self) -> ThreatModel: ...
    @property
    def name(self) -> str: ...
    @property
    def knowledge(self) -> str: ...
    @property
    def outputs_per_class(self) -> int: ...
    @property
    def minimises(self) -> bool: ...
    @property
    def passes(self) -> tuple[int, int]: ...
    @property
    def attempts(self) -> int: ...
    @property
    def length(self) -> int: ...
    @property
    def work(self) -> int: ...
    def __hash__(self) -> int: ...
    def initial(self, batch: Batch) -> State: ...
    def step(self, logits: Logits, batch: Batch, state: State) -> State: ...
    def clean_loss(self, batch: Batch, outputs: tf.Tensor) -> tf.Tensor: ...
    def broken(self, labels: Any, outputs: Any) -> tf.Tensor: ...
    def predictions(self, outputs: Any) -> tf.Tensor: ...
    def check(self, classes: int, image_shape: tuple[int, ...]) -> None: ...


class Goal(Protocol):
    """Says what an attack by gradients ascends, and what it makes of the points that it visits."""

    def objective(self, batch: Batch, outputs: tf.Tensor, targets: tf.Tensor | None) -> tf.Tensor: ...
    def observe(
        self, batch: Batch, state: State, candidates: tf.Tensor, outputs: tf.Tensor, loss: tf.Tensor
    ) -> State: ...
