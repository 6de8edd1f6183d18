"""The Fast Adaptive Boundary attack (Croce and Hein 2020, "Minimally distorted Adversarial Examples with a Fast
Adaptive Boundary Attack")."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from erkeras.arguments import check_counts
from erkeras.attacks.attack import Attack, serializable
from erkeras.attacks.contract import Batch, Logits, State
from erkeras.attacks.losses import is_answer, margin
from erkeras.attacks.projections import to_hyperplane
from erkeras.attacks.targets import target_classes
from erkeras.attacks.tensors import fused, gradient_of, random_directions, where
from erkeras.errors import InputError

#: The final search: rounds of three halvings and a projection, and how far that goes.
_ROUND, _SEARCH_STEPS, _SEARCH_OVERSHOOT = 4, 8, 1.002


@serializable
@dataclass(frozen=True)
class FAB(Attack):
    """Looks for the nearest adversarial image by projecting onto the linearised decision boundary.

    With P the projection onto the boundary's hyperplane inside the box, d = P(x) - x and d_0 = P(x_0) - x_0 from the
    image x_0 itself (Algorithm 1):

        alpha = min(||d|| / (||d|| + ||d_0||), alpha_max)
        x <- clip((1 - alpha) (x + overshoot d) + alpha (x_0 + overshoot d_0))
        x <- x_0 + beta (x - x_0)     where x is adversarial, once it has been compared with the nearest so far

    At the end the neighbourhood of the nearest x' is searched (the paper has such a search, by secants; the authors'
    code has none): by halving between x_0 + beta (x' - x_0) and x', and by projecting x_0 itself onto the boundary as
    it is at x'. A boundary that bends is overshot by more than eta, and a straight one is met within 0.2%.

    The boundary is the nearest of those to all other classes, or (FAB-T) the target's.

    A step takes two forward passes and the gradient of one boundary, which is one backward pass. Without a target
    it takes the gradients of all boundaries, classes - 1 backward passes: `gradients` of the result counts them as
    one, because an attack does not know the classes.

    Example:
        FAB(ThreatModel("l_inf", 0.3), targets=9)(model, images, labels).distance

    Args:
        threat: norm, epsilon, pixel bounds. What is found may be outside the ball, and then is no success.
        iterations: steps of an attempt; the final search takes up to 8 more.
        restarts: attempts (for each target): the first from the image, others from a random point at epsilon / 2.
        targets: 0 for any other class ("fab"); k to ask in turn for the k classes of the highest clean logits
            ("fab-t").
        alpha_max: the most that the projection of the image itself weighs.
        overshoot: eta, by how much a projection goes on behind the hyperplane; 1 ends on it.
        beta: the fraction of its perturbation that an adversarial image keeps.
        minimise: look through all attempts for the nearest adversarial image; or end with the first one inside the
            ball.
    """

    iterations: int = 100
    restarts: int = 1
    targets: int = 0
    alpha_max: float = 0.1
    overshoot: float = 1.05
    beta: float = 0.9
    minimise: bool = True

    passes = (2, 1)

    def __post_init__(self) -> None:
        check_counts("FAB", iterations=self.iterations, restarts=self.restarts)
        if self.targets < 0:
            raise InputError(f"FAB's targets are {self.targets}: give the number of target classes, or 0 for none.")
        for field in ("alpha_max", "beta"):
            if not 0 <= getattr(self, field) <= 1:
                raise InputError(f"FAB's {field} is {getattr(self, field)}: give a number from 0 to 1.")
        if not 1 <= self.overshoot < float("inf"):
            raise InputError(f"FAB's overshoot is {self.overshoot}: give a number of 1 or more.")

    @property
    def name(self) -> str:
        return "fab-t" if self.targets else "fab"

    @property
    def minimises(self) -> bool:  # type: ignore[override]
        return self.minimise

    @property
    def attempts(self) -> int:
        return self.restarts * max(self.targets, 1)

    @property
    def length(self) -> int:
        return self.iterations + _SEARCH_STEPS

    def initial(self, batch: Batch) -> State:
        start = batch.images
        if self.restarts > 1:
            restart = batch.attempt // max(self.targets, 1)
            start = where(restart > 0, self._random_start(batch), start)
        distance = tf.fill(tf.shape(batch.labels), float("inf"))
        return {
            "point": start,
            "nearest": batch.images,
            "distance": distance,
            "low": tf.zeros_like(distance) + self.beta,
        }

    def step(self, logits: Logits, batch: Batch, state: State) -> State:
        targets = target_classes(batch, self.targets)
        if targets is None:
            gaps, gradients = _nearest_boundary(logits, state["point"], batch.labels, self.threat.norm)
        else:
            gaps, gradients = _target_boundary(logits, state["point"], batch.labels, targets)
        moved, projected = fused(self._move)(batch.images, state["point"], gaps, gradients)
        number = state["step"] - self.iterations  # of the final search
        halving = (number >= 0) & (number % _ROUND < _ROUND - 1)
        projecting = (number >= 0) & ~halving
        fraction = (1 + state["low"]) / 2
        candidate = where(halving, _shrunk(state["nearest"], batch.images, fraction), moved)
        candidate = where(projecting, projected, candidate)

        outputs = logits(candidate)
        adversarial = self.broken(batch.labels, outputs)
        distance = self.threat.distance(candidate, batch.images)
        nearer = adversarial & (distance < state["distance"])
        nearest = where(nearer, candidate, state["nearest"])
        distance = tf.where(nearer, distance, state["distance"])
        low = tf.where(halving, tf.where(adversarial, state["low"] / fraction, fraction), state["low"])

        wanted = tf.math.is_finite(distance) if self.minimise else distance <= self.threat.epsilon
        # The search is worth it where something was found, and where it can bring that into the ball.
        promising = wanted if self.minimise else distance * self.beta <= self.threat.epsilon
        over = ~promising & (number >= -1)
        point = where(adversarial, _shrunk(moved, batch.images, self.beta), moved)
        return {
            "point": where(number >= -1, nearest, point),
            "nearest": nearest,
            "distance": distance,
            "low": tf.where(projecting & nearer, self.beta, low),
            "found": where(wanted, nearest, state["found"]),
            "loss": tf.where(wanted, -distance, state["loss"]),
            "success": wanted,
            "finished": over if self.minimise else over | wanted,
            "answered": state["answered"] & is_answer(outputs),
        }

    def _random_start(self, batch: Batch) -> tf.Tensor:
        directions = random_directions(self.threat, batch.images, batch.seeds)
        start = batch.images + self.threat.epsilon / 2 * directions
        return tf.clip_by_value(start, self.threat.lower, self.threat.upper)

    def _move(
        self, images: tf.Tensor, points: tf.Tensor, gaps: tf.Tensor, gradients: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """The next points, before any step back, and the images' own projections for the final search.

        `gaps` and `gradients` tell where the boundary is from `points`.
        """
        flat_images, flat_points, weights = (
            tf.reshape(part, [tf.shape(part)[0], -1]) for part in (images, points, gradients)
        )
        from_images = tf.reduce_sum(weights * (flat_points - flat_images), axis=1) - gaps
        both = tf.concat([flat_points, flat_images], axis=0)
        perturbations = to_hyperplane(
            both,
            tf.concat([weights, weights], axis=0),
            tf.concat([-gaps, from_images], axis=0),
            self.threat.norm,
            self.threat.lower,
            self.threat.upper,
        )
        order = np.inf if self.threat.norm == "l_inf" else 2
        lengths = tf.maximum(tf.norm(perturbations, order, axis=1), 1e-8)
        length, image_length = tf.split(lengths, 2)
        alpha = tf.minimum(length / (length + image_length), self.alpha_max)[:, tf.newaxis]
        point, image_point = tf.split(both + self.overshoot * perturbations, 2)
        moved = (1 - alpha) * point + alpha * image_point
        projected = flat_images + _SEARCH_OVERSHOOT * perturbations[tf.shape(images)[0] :]
        return tuple(
            tf.reshape(tf.clip_by_value(part, self.threat.lower, self.threat.upper), tf.shape(images))
            for part in (moved, projected)
        )


def _shrunk(points: tf.Tensor, images: tf.Tensor, fraction: tf.Tensor) -> tf.Tensor:
    """Points that keep a fraction, `[n]` or a number, of their perturbation."""
    return images + tf.reshape(fraction, [-1, 1, 1, 1]) * (points - images)


def _target_boundary(
    logits: Logits, points: tf.Tensor, labels: tf.Tensor, targets: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """The target's logit less the label's, `[n]`, and the gradient of that, like `points`."""
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(points)
        gaps = margin(labels, logits(points), targets)
    return gaps, gradient_of(tape, gaps, points)


def _nearest_boundary(logits: Logits, points: tf.Tensor, labels: tf.Tensor, norm: str) -> tuple[tf.Tensor, tf.Tensor]:
    """The same for the class whose linearised boundary is nearest: |gap| / ||gradient|| in the dual norm."""
    with tf.GradientTape(persistent=True, watch_accessed_variables=False) as tape:
        tape.watch(points)
        outputs = logits(points)
    classes = tf.shape(outputs)[1]
    own = tf.one_hot(labels, classes, dtype=outputs.dtype)

    def compare(
        number: tf.Tensor, nearest: tf.Tensor, gaps: tf.Tensor, gradients: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
        others = (labels + number) % classes
        gap = margin(labels, outputs, others)
        direction = tf.one_hot(others, classes, dtype=outputs.dtype) - own
        gradient = gradient_of(tape, outputs, points, direction)
        distance = tf.abs(gap) / tf.maximum(_dual_norm(gradient, norm), 1e-37)
        nearer = distance < nearest
        return (
            number + 1,
            tf.where(nearer, distance, nearest),
            tf.where(nearer, gap, gaps),
            where(nearer, gradient, gradients),
        )

    # One class at a time: memory for two gradients, however many classes there are.
    none = tf.zeros_like(outputs[:, 0])
    _, _, gaps, gradients = tf.while_loop(
        lambda number, *_: number < classes,
        compare,
        (1, none + float("inf"), none, tf.zeros_like(points)),
        parallel_iterations=1,
    )
    return gaps, gradients


def _dual_norm(gradients: tf.Tensor, norm: str) -> tf.Tensor:
    flat = tf.abs(tf.reshape(gradients, [tf.shape(gradients)[0], -1]))
    if norm == "l_inf":
        return tf.reduce_sum(flat, axis=1)
    # To a largest entry of 1 first: the square of a small gradient is 0 in float32.
    largest = tf.maximum(tf.reduce_max(flat, axis=1), 1e-37)
    return largest * tf.norm(flat / largest[:, tf.newaxis], axis=1)
