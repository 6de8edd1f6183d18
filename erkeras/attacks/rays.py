"""RayS (Chen and Gu 2020, "RayS: A Ray Searching Method for Hard-label Adversarial Attack")."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from erkeras.arguments import check_counts
from erkeras.attacks.attack import Attack, serializable
from erkeras.attacks.contract import Batch, Logits, State
from erkeras.attacks.losses import is_answer
from erkeras.attacks.tensors import where
from erkeras.errors import InputError

#: The bisection of a radius (Algorithm 2) ends at this width, in units of the image's l2 length.
_TOLERANCE = 1e-3


@serializable
@dataclass(frozen=True)
class RayS(Attack):
    """Looks for the direction of signs in which the decision boundary is nearest, by labels alone.

    A direction is a vector of signs brought to length 1, a radius a length along it (times the range of a pixel).
    Level L of the search (Algorithm 3) cuts the image, channel after channel, into 2^L blocks and turns the signs of
    one after the other: where the model is still wrong at the best radius so far, the new direction is taken up and
    its radius bisected. Every step is one query. Deterministic.

    Goes on to the end of its queries, or until no single pixel can be turned with gain, and reports the nearest
    adversarial image, also outside the ball: the mean of `Attacked.distance` is the average decision boundary
    distance (ADBD).

    Example:
        RayS(ThreatModel("l_inf", 0.3), queries=1000)(model, images, labels).distance.mean()

    Args:
        threat: epsilon and pixel bounds; the norm must be l_inf.
        queries: images to ask for the label of.
        stop_inside: end once an image inside the ball is adversarial; enough, and cheaper, for robust accuracy.

    Raises:
        InputError: for another norm or a number of queries below 1.
    """

    queries: int = 10000
    stop_inside: bool = False

    name = "rays"
    knowledge = "labels"
    passes = (1, 0)
    minimises = True

    def __post_init__(self) -> None:
        if self.threat.norm != "l_inf":
            raise InputError(f"RayS's norm is {self.threat.norm!r}: give a threat model with the norm l_inf.")
        check_counts("RayS", queries=self.queries)

    @property
    def length(self) -> int:
        return self.queries

    def initial(self, batch: Batch) -> State:
        def filled(value: float) -> tf.Tensor:
            return tf.fill(tf.shape(batch.labels), value)

        return {
            "signs": tf.ones_like(batch.images),
            "radius": filled(np.inf),  # of the best direction
            "level": filled(0),
            "block": filled(0),
            "unchanged": filled(0),  # blocks of one pixel turned since the best direction was found
            "bisecting": filled(False),
            "near": filled(0.0),  # ends of the bisection
            "far": filled(0.0),
        }

    def step(self, logits: Logits, batch: Batch, state: State) -> State:
        _, height, width, channels = batch.images.shape
        size = height * width * channels
        levels = math.ceil(math.log2(size)) + 1
        sizes = tf.gather([math.ceil(size / 2**level) for level in range(levels)], state["level"])
        begin = state["block"] * sizes
        end = tf.minimum(begin + sizes, size)
        order = np.arange(size, dtype=np.int32).reshape(channels, height, width).transpose(1, 2, 0).reshape(-1)
        turned = (order >= begin[:, tf.newaxis]) & (order < end[:, tf.newaxis])
        signs = tf.reshape(state["signs"], [-1, size])
        signs = tf.reshape(tf.where(turned, -signs, signs), tf.shape(batch.images))

        # The first query of a block is at the best radius, those that follow bisect.
        bisecting, best, near, far = state["bisecting"], state["radius"], state["near"], state["far"]
        radius = tf.where(bisecting, (near + far) / 2, best)
        unit = tf.constant((self.threat.upper - self.threat.lower) / math.sqrt(size), tf.float32)
        moved = batch.images + tf.reshape(radius * unit, [-1, 1, 1, 1]) * signs
        candidates = tf.clip_by_value(moved, self.threat.lower, self.threat.upper)
        outputs = logits(candidates)
        wrong = self.broken(batch.labels, outputs)

        # From a corner of the box on, nothing moves any more: the first upper end.
        far = tf.where(wrong, tf.where(bisecting, radius, tf.minimum(best, math.sqrt(size))), far)
        near = tf.where(bisecting, tf.where(wrong, near, radius), 0.0)
        found_boundary = bisecting & (far - near <= _TOLERANCE)
        nearer = found_boundary & (far < best)
        over = found_boundary | (~bisecting & ~wrong)

        level_over = over & (end == size)
        level = tf.where(level_over, tf.minimum(state["level"] + 1, levels - 1), state["level"])
        block = tf.where(over, tf.where(level_over, 0, state["block"] + 1), state["block"])
        turned_one = tf.cast(over & (sizes == 1), tf.int32)
        unchanged = tf.where(nearer, 0, state["unchanged"] + turned_one)

        loss = -self.threat.distance(candidates, batch.images)
        better = wrong & (loss > state["loss"])
        loss = tf.where(better, loss, state["loss"])
        finished = unchanged >= size
        if self.stop_inside:
            finished |= -loss <= self.threat.epsilon
        return {
            "signs": where(nearer, signs, state["signs"]),
            "radius": tf.where(nearer, far, best),
            "level": level,
            "block": block,
            "unchanged": unchanged,
            "bisecting": tf.where(bisecting, ~found_boundary, wrong),
            "near": near,
            "far": far,
            "found": where(better, candidates, state["found"]),
            "loss": loss,
            "success": state["success"] | wrong,
            "finished": finished,
            "answered": state["answered"] & is_answer(outputs),
        }
