"""The internal batch of an attack: slots, each with an attempt at an image of its own, at its own step."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from erkeras.attacks.contract import Batch, Logits, State, Steps
from erkeras.attacks.devices import WholeLoop
from erkeras.attacks.streams import has_gpu
from erkeras.attacks.tensors import where
from erkeras.attacks.victim import Victim

#: Slots take new work when this fraction of them is free: filling touches the whole state.
_REFILL = 0.125
#: Steps between two looks at what is finished, as a fraction of an attempt, and at most.
_LOOKS, _LONGEST_SEGMENT = 10, 50


class Outcome(NamedTuple):
    """Holds what came of one attempt at one image."""

    row: int
    attempt: int
    found: np.ndarray
    loss: float
    success: bool
    steps: int
    answered: bool


class Slots:
    """Holds the internal batch on the device, and which attempt at which image each slot runs."""

    def __init__(self, attack: Steps, victim: Victim, work: Batch, size: int) -> None:
        self.work, self.size = work, size
        self.rows = np.zeros(size, np.int64)
        self.attempts = np.zeros(size, np.int64)
        self.steps = np.zeros(size, np.int64)
        self.busy = np.zeros(size, bool)
        self._initial, self._advance = victim.functions(attack, compile_attack)
        self._state: State | None = None

    def assign(self, pending: Iterator[tuple[int, int]]) -> np.ndarray:
        """Gives free slots new work, once enough are free; which of them got some, bool `[size]`."""
        fresh = np.zeros(self.size, bool)
        free = np.flatnonzero(~self.busy)
        if len(free) < _REFILL * self.size and self.busy.any():
            return fresh
        for slot, (row, attempt) in zip(free, pending, strict=False):
            self.rows[slot], self.attempts[slot], self.steps[slot] = row, attempt, 0
            fresh[slot] = True
        if fresh.any() and not self.busy.any():
            # The first work of all, or of a tail: what stays idle repeats it, and is not looked at.
            self.rows[~fresh], self.attempts[~fresh] = self.rows[fresh][0], self.attempts[fresh][0]
        self.busy |= fresh
        return fresh

    def load(self, fresh: np.ndarray) -> None:
        """Puts new work on the device."""
        if not fresh.any():
            return
        self._batch = self._gather()
        state = self._initial(self._batch)
        if self._state is not None:
            state = _merge(tf.constant(fresh), state, self._state)
        self._state = {**state, "finished": state["finished"] | ~self.busy}

    def advance(self) -> None:
        """Takes some steps of all slots."""
        self._state = self._advance(self._batch, self._state)
        self.steps = self._state["step"].numpy().astype(np.int64)

    def harvest(self) -> Iterator[Outcome]:
        """Frees the slots whose attempt is over, and gives what came of it."""
        assert self._state is not None
        over = np.flatnonzero(self.busy & self._state["finished"].numpy())
        if not len(over):
            return
        names = ("found", "loss", "success", "answered")
        found, loss, success, answered = (self._state[name].numpy() for name in names)
        for slot in over:
            yield Outcome(
                int(self.rows[slot]),
                int(self.attempts[slot]),
                found[slot],
                float(loss[slot]),
                bool(success[slot]),
                int(self.steps[slot]),
                bool(answered[slot]),
            )
        self.busy[over] = False

    def drop(self, useless: Callable[[int, int], bool]) -> None:
        """Frees the slots whose attempt can no longer matter."""
        assert self._state is not None
        dropped = self.busy & [
            useless(int(row), int(attempt)) for row, attempt in zip(self.rows, self.attempts, strict=True)
        ]
        if dropped.any():
            self.busy &= ~dropped
            self._state = {**self._state, "finished": self._state["finished"] | dropped}

    def _gather(self) -> Batch:
        images, labels, clean_logits, seeds, _ = self.work
        seeds = seeds[self.rows]
        seeds[:, 0] += self.attempts << 32
        parts = (images[self.rows], labels[self.rows], clean_logits[self.rows], seeds, self.attempts.astype(np.int32))
        return Batch(*(tf.constant(part) for part in parts))


def compile_attack(attack: Steps, victim: Victim) -> tuple[Any, Any]:
    """Makes the two graphs of an attack on a model: new attempts, and some steps of all attempts."""
    logits = victim.logits

    def initial(batch: Batch) -> State:
        n = tf.shape(batch.labels)[0]
        return {
            "found": batch.images,
            "loss": tf.fill([n], -np.inf),
            "success": tf.zeros([n], tf.bool),
            "finished": tf.zeros([n], tf.bool),
            "step": tf.zeros([n], tf.int32),
            "answered": tf.ones([n], tf.bool),
            **attack.initial(batch),
        }

    def advance(batch: Batch, state: State) -> State:
        def body(number: tf.Tensor, state: State) -> tuple[tf.Tensor, State]:
            # A slot that is finished goes through the motions of its last step.
            current = {**state, "step": tf.minimum(state["step"], attack.length - 1)}
            new = {**current, **attack.step(_asking(attack, logits, batch, state), batch, current)}
            new["step"] = state["step"] + 1
            new["finished"] |= new["step"] >= attack.length
            # What else a finished attempt knows is of no use any more.
            result = ("found", "loss", "success", "finished", "step", "answered")
            kept = _merge(state["finished"], *({name: part[name] for name in result} for part in (state, new)))
            return number + 1, {**new, **kept}

        segment = min(max(attack.length // _LOOKS, 1), _LONGEST_SEGMENT)
        _, state = tf.while_loop(
            lambda number, state: (number < segment) & ~tf.reduce_all(state["finished"]),
            body,
            (0, state),
            parallel_iterations=1,  # more would only cost memory
        )
        return state

    by_xla = has_gpu() if victim.jit_compile == "auto" else bool(victim.jit_compile)
    # Starts are the same bits with XLA and without.
    return tf.function(initial, autograph=False), WholeLoop(advance, by_xla and victim.has_gradients)


def _asking(attack: Steps, logits: Logits, batch: Batch, state: State) -> Logits:
    """The model, for a step of an attack: where queries are all that counts, a finished slot asks no new one."""
    if attack.passes[1]:
        return logits
    return lambda images: logits(where(state["finished"], batch.images, images))


def _merge(condition: tf.Tensor, first: State, second: State) -> State:
    # What no step changes passes through as it is.
    return {
        name: value if value is second[name] else where(condition, value, second[name]) for name, value in first.items()
    }
