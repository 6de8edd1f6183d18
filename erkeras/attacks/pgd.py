"""Projected gradient descent (Madry et al. 2018, "Towards Deep Learning Models Resistant to Adversarial Attacks")."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from erkeras.arguments import check_counts
from erkeras.attacks.attack import Attack, serializable
from erkeras.attacks.contract import Batch, Goal, Logits, State
from erkeras.attacks.losses import LOSSES, TRAINING_LOSSES, check_classes, check_loss, loss_name
from erkeras.attacks.targets import target_classes
from erkeras.attacks.tensors import ascend
from erkeras.errors import InputError
from erkeras.randomness import StartStream, draw

#: All steps together go this far, in units of epsilon: from any start to any point of the ball, and back a little.
REACH = 2.5


@serializable
@dataclass(frozen=True)
class PGD(Attack):
    """Ascends a loss from a random start of the ball: the one PGD of training and of evaluation.

        x <- project(x + step_size * sign(gradient))              l_inf
        x <- project(x + step_size * gradient / ||gradient||_2)   l2

    In evaluation every iterate is classified and the first that is misclassified ends the attempt; training takes the
    last iterate, and ascends the logits' cross-entropy as they are.

    Its name tells the losses apart: "pgd" (cross-entropy), "pgd-margin", "pgd-dlr"; with targets "pgd-t" (DLR),
    "pgd-t-ce", "pgd-t-margin".

    Example:
        PGD(ThreatModel("l_inf", 0.3), steps=40, restarts=5)(model, images, labels).robust_accuracy

    Args:
        threat: norm, epsilon, pixel bounds.
        steps: gradient steps.
        step_size: length of a step in the norm's unit; None for 2.5 epsilon / steps.
        restarts: attempts (for each target), each from a start of its own.
        random_start: start from a uniformly random point of the ball, or from the image itself.
        loss: "cross_entropy", "margin" or "dlr".
        targets: 0 for any other class; k to ask in turn for the k classes of the highest clean logits. In training,
            which knows no clean logits, it must be 0.
        structured: fraction of the random starts that are stripes and blocks of +-epsilon (l_inf), as Square's are.

    Raises:
        InputError: for an unknown loss or a number out of range.
    """

    steps: int = 40
    step_size: float | None = None
    restarts: int = 1
    random_start: bool = True
    loss: str = "cross_entropy"
    targets: int = 0
    structured: float = 0.0

    def __post_init__(self) -> None:
        check_counts("PGD", steps=self.steps, restarts=self.restarts)
        if self.step_size is not None and not 0 <= self.step_size < math.inf:
            raise InputError(f"PGD's step_size is {self.step_size}: give a finite number of 0 or more, or None.")
        if not 0 <= self.structured <= 1 or (self.structured and self.threat.norm != "l_inf"):
            raise InputError(
                f"PGD's structured is {self.structured} with the norm {self.threat.norm}: give a fraction from 0 to 1, "
                "and 0 for other norms than l_inf."
            )
        check_loss("PGD", self.loss, self.targets)

    @property
    def name(self) -> str:
        return "pgd" if (self.loss, self.targets) == ("cross_entropy", 0) else loss_name("pgd", self.loss, self.targets)

    @property
    def attempts(self) -> int:
        return (self.restarts if self.random_start else 1) * max(self.targets, 1)

    @property
    def length(self) -> int:
        return self.steps + 1

    @property
    def step_length(self) -> float:
        """Gives the length of a step in the norm's unit, where none was asked for too."""
        return REACH * self.threat.epsilon / self.steps if self.step_size is None else self.step_size

    def check(self, classes: int, image_shape: tuple[int, ...]) -> None:
        check_classes("PGD", self.loss, self.targets, classes)

    def initial(self, batch: Batch) -> State:
        return {"point": self.start(batch.images, batch.seeds)}

    def step(self, logits: Logits, batch: Batch, state: State) -> State:
        return self.step_towards(self, logits, batch, state)

    def step_towards(self, goal: Goal, logits: Logits, batch: Batch, state: State) -> State:
        """Takes one step of every slot towards a goal: its own loss, or that of an attack which holds this one."""
        targets = target_classes(batch, self.targets)
        point = state["point"]
        outputs, losses, gradient = ascend(logits, point, lambda outputs: goal.objective(batch, outputs, targets))
        return {
            "point": self._move(point, gradient, batch.images, 1.0),
            **goal.observe(batch, state, point, outputs, losses),
        }

    def perturb(
        self, logits: Logits, images: tf.Tensor, labels: tf.Tensor, seeds: tf.Tensor, scale: Any = 1.0
    ) -> tf.Tensor:
        if self.targets:
            raise InputError(f"PGD's targets are {self.targets}: training takes an adversary without targets.")
        start = self.start(images, seeds, scale)

        def objective(outputs: tf.Tensor) -> tf.Tensor:
            return TRAINING_LOSSES[self.loss](labels, outputs)

        return self.perturb_from(start, logits, images, objective, scale)

    def perturb_from(
        self,
        start: tf.Tensor,
        logits: Logits,
        images: tf.Tensor,
        objective: Callable[[tf.Tensor], tf.Tensor],
        scale: Any,
    ) -> tf.Tensor:
        """Ascends an objective (outputs -> `[n]`) from a start, and takes the last iterate; see `perturb`."""

        def step(adversarial: tf.Tensor) -> tuple[tf.Tensor]:
            _, _, gradient = ascend(logits, adversarial, objective)
            return (self._move(adversarial, gradient, images, scale),)

        # One step at a time: iterations in parallel would only cost memory.
        (adversarial,) = tf.while_loop(
            lambda _: True, step, (start,), maximum_iterations=self.steps, parallel_iterations=1
        )
        return tf.stop_gradient(adversarial)

    def clean_loss(self, batch: Batch, outputs: tf.Tensor) -> tf.Tensor:
        return self.objective(batch, outputs, target_classes(batch, self.targets))

    def objective(self, batch: Batch, outputs: tf.Tensor, targets: tf.Tensor | None) -> tf.Tensor:
        """Gives what evaluation ascends, `[n]`."""
        return LOSSES[self.loss](batch.labels, outputs, targets)

    def start(self, images: tf.Tensor, seeds: tf.Tensor, scale: Any = 1.0) -> tf.Tensor:
        """Gives where the attempts at images begin; arguments as for `perturb`."""
        if not self.random_start:
            return images
        return self.mix_starts(self.threat.random_start(images, seeds, scale), images, seeds, scale)

    def mix_starts(self, plain: tf.Tensor, images: tf.Tensor, seeds: tf.Tensor, scale: Any) -> tf.Tensor:
        """Puts structured starts into the place of a fraction of plain ones."""
        if not self.structured:
            return plain
        drawn = draw("uniform", [tf.shape(images)[0], 1, 1, 1], seeds, StartStream.KIND, images.dtype)
        return tf.where(drawn < self.structured, self.threat.structured_start(images, seeds, scale), plain)

    def _move(self, point: tf.Tensor, gradient: tf.Tensor, images: tf.Tensor, scale: Any) -> tf.Tensor:
        direction = self.threat.steepest(gradient)
        return self.threat.project(point + self.step_length * tf.cast(scale, point.dtype) * direction, images, scale)
