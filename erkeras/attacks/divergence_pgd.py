"""The inner maximisation of TRADES (Zhang et al. 2019, "Theoretically Principled Trade-off between Robustness and
Accuracy")."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from erkeras.attacks.attack import Attack, serializable
from erkeras.attacks.contract import Batch, Logits, State
from erkeras.attacks.losses import kullback_leibler, rescaled_kullback_leibler
from erkeras.attacks.pgd import PGD
from erkeras.errors import InputError


@serializable
@dataclass(frozen=True)
class DivergencePGD(Attack):
    """Asks for another prediction, whatever the label is: PGD's steps along KL(p(x) || p(x_adv)) (equation 5).

    p(x), the softmax of the clean image's logits, is held fixed.

    Example:
        ERClassifier(encoder, classifier, adversary=DivergencePGD(threat, steps=10), objective=TRADES(6.0))

    Args:
        threat, steps, step_size, restarts, structured: as for `PGD`.
        start_deviation: standard deviation of the normal start around the image, where the gradient is 0.

    Raises:
        InputError: as `PGD`, and for a deviation that is not positive.
    """

    steps: int = 40
    step_size: float | None = None
    restarts: int = 1
    structured: float = 0.0
    start_deviation: float = 0.001

    name = "pgd-kl"

    def __post_init__(self) -> None:
        self._pgd  # noqa: B018  checks what both take
        if not 0 < self.start_deviation < math.inf:
            raise InputError(f"DivergencePGD's start_deviation is {self.start_deviation}: give a number above 0.")

    @property
    def _pgd(self) -> PGD:
        return PGD(self.threat, self.steps, self.step_size, self.restarts, structured=self.structured)

    @property
    def attempts(self) -> int:
        return self._pgd.attempts

    @property
    def length(self) -> int:
        return self._pgd.length

    def initial(self, batch: Batch) -> State:
        return {"point": self._start(batch.images, batch.seeds)}

    def step(self, logits: Logits, batch: Batch, state: State) -> State:
        return self._pgd.step_towards(self, logits, batch, state)

    def perturb(
        self, logits: Logits, images: tf.Tensor, labels: tf.Tensor, seeds: tf.Tensor, scale: Any = 1.0
    ) -> tf.Tensor:
        clean = tf.stop_gradient(logits(images))
        start = self._start(images, seeds, scale)
        return self._pgd.perturb_from(start, logits, images, lambda outputs: kullback_leibler(clean, outputs), scale)

    def objective(self, batch: Batch, outputs: tf.Tensor, targets: tf.Tensor | None) -> tf.Tensor:
        """Gives what evaluation ascends, `[n]`."""
        return rescaled_kullback_leibler(batch.clean_logits, outputs)

    def _start(self, images: tf.Tensor, seeds: tf.Tensor, scale: Any = 1.0) -> tf.Tensor:
        plain = self.threat.normal_start(images, seeds, self.start_deviation, scale)
        return self._pgd.mix_starts(plain, images, seeds, scale)
