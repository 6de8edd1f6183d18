"""Projected gradient descent (Madry et al. 2018, "Towards Deep Learning Models Resistant to Adversarial Attacks")."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from erkeras.attacks.attack import Attack, serializable
from erkeras.attacks.contract import Batch, Logits, State, gradient_of
from erkeras.attacks.losses import LOSSES, check_classes, check_loss
from erkeras.attacks.targets import target_classes
from erkeras.errors import InputError
from erkeras.threat import draw

#: Stream of a start's random numbers, after the threat model's own.
_CHOICE = 9


@serializable
@dataclass(frozen=True)
class PGD(Attack):
    """Ascends a loss from a random start of the ball: the one PGD of training and of evaluation.

        x <- project(x + step_size * sign(gradient))              l_inf
        x <- project(x + step_size * gradient / ||gradient||_2)   l2

    In evaluation every iterate is judged and the first that is misclassified ends the attempt; training takes the
    last iterate.

    Args:
        threat: norm, epsilon, pixel bounds.
        steps: gradient steps.
        step_size: length of a step in the norm's unit; None for 2.5 epsilon / steps.
        restarts: attempts (for each target), each from a start of its own.
        random_start: start from a uniformly random point of the ball, or from the image itself.
        loss: "cross_entropy", "margin" or "dlr".
        targets: 0 for any other class; k to ask in turn for the k classes of the highest clean logits. In training,
            which knows no clean logits, it must be 0.
        structured: portion of the random starts that are stripes and blocks of +-epsilon (l_inf), as Square's are.
    """

    steps: int = 40
    step_size: float | None = None
    restarts: int = 1
    random_start: bool = True
    loss: str = "cross_entropy"
    targets: int = 0
    structured: float = 0.0

    def __post_init__(self) -> None:
        for field in ("steps", "restarts"):
            if getattr(self, field) < 1:
                raise InputError(f"PGD's {field} is {getattr(self, field)}: give a whole number of 1 or more.")
        if self.step_size is not None and not self.step_size >= 0:
            raise InputError(f"PGD's step_size is {self.step_size}: give a number of 0 or more, or None.")
        if not 0 <= self.structured <= 1 or (self.structured and self.threat.norm != "l_inf"):
            raise InputError(
                f"PGD's structured is {self.structured} with the norm {self.threat.norm}: give a portion from 0 to 1, "
                "and 0 for other norms than l_inf."
            )
        check_loss("PGD", self.loss, self.targets)

    @property
    def name(self) -> str:
        return "pgd"

    @property
    def attempts(self) -> int:
        return (self.restarts if self.random_start else 1) * max(self.targets, 1)

    @property
    def length(self) -> int:
        return self.steps + 1

    def check(self, classes: int, image_shape: tuple[int, ...]) -> None:
        check_classes("PGD", self.loss, self.targets, classes)

    def initial(self, batch: Batch) -> State:
        return {"point": self._start(batch.images, batch.seeds)}

    def step(self, logits: Logits, batch: Batch, state: State) -> State:
        targets = target_classes(batch, self.targets)
        point = state["point"]
        outputs, losses, gradient = _ascent(logits, point, lambda outputs: self.objective(batch, outputs, targets))
        return {
            "point": self._move(point, gradient, batch.images, 1.0),
            **self.observe(batch, state, point, outputs, losses),
        }

    def perturb(
        self, logits: Logits, images: tf.Tensor, labels: tf.Tensor, seeds: tf.Tensor, scale: Any = 1.0
    ) -> tf.Tensor:
        if self.targets:
            raise InputError(f"PGD's targets are {self.targets}: training takes an adversary without targets.")

        objective = self._objective_in_training(logits, images, labels)

        def step(adversarial: tf.Tensor) -> tuple[tf.Tensor]:
            _, _, gradient = _ascent(logits, adversarial, objective)
            return (self._move(adversarial, gradient, images, scale),)

        start = self._start(images, seeds, scale)
        # One step at a time: iterations in parallel would only cost memory.
        (adversarial,) = tf.while_loop(
            lambda _: True, step, (start,), maximum_iterations=self.steps, parallel_iterations=1
        )
        return tf.stop_gradient(adversarial)

    def objective(self, batch: Batch, outputs: tf.Tensor, targets: tf.Tensor | None) -> tf.Tensor:
        """What evaluation ascends, `[n]`."""
        return LOSSES[self.loss](batch.labels, outputs, targets)

    def _start(self, images: tf.Tensor, seeds: tf.Tensor, scale: Any = 1.0) -> tf.Tensor:
        if not self.random_start:
            return images
        start = self._plain_start(images, seeds, scale)
        if not self.structured:
            return start
        drawn = draw("uniform", [tf.shape(images)[0], 1, 1, 1], seeds, _CHOICE, images.dtype)
        return tf.where(drawn < self.structured, self.threat.structured_start(images, seeds, scale), start)

    def _plain_start(self, images: tf.Tensor, seeds: tf.Tensor, scale: Any) -> tf.Tensor:
        return self.threat.random_start(images, seeds, scale)

    def _objective_in_training(
        self, logits: Logits, images: tf.Tensor, labels: tf.Tensor
    ) -> Callable[[tf.Tensor], tf.Tensor]:
        """What training ascends: logits `[n, classes]` -> `[n]`."""
        return lambda outputs: LOSSES[self.loss](labels, outputs)

    def _move(self, point: tf.Tensor, gradient: tf.Tensor, images: tf.Tensor, scale: Any) -> tf.Tensor:
        step_size = 2.5 * self.threat.epsilon / self.steps if self.step_size is None else self.step_size
        direction = self.threat.steepest(gradient)
        return self.threat.project(point + step_size * tf.cast(scale, point.dtype) * direction, images, scale)


def _ascent(
    logits: Logits, point: tf.Tensor, objective: Callable[[tf.Tensor], tf.Tensor]
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Outputs, losses and the losses' gradient at a point."""
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(point)
        outputs = logits(point)
        losses = objective(outputs)
    return outputs, losses, gradient_of(tape, losses, point)
