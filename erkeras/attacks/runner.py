"""Takes any number of images through an attack on one fixed batch.

The batch has slots. A slot holds one attempt at one image and its state; when the attempt is over, the slot takes
the next one. So every pass through the model is full as long as there is work, points that are broken leave at
once, and nothing is traced twice. An attempt is a function of its own row and seeds: which slot, which neighbours
and which moment do not matter.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import Any

import numpy as np
import tensorflow as tf

from erkeras.attacks.contract import Attacked, Batch, Logits, State, Steps
from erkeras.attacks.tensors import where
from erkeras.attacks.victim import Victim, as_victim
from erkeras.errors import InputError
from erkeras.progress import Progress
from erkeras.threat import ThreatModel

#: Slots take new work when this fraction of them is free: filling touches the whole state.
_REFILL = 0.125
#: Steps between two looks at what is finished, as a fraction of an attempt, and at most.
_LOOKS, _LONGEST_SEGMENT = 10, 50

#: Internal batches that are worked on at once, at most.
MOST_STREAMS = 4


def parallel_streams() -> int:
    """Tells how many internal batches are worked on at once, each in a thread of its own.

    On a GPU one; on a CPU as many as there are processors for beside those that TensorFlow lets one operation use,
    all by default. Two operations with one thread each are done sooner than one after the other with two
    (docs/attacks.md), so `erkeras attack` sets `tf.config.threading.set_intra_op_parallelism_threads`.
    """
    if tf.config.list_physical_devices("GPU"):
        return 1
    processors = available_processors()
    each = tf.config.threading.get_intra_op_parallelism_threads() or processors
    return max(1, min(processors // each, MOST_STREAMS))


def available_processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def run(
    attack: Steps,
    model: Any,
    images: np.ndarray,
    labels: np.ndarray,
    indices: np.ndarray,
    seed: int,
    internal_batch: int,
    progress: Progress,
) -> Attacked:
    """See `Attack.__call__`; images float32, labels int32, indices int64."""
    victim = as_victim(model)
    clean = victim.outputs_for(images, attack.knowledge, internal_batch)
    if len(images):
        classes = clean.shape[1] // attack.outputs_per_class
        _check_labels(labels, classes)
        attack.check(classes, images.shape[1:])
    batch = Batch(images, labels, clean, np.stack([np.full(len(images), seed), indices], axis=1), np.zeros(0))
    wrong = attack.broken(labels, clean).numpy()
    work = _Work(attack, batch, wrong)
    work.attack_all(victim, internal_batch, progress)

    touched = np.flatnonzero(work.steps)
    # Classified again, as whoever doubts will: by a plain pass over the images themselves.
    outputs = clean.copy()
    outputs[touched] = victim.outputs_for(work.found[touched], attack.knowledge, internal_batch)
    distance = _distances(attack.threat, work.found, images)
    forward, backward = attack.passes
    return Attacked(
        images=work.found,
        success=attack.broken(labels, outputs).numpy() & attack.threat.allows(distance),
        wrong_when_clean=wrong,
        predictions=attack.predictions(outputs).numpy(),
        clean_predictions=attack.predictions(clean).numpy(),
        distance=distance,
        queries=1 + forward * work.steps,
        gradients=backward * work.steps,
        outputs=victim.outputs,
    )


class _Work:
    """The attempts at n images: which are to be made, and the best that came of them.

    The attempts are made in the order (attempt, image). An image's result is its first successful attempt (the
    nearest image of all attempts, where the attack minimises; the highest loss, where none succeeds), so that it
    does not matter which of them ran at the same time.
    """

    def __init__(self, attack: Steps, batch: Batch, broken: np.ndarray) -> None:
        n = len(batch.images)
        self.attack, self.batch = attack, batch
        self.found = batch.images.copy()
        self.steps = np.zeros(n, np.int64)
        self.standing = ~broken
        self._attempt_steps = np.zeros((n, attack.attempts), np.int64)
        self._chosen = np.full(n, attack.attempts)  # the successful attempt that counts
        self._loss = np.full(n, -np.inf, np.float32)
        self._loss_attempt = np.full(n, attack.attempts)

    def attack_all(self, victim: Victim, internal_batch: int, progress: Progress) -> None:
        units = self.attack.work
        reported = units * int((~self.standing).sum())
        progress.advance(reported)
        if not self.standing.any():
            return
        streams = [_Slots(self.attack, victim, self.batch, internal_batch) for _ in range(parallel_streams())]
        pending, lock, stopped = self._pending(), threading.Lock(), threading.Event()

        def work(slots: _Slots) -> None:
            nonlocal reported
            while not stopped.is_set():
                with lock:
                    fresh = slots.assign(pending)
                if not slots.busy.any():
                    return
                slots.load(fresh)
                slots.advance()
                with lock:
                    for row, attempt, found, loss, success, steps in slots.harvest():
                        self._record(row, attempt, found, loss, success, steps)
                    slots.drop(lambda row, attempt: attempt > self._chosen[row])
                    done = self._units_done(streams)
                    progress.advance(done - reported)
                    reported = done

        _run_all(work, streams, stopped)
        # In the order of the attempts, as if they had been made one after the other.
        made = np.arange(self.attack.attempts) <= self._chosen[:, np.newaxis]
        self.steps = (self._attempt_steps * made).sum(axis=1)
        progress.advance(units * len(self.found) - reported)

    def _pending(self) -> Iterator[tuple[int, int]]:
        for attempt in range(self.attack.attempts):
            for row in np.flatnonzero(self.standing):
                if attempt <= self._chosen[row]:
                    yield int(row), attempt

    def _record(self, row: int, attempt: int, found: np.ndarray, loss: float, success: bool, steps: int) -> None:
        self._attempt_steps[row, attempt] = steps
        if success and not self.attack.minimises:
            if attempt < self._chosen[row]:
                self.found[row], self._chosen[row] = found, attempt
        elif self._chosen[row] == self.attack.attempts and (loss, -attempt) > (
            self._loss[row],
            -self._loss_attempt[row],
        ):
            self.found[row], self._loss[row], self._loss_attempt[row] = found, loss, attempt

    def _units_done(self, streams: list[_Slots]) -> int:
        """Units of progress: an image that is broken needs no more of its attempts, so these count as done."""
        units, length = self.attack.work, self.attack.length
        done = length * (self._attempt_steps > 0).sum(axis=1)
        for slots in streams:
            np.add.at(done, slots.rows[slots.busy], slots.steps[slots.busy])
        over = ~self.standing | (self._chosen < self.attack.attempts)
        return int(np.where(over, units, np.minimum(done, units)).sum())


class _Slots:
    """The internal batch on the device, and what each of its slots is about."""

    def __init__(self, attack: Steps, victim: Victim, work: Batch, size: int) -> None:
        self.work, self.size = work, size
        self.rows = np.zeros(size, np.int64)
        self.attempts = np.zeros(size, np.int64)
        self.steps = np.zeros(size, np.int64)
        self.busy = np.zeros(size, bool)
        self._initial, self._advance = victim.functions(attack, _compile)
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
        self._state = self._advance(self._batch, self._state)
        self.steps = self._state["step"].numpy().astype(np.int64)

    def harvest(self) -> Iterator[tuple[int, int, np.ndarray, float, bool, int]]:
        assert self._state is not None
        over = np.flatnonzero(self.busy & self._state["finished"].numpy())
        if not len(over):
            return
        found, loss, success = (self._state[name].numpy() for name in ("found", "loss", "success"))
        for slot in over:
            yield (
                int(self.rows[slot]),
                int(self.attempts[slot]),
                found[slot],
                float(loss[slot]),
                bool(success[slot]),
                int(self.steps[slot]),
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


def _run_all(work: Callable[[_Slots], None], streams: list[_Slots], stopped: threading.Event) -> None:
    if len(streams) == 1:
        return work(streams[0])  # in the thread, and under the devices and strategies, of who called
    with ThreadPoolExecutor(len(streams)) as pool:
        try:
            for future in as_completed([pool.submit(work, slots) for slots in streams]):
                future.result()
        finally:  # also where one of them failed, or Ctrl-C was pressed
            stopped.set()


def _compile(attack: Steps, logits: Logits) -> tuple[Any, Any]:
    """The two graphs of an attack on a model: new attempts, and some steps of all attempts."""

    def initial(batch: Batch) -> State:
        n = tf.shape(batch.labels)[0]
        return {
            "found": batch.images,
            "loss": tf.fill([n], -np.inf),
            "success": tf.zeros([n], tf.bool),
            "finished": tf.zeros([n], tf.bool),
            "step": tf.zeros([n], tf.int32),
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
            result = ("found", "loss", "success", "finished", "step")
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

    return tf.function(initial, autograph=False), tf.function(advance, autograph=False)


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


def _check_labels(labels: np.ndarray, classes: int) -> None:
    # A model that gives labels does not say how many there are.
    if labels.min() < 0 or 1 < classes <= labels.max():
        raise InputError(
            f"the labels run from {labels.min()} to {labels.max()}, and the model has {classes} outputs: "
            f"give labels from 0 to {classes - 1}."
        )


def _distances(threat: ThreatModel, images: np.ndarray, origins: np.ndarray, size: int = 1024) -> np.ndarray:
    """Norms of perturbations, float32 `[n]`, part after part of long arrays."""
    parts = [
        threat.distance(images[start : start + size], origins[start : start + size])
        for start in range(0, len(images), size)
    ]
    return np.concatenate([*parts, np.zeros(0, np.float32)])
