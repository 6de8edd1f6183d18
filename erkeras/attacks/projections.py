"""The nearest point of a hyperplane inside the pixels' box: the inner problem of FAB."""

from __future__ import annotations

import tensorflow as tf

#: Rounds of Newton alone; four to eight are the rule. From then on every second one halves what is left, as a ratio,
#: so that no hyperplane takes more than these: neighbouring numbers are reached well before.
_NEWTON_ROUNDS, _MOST_ROUNDS = 16, 100
#: A largest weight below this counts as 0.
_TINY = 1e-37


def to_hyperplane(
    points: tf.Tensor, weights: tf.Tensor, offsets: tf.Tensor, norm: str, lower: float = 0.0, upper: float = 1.0
) -> tf.Tensor:
    """Finds the shortest perturbations that reach hyperplanes and stay inside the box.

    Minimises ||delta||_p such that weights . delta = offset and lower <= point + delta <= upper (Croce and Hein 2020,
    "Minimally distorted Adversarial Examples with a Fast Adaptive Boundary Attack", section 2).

    Each pixel goes the way that brings it nearer, by min(m, room) for l_inf or min(m |weight|, room) for l2, where its
    room ends at the box. What that gains rises with the multiplier m in straight pieces of falling slope: Newton's
    method from the left never passes the solution, closes at least one pixel's room a round, and ends on the very
    piece that holds the solution. Nothing is sorted.

    Args:
        points: float `[n, pixels]`, within [lower, upper].
        weights: `[n, pixels]`. A pixel of weight 0 does not move.
        offsets: `[n]`, value of the hyperplane less weights . point; of either sign.
        norm: "l_inf" or "l2".
        lower, upper: bounds of a pixel.

    Returns:
        delta `[n, pixels]`. Where the box does not reach the hyperplane, to the corner that comes nearest.
    """
    # Weights up to 1: the square of a small gradient is 0 in float32.
    largest = tf.maximum(tf.reduce_max(tf.abs(weights), axis=1), _TINY)
    weights /= largest[:, tf.newaxis]
    missing = tf.abs(offsets) / largest
    signs = tf.sign(weights) * tf.sign(offsets)[:, tf.newaxis]
    weights = tf.abs(weights)
    room = tf.maximum(tf.where(signs > 0, upper - points, points - lower), 0) * tf.abs(signs)

    speed = tf.ones_like(weights) if norm == "l_inf" else weights
    closes = tf.math.divide_no_nan(room, speed)  # the multiplier that a pixel's room ends at
    gain, slope = weights * room, weights * speed
    reachable = tf.reduce_sum(gain, axis=1) > missing

    def search(
        number: tf.Tensor, low: tf.Tensor, high: tf.Tensor, done: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
        halve = (number >= _NEWTON_ROUNDS) & (number % 2 == 1)
        at = tf.where(halve, tf.maximum(tf.sqrt(low) * tf.sqrt(high), low), low)
        is_open = closes > at[:, tf.newaxis]
        closed_gain = tf.reduce_sum(tf.where(is_open, tf.zeros_like(gain), gain), axis=1)
        open_slope = tf.reduce_sum(tf.where(is_open, slope, tf.zeros_like(slope)), axis=1)
        # Newton's, from wherever, is at or before the solution; one at or before `at` says that `at` is behind it.
        newton = tf.math.divide_no_nan(missing - closed_gain, open_slope)
        behind = ~(newton > at)
        done |= behind & (at <= low)
        high = tf.where(behind, at, high)
        return number + 1, tf.where(done, low, tf.maximum(low, newton)), high, done

    _, multiplier, _, _ = tf.while_loop(
        lambda number, low, high, done: ~tf.reduce_all(done),
        search,
        (0, tf.zeros_like(missing), tf.reduce_max(closes, axis=1), ~reachable),
        parallel_iterations=1,
        maximum_iterations=_MOST_ROUNDS,
    )
    moves = tf.minimum(multiplier[:, tf.newaxis] * speed, room)
    return signs * tf.where(reachable[:, tf.newaxis], moves, room)
