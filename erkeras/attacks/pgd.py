"""Projected gradient descent (Madry et al. 2018, "Towards Deep Learning Models Resistant to Adversarial Attacks")."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from erkeras.attacks.attack import Attack, Logits, cross_entropy, serializable
from erkeras.errors import InputError


@serializable
@dataclass(frozen=True)
class PGD(Attack):
    """Ascends the cross-entropy from a random start of the ball: the one PGD of training and of evaluation.

        x <- project(x + step_size * sign(gradient))              l_inf
        x <- project(x + step_size * gradient / ||gradient||_2)   l2

    The last iterate of each restart is judged, as Madry et al. do.

    Args:
        threat: norm, epsilon, pixel bounds.
        steps: gradient steps.
        step_size: length of a step in the norm's unit; None for 2.5 epsilon / steps.
        restarts: attempts, each from a start of its own.
        random_start: start from a uniformly random point of the ball, or from the image itself.
    """

    steps: int = 40
    step_size: float | None = None
    restarts: int = 1
    random_start: bool = True

    name = "pgd"

    def __post_init__(self) -> None:
        for field in ("steps", "restarts"):
            if getattr(self, field) < 1:
                raise InputError(f"PGD's {field} is {getattr(self, field)}: give a whole number of 1 or more.")
        if self.step_size is not None and not self.step_size >= 0:
            raise InputError(f"PGD's step_size is {self.step_size}: give a number of 0 or more, or None.")

    @property
    def rounds(self) -> int:
        return self.restarts if self.random_start else 1

    @property
    def forward_passes(self) -> int:
        return self.steps

    def perturb(
        self, logits: Logits, images: tf.Tensor, labels: tf.Tensor, seeds: tf.Tensor, scale: Any = 1.0
    ) -> tf.Tensor:
        step_size = 2.5 * self.threat.epsilon / self.steps if self.step_size is None else self.step_size
        step_size = step_size * tf.cast(scale, images.dtype)

        def step(adversarial: tf.Tensor) -> tuple[tf.Tensor]:
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                tape.watch(adversarial)
                loss = cross_entropy(labels, logits(adversarial))
            gradient = tape.gradient(loss, adversarial)
            if self.threat.norm == "l_inf":
                direction = tf.sign(gradient)
            else:
                axes = list(range(1, gradient.shape.rank))
                # To a largest entry of 1 first: the square of a confident model's gradient is 0 in float32.
                gradient /= tf.maximum(tf.reduce_max(tf.abs(gradient), axis=axes, keepdims=True), 1e-37)
                squares = tf.reduce_sum(tf.square(gradient), axis=axes, keepdims=True)
                direction = gradient * tf.math.rsqrt(tf.maximum(squares, 1e-30))
            return (self.threat.project(adversarial + step_size * direction, images, scale),)

        start = self.threat.random_start(images, seeds, scale) if self.random_start else images
        # One step at a time: iterations in parallel would only cost memory.
        (adversarial,) = tf.while_loop(
            lambda _: True, step, (start,), maximum_iterations=self.steps, parallel_iterations=1
        )
        return tf.stop_gradient(adversarial)
