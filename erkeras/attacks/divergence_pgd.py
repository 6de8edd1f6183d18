"""The inner maximisation of TRADES (Zhang et al. 2019, "Theoretically Principled Trade-off between Robustness and
Accuracy")."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from erkeras.attacks.attack import serializable
from erkeras.attacks.contract import Batch, Logits
from erkeras.attacks.losses import kullback_leibler
from erkeras.attacks.pgd import PGD
from erkeras.errors import InputError


@serializable
@dataclass(frozen=True)
class DivergencePGD(PGD):
    """PGD that asks for another prediction, whatever the label is: it ascends KL(p(x) || p(x_adv)) (equation 5).

    p(x), the softmax of the clean image's logits, is held fixed.

    Args:
        threat, steps, step_size, restarts, structured: as for `PGD`; its other settings have no meaning here.
        start_deviation: standard deviation of the normal start around the image, where the gradient is 0.

    Raises:
        InputError: as `PGD`, and for a deviation that is not positive.
    """

    start_deviation: float = 0.001

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.start_deviation < math.inf:
            raise InputError(f"DivergencePGD's start_deviation is {self.start_deviation}: give a number above 0.")
        if (self.loss, self.targets, self.random_start) != ("cross_entropy", 0, True):
            raise InputError("DivergencePGD was given a loss, targets or random_start: leave them out, it has its own.")

    @property
    def name(self) -> str:
        return "pgd-kl"

    def objective(self, batch: Batch, outputs: tf.Tensor, targets: tf.Tensor | None) -> tf.Tensor:
        return kullback_leibler(batch.clean_logits, outputs)

    def _plain_start(self, images: tf.Tensor, seeds: tf.Tensor, scale: Any) -> tf.Tensor:
        return self.threat.normal_start(images, seeds, self.start_deviation, scale)

    def _objective_in_training(
        self, logits: Logits, images: tf.Tensor, labels: tf.Tensor
    ) -> Callable[[tf.Tensor], tf.Tensor]:
        clean = tf.stop_gradient(logits(images))
        return lambda outputs: kullback_leibler(clean, outputs)
