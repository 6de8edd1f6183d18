"""Auto-PGD (Croce and Hein 2020, "Reliable Evaluation of Adversarial Robustness with an Ensemble of Diverse
Parameter-free Attacks", Section 3 and Algorithm 1)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from erkeras.arguments import check_counts
from erkeras.attacks.attack import Attack, serializable
from erkeras.attacks.contract import Batch, Goal, Logits, State
from erkeras.attacks.losses import LOSSES, check_classes, check_loss, loss_name
from erkeras.attacks.targets import target_classes
from erkeras.attacks.tensors import ascend, random_directions, where
from erkeras.errors import InputError

#: Weight of the gradient step against the last move (the paper's alpha), after the first step.
_ALPHA = 0.75


@serializable
@dataclass(frozen=True)
class APGD(Attack):
    """Ascends a loss with momentum from the ball's surface; the step size halves itself as progress stops.

        z    = project(x + step_size * steepest(gradient))
        next = project(x + alpha (z - x) + (1 - alpha) (x - previous))        alpha = .75, and 1 in the first step

    The step size starts at 2 epsilon. At checkpoints it is halved, and the attempt goes on from the best point so
    far, if since the last checkpoint the loss rose in at most `rho` of the steps, or if neither the step size nor
    the best loss changed. Every iterate is classified and the first that is misclassified ends the attempt.

    Its name tells the losses apart: "apgd-ce", "apgd-dlr", "apgd-margin"; with targets "apgd-t" (for dlr),
    "apgd-t-ce", "apgd-t-margin". The paper's APGD-T is `APGD(threat, loss="dlr", targets=9)`.

    Example:
        APGD(ThreatModel("l_inf", 0.3), loss="dlr", targets=9)(model, images, labels).robust_accuracy

    Args:
        threat: norm, epsilon, pixel bounds.
        loss: "cross_entropy", "margin" or "dlr".
        targets: 0 for any other class; k to ask in turn for the k classes of the highest clean logits.
        restarts: attempts (for each target), each from a start of its own.
        iterations: gradient steps; a point is classified before the first and after each.
        rho: fraction of steps in [0, 1] that must be exceeded by those in which the loss rose.
        eot: passes whose gradients are averaged at each point (expectation over transformation), for models that
            are randomised; the last of them classifies it.

    Raises:
        InputError: for an unknown loss or a number out of range.
    """

    loss: str = "cross_entropy"
    targets: int = 0
    restarts: int = 1
    iterations: int = 100
    rho: float = 0.75
    eot: int = 1

    def __post_init__(self) -> None:
        check_counts("APGD", restarts=self.restarts, iterations=self.iterations, eot=self.eot)
        if not 0 <= self.rho <= 1:
            raise InputError(f"APGD's rho is {self.rho}: give a number from 0 to 1.")
        check_loss("APGD", self.loss, self.targets)

    @property
    def name(self) -> str:
        return loss_name("apgd", self.loss, self.targets)

    @property
    def passes(self) -> tuple[int, int]:
        return (self.eot, self.eot)

    @property
    def attempts(self) -> int:
        return self.restarts * max(self.targets, 1)

    @property
    def length(self) -> int:
        return self.iterations + 1

    def check(self, classes: int, image_shape: tuple[int, ...]) -> None:
        check_classes("APGD", self.loss, self.targets, classes)

    def initial(self, batch: Batch) -> State:
        n = tf.shape(batch.labels)[0]
        start = self._start(batch)
        targets = target_classes(batch, self.targets)
        return {
            "point": start,
            "previous": start,
            "best_gradient": tf.zeros_like(start),
            "step_size": tf.fill([n], 2.0 * self.threat.epsilon),
            "rises": tf.zeros([n]),  # steps since the last checkpoint in which the loss rose
            "last_loss": tf.fill([n], np.inf),
            "best_loss_then": tf.fill([n], np.inf),  # at the last checkpoint
            "halved_then": tf.ones([n], tf.bool),
            **({} if targets is None else {"target": targets}),
        }

    def step(self, logits: Logits, batch: Batch, state: State) -> State:
        return self.step_towards(self, logits, batch, state)

    def step_towards(self, goal: Goal, logits: Logits, batch: Batch, state: State) -> State:
        """Takes one step of every slot towards a goal: its own loss, or that of an attack which holds this one."""
        outputs, losses, gradient = self._ascend(goal, logits, batch, state)
        best = losses > state["loss"]
        observed = goal.observe(batch, state, state["point"], outputs, losses)
        best_gradient = where(best, gradient, state["best_gradient"])

        rises = state["rises"] + tf.cast(losses > state["last_loss"], tf.float32)
        window = tf.gather(tf.constant(self._windows(), tf.float32), state["step"])
        checkpoint = window > 0
        stuck = ~state["halved_then"] & (observed["loss"] <= state["best_loss_then"])
        halve = checkpoint & ((rises <= self.rho * window) | stuck)

        step_size = tf.where(halve, state["step_size"] / 2, state["step_size"])
        point = where(halve, observed["found"], state["point"])
        gradient = where(halve, best_gradient, gradient)
        return {
            **observed,
            "point": self._move(batch.images, point, state["previous"], gradient, step_size, state["step"]),
            "previous": point,
            "best_gradient": best_gradient,
            "step_size": step_size,
            "rises": tf.where(checkpoint, 0.0, rises),
            "last_loss": losses,
            "best_loss_then": tf.where(checkpoint, observed["loss"], state["best_loss_then"]),
            "halved_then": tf.where(checkpoint, halve, state["halved_then"]),
        }

    def clean_loss(self, batch: Batch, outputs: tf.Tensor) -> tf.Tensor:
        return self.objective(batch, outputs, target_classes(batch, self.targets))

    def objective(self, batch: Batch, outputs: tf.Tensor, targets: tf.Tensor | None) -> tf.Tensor:
        """Gives what it ascends, `[n]`."""
        return LOSSES[self.loss](batch.labels, outputs, targets)

    def _start(self, batch: Batch) -> tf.Tensor:
        """A random direction at full length."""
        directions = random_directions(self.threat, batch.images, batch.seeds)
        return self.threat.project(batch.images + self.threat.epsilon * directions, batch.images)

    def _windows(self) -> np.ndarray:
        """For each step the length of the window that a checkpoint ends there (Section 3.1), else 0.

        p_1 = .22, p_{j+1} = p_j + max(p_j - p_{j-1} - .03, .06), in whole iterations.
        """
        first, shorter, shortest = (max(self.iterations * percent // 100, 1) for percent in (22, 3, 6))
        windows = np.zeros(self.length + 1)  # the step of a finished slot is the length
        window, checkpoint = first, first
        while checkpoint < self.length:
            windows[checkpoint] = window
            window = max(window - shorter, shortest)
            checkpoint += window
        return windows

    def _ascend(self, goal: Goal, logits: Logits, batch: Batch, state: State) -> Any:
        """Outputs and losses of the last pass, and the mean gradient of all."""

        def one_pass() -> Any:
            targets = state.get("target")
            return ascend(logits, state["point"], lambda outputs: goal.objective(batch, outputs, targets))

        outputs, losses, gradient = one_pass()
        if self.eot == 1:
            return outputs, losses, gradient

        def another(_: tf.Tensor, __: tf.Tensor, total: tf.Tensor) -> Any:
            outputs, losses, gradient = one_pass()
            return outputs, losses, total + gradient

        outputs, losses, total = tf.while_loop(
            lambda *_: True,
            another,
            (outputs, losses, gradient),
            maximum_iterations=self.eot - 1,
            parallel_iterations=1,
        )
        return outputs, losses, total / self.eot

    def _move(
        self,
        images: tf.Tensor,
        point: tf.Tensor,
        previous: tf.Tensor,
        gradient: tf.Tensor,
        step_size: tf.Tensor,
        step: tf.Tensor,
    ) -> tf.Tensor:
        column = [-1, 1, 1, 1]
        alpha = tf.reshape(tf.where(step == 0, 1.0, _ALPHA), column)
        proposal = self.threat.project(point + tf.reshape(step_size, column) * self.threat.steepest(gradient), images)
        return self.threat.project(point + alpha * (proposal - point) + (1 - alpha) * (point - previous), images)
