"""Square Attack (Andriushchenko et al. 2020, "Square Attack: a query-efficient black-box adversarial attack")."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from erkeras.arguments import check_counts
from erkeras.attacks.attack import Attack, serializable
from erkeras.attacks.contract import Batch, Logits, State
from erkeras.attacks.losses import margin
from erkeras.attacks.tensors import where
from erkeras.errors import InputError
from erkeras.randomness import SquareStream, fold_in, row_keys, signs, uniform

#: After how many proposals the fraction of the image that a square covers is halved (the paper's section 5, for 10,000
#: queries; not rescaled for fewer).
HALVINGS = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)
#: Proposals (l_inf) that a step looks at, for the first that changes the image.
_LOOKAHEAD = 4


@serializable
@dataclass(frozen=True)
class Square(Attack):
    """Searches at random with squares. It keeps a proposal that lowers the label's lead over other classes.

    Knows the logits alone. l_inf (Algorithm 2): starts at vertical stripes of +-epsilon and sets squares to +epsilon
    or -epsilon, channel by channel. l2 (Algorithm 3): starts at a grid of small profiles, and moves the perturbation
    of one window to another, adding a profile there; always of length epsilon before pixels are clipped.

    A proposal (l_inf) that changes no pixel cannot be better: it counts as a query, and its pass through the model is
    left out. Verdicts are those with the pass; `Attacked.queries` counts the passes.

    Example:
        Square(ThreatModel("l_inf", 0.3), queries=1000)(model, images, labels).robust_accuracy

    Args:
        threat: norm, epsilon, pixel bounds.
        queries: images that an attempt may try, the start included.
        restarts: attempts, each from a start of its own.
        initial_fraction: p, the fraction of the image that the first squares cover.

    Raises:
        InputError: for a number of queries or restarts below 1, or a fraction outside (0, 1].
    """

    queries: int = 5000
    restarts: int = 1
    initial_fraction: float = 0.8

    name = "square"
    knowledge = "logits"
    passes = (1, 0)

    def __post_init__(self) -> None:
        check_counts("Square", queries=self.queries, restarts=self.restarts)
        if not 0 < self.initial_fraction <= 1:
            raise InputError(f"Square's initial_fraction is {self.initial_fraction}: give a number in (0, 1].")

    @property
    def attempts(self) -> int:
        return self.restarts

    @property
    def length(self) -> int:
        return self.queries

    def initial(self, batch: Batch) -> State:
        key = row_keys(batch.seeds)
        _, height, width, channels = batch.images.shape
        state = {"key": fold_in(key, SquareStream.PROPOSALS)}
        if self.threat.norm == "l2":
            start = _grid(fold_in(key, SquareStream.START), height, width, channels)
            return {**state, "start": self._at_length(batch.images, start)}
        lowest = tf.maximum(batch.images - self.threat.epsilon, self.threat.lower)
        highest = tf.minimum(batch.images + self.threat.epsilon, self.threat.upper)
        return {
            **state,
            "lowest": lowest,
            "middle": (lowest + highest) / 2,
            "highest": highest,
            "stripes": signs(fold_in(key, SquareStream.START), [width * channels]),
            "query": tf.zeros_like(batch.labels),
        }

    def step(self, logits: Logits, batch: Batch, state: State) -> State:
        if self.threat.norm == "l2":
            return self._observe(logits, batch, state, self._move_mass(batch, state))
        candidates, query = self._set_square(batch, state)
        observed = self._observe(logits, batch, state, candidates)
        return {**observed, "query": query, "finished": observed["finished"] | (query >= self.queries)}

    def _observe(self, logits: Logits, batch: Batch, state: State, candidates: tf.Tensor) -> State:
        outputs = logits(candidates)
        return self.observe(batch, state, candidates, outputs, margin(batch.labels, outputs))

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Square:
        # What initial_fraction was called in records of version 0.1.
        renamed = {"initial_portion": "initial_fraction"}
        return super().from_config({renamed.get(name, name): value for name, value in config.items()})

    def sides(self, height: int, width: int) -> np.ndarray:
        """Gives the side of each proposal's square, int32 `[queries]`, by the schedule of `initial_fraction`."""
        done = np.arange(self.queries)
        fractions = self.initial_fraction * 0.5 ** np.searchsorted(HALVINGS, done)
        sides = np.rint(np.sqrt(fractions * height * width)).astype(np.int32)
        if self.threat.norm == "l2":  # a profile has a middle
            sides = np.maximum(sides, 3) // 2 * 2 + 1
        return np.clip(sides, 1, min(height, width))

    def _set_square(self, batch: Batch, state: State) -> tuple[tf.Tensor, tf.Tensor]:
        """The next proposal of each row that changes its image, as an image; and how many queries are done then."""
        _, height, width, channels = batch.images.shape
        query, found = state["query"], state["found"]
        numbers = query[:, tf.newaxis] + tf.range(_LOOKAHEAD)
        # At query 0 the start is tried, at query k proposal k - 1.
        side = tf.gather(self.sides(height, width), tf.clip_by_value(numbers - 1, 0, self.queries - 1))
        keys = tf.reshape(fold_in(state["key"][:, tf.newaxis], numbers), [-1])
        drawn = tf.reshape(uniform(keys, [2 + channels]), [-1, _LOOKAHEAD, 2 + channels])
        top, left = _corner(drawn[..., 0], side, height), _corner(drawn[..., 1], side, width)
        rows = tf.cast(_span(top, side, tf.range(height)), tf.float32)
        # By column and channel, in one axis: TensorFlow is slow to broadcast over more.
        columns = tf.tile(tf.where(drawn[..., 2:] < 0.5, -1.0, 1.0), [1, 1, width])
        columns = tf.where(_span(left, side, tf.range(width * channels) // channels), columns, 0.0)

        # How many of a square's pixels are not there yet.
        present = tf.sign(found - state["middle"])
        present = tf.matmul(rows, tf.reshape(present, [-1, height, width * channels]))
        there = tf.reduce_sum(present * columns, axis=2)
        changes = (there < tf.cast(channels * side**2, tf.float32)) & (numbers < self.queries)
        # Where no proposal changes the image, a pass over the best image is lost.
        chosen = tf.argmax(changes, axis=1, output_type=tf.int32)
        done = tf.where(tf.reduce_any(changes, axis=1), chosen + 1, _LOOKAHEAD)
        start = query == 0
        done = tf.where(start, 1, done)
        rows = tf.where(start[:, tf.newaxis], 1.0, tf.gather(rows, chosen, batch_dims=1))
        columns = tf.where(start[:, tf.newaxis], state["stripes"], tf.gather(columns, chosen, batch_dims=1))
        # Far enough out for the clipping to end at +-epsilon exactly.
        far = 4 * self.threat.epsilon * rows[:, :, tf.newaxis] * columns[:, tf.newaxis]
        candidates = found + tf.reshape(far, tf.shape(found))
        candidates = tf.maximum(tf.minimum(candidates, state["highest"]), state["lowest"])
        return candidates, tf.minimum(query + done, self.queries)

    def _move_mass(self, batch: Batch, state: State) -> tf.Tensor:
        """One proposal of each row: a window's perturbation is moved to another window, under a new profile."""
        images, found, query = batch.images, state["found"], state["step"]
        _, height, width, channels = images.shape
        # At query 0 the start is tried, at query k proposal k - 1.
        proposal = tf.maximum(query - 1, 0)
        different, kind = np.unique(self.sides(height, width), return_inverse=True)
        kind = tf.gather(kind.astype(np.int32), proposal)
        side = tf.gather(different, kind)
        drawn = uniform(fold_in(state["key"], query), [5 + channels])
        # Every fourth proposal reaches the last row and column: where the border is void (MNIST), more are a waste.
        last = tf.cast(query % 4 == 0, tf.int32)
        spans = [
            _span(_corner(drawn[:, i], side, limit, last), side, tf.range(limit))
            for i, limit in enumerate([height, width, height, width])
        ]
        rows, columns, other_rows, other_columns = (tf.cast(span, tf.float32) for span in spans)
        signs = tf.tile(tf.where(drawn[:, 5:] < 0.5, -1.0, 1.0), [1, width])
        # By column and channel, in one axis: TensorFlow is slow to broadcast over more.
        inside = rows[:, :, tf.newaxis] * tf.repeat(columns, channels, axis=1)[:, tf.newaxis]
        emptied = (
            other_rows[:, :, tf.newaxis] * tf.repeat(other_columns, channels, axis=1)[:, tf.newaxis] * (1 - inside)
        )
        perturbation = tf.reshape(found - images, [-1, height, width * channels])

        # Products with matrices of one 1 in a row put each profile in its place.
        profiles = np.zeros([len(different), 2, different.max(), different.max()], np.float32)
        for number, one in enumerate(different):
            profiles[number, :, :one, :one] = _profile(one), _profile(one).T
        lying = tf.cast(drawn[:, 4] < 0.5, tf.int32)
        profile = tf.gather(profiles.reshape(-1, *profiles.shape[2:]), 2 * kind + lying)
        profile = tf.matmul(_places_in(rows, different.max()), profile, transpose_a=True)
        # A little more than 1: something is left of a profile that is put on its own opposite.
        across = tf.repeat(_places_in(columns, different.max()), channels, axis=2) * 1.001 * signs[:, tf.newaxis]
        profile = tf.matmul(profile, across)

        def by_channel(values: tf.Tensor) -> tf.Tensor:
            """Sums `[n, 1, channels]`."""
            values = tf.reshape(tf.reduce_sum(values, axis=1), [-1, width, channels])
            return tf.reduce_sum(values, axis=1, keepdims=True)

        def everywhere(values: tf.Tensor) -> tf.Tensor:
            return tf.tile(values, [1, 1, width])

        squares = perturbation**2
        own = by_channel(squares * inside)
        both = own + by_channel(squares * emptied)
        unused = tf.maximum(self.threat.epsilon**2 - tf.reduce_sum(squares, axis=[1, 2], keepdims=True), 0.0)
        moved = profile + perturbation * inside * everywhere(1 / (tf.sqrt(own) + 1e-12))
        moved *= everywhere(tf.sqrt(both + unused / channels) / (tf.sqrt(by_channel(moved**2)) + 1e-12))
        moved += perturbation * (1 - inside - emptied)
        candidates = self._at_length(images, tf.reshape(moved, tf.shape(images)))
        return where(query == 0, state["start"], candidates)

    def _at_length(self, images: tf.Tensor, perturbations: tf.Tensor) -> tf.Tensor:
        """The images with perturbations brought to length epsilon, and then clipped."""
        length = tf.sqrt(tf.reduce_sum(perturbations**2, axis=[1, 2, 3], keepdims=True))
        moved = images + perturbations * (self.threat.epsilon / (length + 1e-12))
        return tf.clip_by_value(moved, self.threat.lower, self.threat.upper)


def _corner(drawn: tf.Tensor, side: tf.Tensor, limit: int, last: Any = 1) -> tf.Tensor:
    """Uniformly random places, int32, where a span of `side` pixels of `limit` begins; the last one where `last` is 1.

    The original never reaches the last row and column after its start, and so cannot use what is there.
    """
    choices = tf.maximum(limit - side + last, 1)
    return tf.minimum(tf.cast(drawn * tf.cast(choices, drawn.dtype), tf.int32), choices - 1)


def _span(start: tf.Tensor, side: tf.Tensor, places: tf.Tensor) -> tf.Tensor:
    """Gives bool `[..., places]`, true for `side` places from `start` (integers `[...]`) on."""
    beyond = places - start[..., tf.newaxis]
    return (beyond >= 0) & (beyond < side[..., tf.newaxis])


def _places_in(span: tf.Tensor, size: int) -> tf.Tensor:
    """Gives float32 `[n, size, limit]` of spans, 0 or 1, `[n, limit]`: 1 where a span's i-th place is."""
    places = tf.cumsum(span, axis=1) * span  # from 1
    return tf.cast(tf.range(1.0, size + 1)[:, tf.newaxis] == places[:, tf.newaxis], tf.float32)


def _profile(side: int) -> np.ndarray:
    """The perturbation of a window before its sign, float32 `[side, side]` of norm 1 (section 3.3)."""
    profile = np.concatenate([_mound(side // 2, side), -_mound(side - side // 2, side)])
    return (profile / np.linalg.norm(profile)).astype(np.float32)


def _mound(height: int, width: int) -> np.ndarray:
    """Falls from the middle in square rings: ring r holds the sum of 1 / (k + 1)^2 from k = r to the last ring."""
    rings = np.maximum(np.abs(np.arange(height) - height // 2)[:, None], np.abs(np.arange(width) - width // 2))
    terms = 1 / np.arange(1, max(height, width) // 2 + 2) ** 2
    mound = np.cumsum(terms[::-1])[::-1][rings]
    return mound / np.maximum(np.linalg.norm(mound), 1e-12)


def _grid(keys: tf.Tensor, height: int, width: int, channels: int) -> tf.Tensor:
    """Five by five small profiles (as many as fit), each with its own orientation and signs."""
    side = max(min(height, width) // 5, 1)
    rows, columns = height // side, width // side
    top, left = (height - rows * side) // 2, (width - columns * side) // 2
    drawn = uniform(keys, [rows, columns, 1 + channels])
    lying, signs = drawn[..., :1] < 0.5, tf.where(drawn[..., 1:] < 0.5, -1.0, 1.0)

    def tiles(values: tf.Tensor) -> tf.Tensor:
        return tf.repeat(tf.repeat(values, side, axis=1), side, axis=2)

    profile = np.tile(_profile(side), (rows, columns))[..., np.newaxis]
    turned = np.tile(_profile(side).T, (rows, columns))[..., np.newaxis]
    grid = tf.where(tiles(lying), turned, profile) * tiles(signs)
    return tf.pad(
        grid,
        [[0, 0], [top, height - rows * side - top], [left, width - columns * side - left], [0, 0]],
    )
