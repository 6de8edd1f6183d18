"""The attack of Carlini and Wagner (2017, "Towards Evaluating the Robustness of Neural Networks") in l2."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from erkeras.arguments import check_counts
from erkeras.attacks.attack import Attack, serializable
from erkeras.attacks.contract import Batch, Logits, State
from erkeras.attacks.losses import is_answer, margin
from erkeras.attacks.tensors import fused, gradient_of, where
from erkeras.errors import InputError
from erkeras.threat import ThreatModel

#: The box is this fraction of tanh's range. At its ends, where many pixels are, tanh is then steep enough for them to
#: leave; at the ends of tanh itself none ever would.
_FRACTION = 0.99
#: Adam's (Kingma and Ba 2015).
_BETA_1, _BETA_2, _SMALL = 0.9, 0.999, 1e-8
#: The loss is looked at after each such fraction of the iterations, and has to fall by this fraction.
_LOOKS, _FALL = 10, 1e-4
_HIGHEST_CONSTANT = 1e10


@serializable
@dataclass(frozen=True)
class CarliniWagner(Attack):
    """Looks for the nearest adversarial image in l2: Adam on a sum of distance and margin, in the space of tanh.

        minimise over w   ||x(w) - x||_2^2 + c max(z_label - max_{i != label} z_i + confidence, 0)
        x(w) = clip(middle + half range * tanh(w) / 0.99)

    (section VI.A, with f_6 of section V.A). The constant c is searched for each image on its own: ten times more
    until an adversarial image is found, then halfway between the highest that failed and the lowest that did not.
    Every iterate of every search is classified.

    Example:
        CarliniWagner(ThreatModel("l2", 1.5), iterations=100)(model, images, labels).distance

    Args:
        threat: pixel bounds, and the ball that counts as success; its norm must be l2. What is found may be outside.
        confidence: by how much the margin must exceed 0 before an image counts.
        learning_rate: Adam's.
        binary_search_steps: values of c.
        iterations: of Adam for each c.
        initial_constant: the first c.
        abort_early: go on to the next c when, for this image, the loss has not fallen by a ten-thousandth over a
            tenth of the iterations.
    """

    threat: ThreatModel = ThreatModel("l2", 1.0)
    confidence: float = 0.0
    learning_rate: float = 0.01
    binary_search_steps: int = 9
    iterations: int = 1000
    initial_constant: float = 1e-3
    abort_early: bool = True

    name = "cw"
    minimises = True

    def __post_init__(self) -> None:
        if self.threat.norm != "l2":
            raise InputError(f"Carlini and Wagner's attack is given the norm {self.threat.norm}: give l2.")
        check_counts("CarliniWagner", binary_search_steps=self.binary_search_steps, iterations=self.iterations)
        for name in ("learning_rate", "initial_constant"):
            if not 0 < getattr(self, name) < math.inf:
                raise InputError(f"CarliniWagner's {name} is {getattr(self, name)}: give a number above 0.")
        if not 0 <= self.confidence < math.inf:
            raise InputError(f"CarliniWagner's confidence is {self.confidence}: give a number of 0 or more.")

    @property
    def length(self) -> int:
        return self.binary_search_steps * self.iterations

    def initial(self, batch: Batch) -> State:
        start = tf.atanh((batch.images - self._middle) / self._scale)
        zeros, numbers = tf.zeros_like(batch.images), tf.zeros_like(batch.clean_logits[:, 0])
        return {
            "start": start,
            "shift": zeros,  # of w, from the start
            "first_moment": zeros,
            "second_moment": zeros,
            "iteration": tf.zeros_like(batch.labels),  # of Adam, with this constant
            "search": tf.zeros_like(batch.labels),  # constants done
            "constant": numbers + self.initial_constant,
            "works": tf.zeros_like(batch.labels, tf.bool),  # this one does
            "failed": numbers,  # the highest constant that did
            "worked": numbers + math.inf,  # the lowest that did
            "last_loss": numbers + math.inf,  # when it was last looked at
        }

    def step(self, logits: Logits, batch: Batch, state: State) -> State:
        images = self._image(state["start"] + state["shift"])
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(images)
            outputs = logits(images)
            margins = margin(batch.labels, outputs)
            weighted = state["constant"] * tf.maximum(self.confidence - margins, 0)
        answered = is_answer(outputs)
        margins = tf.where(answered, margins, -np.inf)
        updated = fused(self._update)(batch, state, images, margins, weighted, gradient_of(tape, weighted, images))
        return {**updated, "answered": state["answered"] & answered}

    def _update(
        self,
        batch: Batch,
        state: State,
        images: tf.Tensor,
        margins: tf.Tensor,
        weighted: tf.Tensor,
        gradients: tf.Tensor,
    ) -> State:
        """The new state, from the iterate's image, its margin, and the weighted part of the loss with its gradient."""
        perturbations = images - batch.images
        # tanh's derivative: 1 - tanh^2 loses its digits next to the bounds.
        derivative = self._scale / tf.square(tf.cosh(state["start"] + state["shift"]))
        adversarial = margins > self.confidence
        return {
            **self._observe(batch, state, images, adversarial),
            **self._search(
                {**state, **_adam(state, derivative * (gradients + 2 * perturbations), self.learning_rate)},
                weighted + tf.reduce_sum(tf.square(perturbations), axis=[1, 2, 3]),
                state["works"] | adversarial,
            ),
        }

    def _observe(self, batch: Batch, state: State, images: tf.Tensor, adversarial: tf.Tensor) -> State:
        distance = self.threat.distance(images, batch.images)
        nearer = adversarial & (-distance > state["loss"])
        return {
            "found": where(nearer, images, state["found"]),
            "loss": tf.where(nearer, -distance, state["loss"]),
            "success": state["success"] | nearer,
        }

    def _search(self, state: State, loss: tf.Tensor, works: tf.Tensor) -> State:
        """Goes on with the constant, or to the next one; `state` after Adam's step, `loss` of before it."""
        iteration = state["iteration"]
        over = iteration == self.iterations
        last_loss = state["last_loss"]
        if self.abort_early:
            look = (iteration - 1) % math.ceil(self.iterations / _LOOKS) == 0
            over |= look & ~(loss <= (1 - _FALL) * last_loss)
            last_loss = tf.where(look, loss, last_loss)
        worked = tf.where(over & works, state["constant"], state["worked"])
        failed = tf.where(over & ~works, state["constant"], state["failed"])
        higher = tf.minimum(10 * state["constant"], _HIGHEST_CONSTANT)
        constant = tf.where(tf.math.is_inf(worked), higher, (failed + worked) / 2)
        search = state["search"] + tf.cast(over, tf.int32)
        return {
            **{
                name: where(over, tf.zeros_like(state[name]), state[name])
                for name in ("shift", "first_moment", "second_moment", "iteration")
            },
            "search": search,
            "constant": tf.where(over, constant, state["constant"]),
            "works": works & ~over,
            "failed": failed,
            "worked": worked,
            "last_loss": tf.where(over, math.inf, last_loss),
            "finished": search == self.binary_search_steps,
        }

    @property
    def _middle(self) -> float:
        return (self.threat.upper + self.threat.lower) / 2

    @property
    def _scale(self) -> float:
        return (self.threat.upper - self.threat.lower) / 2 / _FRACTION

    def _image(self, positions: tf.Tensor) -> tf.Tensor:
        images = self._middle + self._scale * tf.tanh(positions)
        return tf.clip_by_value(images, self.threat.lower, self.threat.upper)


def _adam(state: State, gradients: tf.Tensor, learning_rate: float) -> State:
    """Adam's step, each row with its own count of iterations."""
    iteration = state["iteration"] + 1
    first = _BETA_1 * state["first_moment"] + (1 - _BETA_1) * gradients
    second = _BETA_2 * state["second_moment"] + (1 - _BETA_2) * tf.square(gradients)
    power = tf.cast(iteration, gradients.dtype)[:, tf.newaxis, tf.newaxis, tf.newaxis]
    direction = first / (1 - _BETA_1**power) / (tf.sqrt(second / (1 - _BETA_2**power)) + _SMALL)
    return {
        "shift": state["shift"] - learning_rate * direction,
        "first_moment": first,
        "second_moment": second,
        "iteration": iteration,
    }
