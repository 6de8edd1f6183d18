"""Stateless random numbers for every image on its own, a whole batch at once.

TensorFlow's stateless generators take one seed a call: images that each have a seed would need a call each. Here a
counter is hashed with the finalizer of SplitMix64 (Steele et al. 2014; constants of Stafford's variant 13), so that
a number is a function of (seed, index of the image, stream, position) alone, on every device.
"""

from __future__ import annotations

import contextlib
import contextvars
import math
from collections.abc import Callable, Iterator
from enum import IntEnum
from typing import TYPE_CHECKING, Any

import lazy_loader

if TYPE_CHECKING:
    import tensorflow as tf
else:
    tf = lazy_loader.load("tensorflow")


class StartStream(IntEnum):
    """Numbers the streams of an attack's start within the ball. A number never changes its meaning."""

    POINT = 0
    RADIUS = 1
    PATTERN = 2
    #: And the two after it: one for each size of block.
    BLOCKS = 3
    KIND = 9


class SquareStream(IntEnum):
    """Numbers the streams of Square: its start, and its proposals."""

    START = 0
    PROPOSALS = 1


class AugmentationStream(IntEnum):
    """Numbers the streams of augmentation: shifts, mirroring, and the centre of the rectangle that is cut out."""

    DOWN = 0
    RIGHT = 1
    MIRRORED = 2
    CUT_DOWN = 3
    CUT_RIGHT = 4


class StepStream(IntEnum):
    """Numbers the streams of one training step of an `ERClassifier`."""

    ADVERSARY = 0
    PRIOR = 1


class GeneratorStream(IntEnum):
    """Numbers the streams of one update of a `WassersteinGAN`."""

    LATENT = 0
    MIXTURE = 1


def _signed(number: int) -> int:
    return number - (1 << 64) if number >= 1 << 63 else number


_GOLDEN = _signed(0x9E3779B97F4A7C15)
_FIRST, _SECOND = _signed(0xBF58476D1CE4E5B9), _signed(0x94D049BB133111EB)


def fold_in(keys: tf.Tensor, number: Any) -> tf.Tensor:
    """Makes new keys, int64 like `keys`, for a stream: an integer, or integers that broadcast against the keys."""
    return _mix(keys + _GOLDEN * (tf.cast(number, tf.int64) + 1))


def row_keys(seeds: tf.Tensor) -> tf.Tensor:
    """Makes one key for each image, int64 `[n]`, of seeds int64 `[n, 2]` (seed, index)."""
    seeds = tf.cast(seeds, tf.int64)
    return fold_in(_mix(seeds[:, 0]), seeds[:, 1])


def uniform(keys: tf.Tensor, shape: Any, dtype: Any = "float32") -> tf.Tensor:
    """Draws numbers in [0, 1), multiples of 2^-24 `[n, *shape]`, from keys `[n]`."""
    shape = tf.cast(shape, tf.int32)
    counters = tf.range(tf.cast(tf.reduce_prod(shape), tf.int64), dtype=tf.int64)
    bits = _shift(fold_in(keys[:, tf.newaxis], counters), 40)
    numbers = tf.cast(bits, dtype) * tf.constant(2.0**-24, dtype)
    return tf.reshape(numbers, tf.concat([tf.shape(keys), shape], axis=0))


def normal(keys: tf.Tensor, shape: Any, dtype: Any = "float32") -> tf.Tensor:
    """Draws standard normal numbers `[n, *shape]` from keys `[n]`, by Box and Muller."""
    radius = tf.sqrt(-2 * tf.math.log(1 - uniform(fold_in(keys, 0), shape, dtype)))
    return radius * tf.cos(2 * math.pi * uniform(fold_in(keys, 1), shape, dtype))


def integers(keys: tf.Tensor, shape: Any, limit: Any) -> tf.Tensor:
    """Draws int32 in [0, limit) `[n, *shape]` from keys `[n]`. `limit` broadcasts against them and is below 2^24."""
    return tf.cast(uniform(keys, shape, tf.float64) * tf.cast(limit, tf.float64), tf.int32)


def signs(keys: tf.Tensor, shape: Any, dtype: Any = "float32") -> tf.Tensor:
    """Draws -1 or 1 `[n, *shape]` from keys `[n]`."""
    return tf.where(uniform(keys, shape) < 0.5, tf.constant(-1, dtype), tf.constant(1, dtype))


def _mix(counters: tf.Tensor) -> tf.Tensor:
    counters = tf.bitwise.bitwise_xor(counters, _shift(counters, 30)) * _FIRST
    counters = tf.bitwise.bitwise_xor(counters, _shift(counters, 27)) * _SECOND
    return tf.bitwise.bitwise_xor(counters, _shift(counters, 31))


def _shift(numbers: tf.Tensor, places: int) -> tf.Tensor:
    """To the right, filled with zeros."""
    kept = tf.constant((1 << (64 - places)) - 1, tf.int64)
    return tf.bitwise.bitwise_and(tf.bitwise.right_shift(numbers, tf.constant(places, tf.int64)), kept)


#: The first row here and the number of rows in all, of the batch that is drawn for; None for what tf.distribute says.
_PLACE: contextvars.ContextVar[tuple[Any, Any] | None] = contextvars.ContextVar("place", default=None)


@contextlib.contextmanager
def rows_of_batch(place: tuple[Any, Any] | None) -> Iterator[None]:
    """Lets `draw_rows` take a device's rows of the whole batch: `place` holds two int scalars, first row and size."""
    token = _PLACE.set(place)
    try:
        yield
    finally:
        _PLACE.reset(token)


def draw_rows(draw_batch: Callable[[Any], tf.Tensor], shape: Any) -> tf.Tensor:
    """Draws for the whole batch that the replicas of tf.distribute share, and takes the rows of this replica.

    So a number is a function of the position in the whole batch, however many replicas share it. They share it
    evenly, and in order; `rows_of_batch` says otherwise. Drawing is cheap beside a pass through a network.

    Args:
        draw_batch: shape -> numbers of that shape, the same in each replica.
        shape: `[n, ...]`, of this replica's numbers.
    """
    place, context = _PLACE.get(), tf.distribute.get_replica_context()
    if place is None:
        if context is None or context.num_replicas_in_sync == 1:
            return draw_batch(shape)
        place = context.replica_id_in_sync_group * shape[0], context.num_replicas_in_sync * shape[0]
    first, total = place
    shape = tf.convert_to_tensor(shape)
    return draw_batch(tf.concat([[total], shape[1:]], axis=0))[first : first + shape[0]]


def draw(kind: str, shape: Any, seeds: Any, stream: int, dtype: Any) -> tf.Tensor:
    """Draws once for the batch or once for each row; the same numbers on every device.

    Args:
        kind: "uniform" or "normal".
        shape: of the result.
        seeds: int `[2]` for the batch (see `draw_rows`), or `[n, 2]`, one for each row.
        stream: number that keeps draws of one seed apart.
        dtype: of the result, floating.
    """
    seeds = tf.convert_to_tensor(seeds)
    if seeds.shape.rank == 1:
        key = tf.random.experimental.stateless_fold_in(seeds, int(stream), alg="philox")
        stateless = getattr(tf.random, f"stateless_{kind}")
        return draw_rows(lambda shape: stateless(shape, key, dtype=dtype, alg="philox"), shape)
    keys = fold_in(row_keys(seeds), int(stream))
    return {"uniform": uniform, "normal": normal}[kind](keys, shape[1:], dtype)
