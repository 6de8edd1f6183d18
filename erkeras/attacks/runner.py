"""Takes any number of images through an attack on one fixed batch.

The batch has slots. A slot holds one attempt at one image and its state; when the attempt is over, the slot takes
the next one. So every pass through the model is full as long as there is work, points that are broken leave at
once, and nothing is traced twice. An attempt is a function of its own row and seeds: which slot, which neighbours
and which moment do not matter.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import Any

import numpy as np

from erkeras.attacks.checks import check_labels, look_once, unconfirmed_sentence
from erkeras.attacks.contract import Attacked, Batch, Steps
from erkeras.attacks.devices import fitting_batch
from erkeras.attacks.losses import is_answer
from erkeras.attacks.slots import Outcome, Slots
from erkeras.attacks.streams import parallel_streams
from erkeras.attacks.victim import Victim, as_victim
from erkeras.errors import InputError, RobustnessWarning
from erkeras.progress import Progress
from erkeras.threat import ThreatModel


def run(
    attack: Steps,
    model: Any,
    images: np.ndarray,
    labels: np.ndarray,
    indices: np.ndarray,
    seed: int,
    internal_batch: int | None,
    progress: Progress,
) -> Attacked:
    """Runs an attack as `Attack.__call__` describes. Images are float32, labels int32, indices int64."""
    victim = as_victim(model)
    if internal_batch is None:
        internal_batch = fitting_batch(victim, images) if len(images) else 1
    clean = victim.outputs_for(images, attack.knowledge, internal_batch)
    if not len(images):
        clean = np.zeros((0, 2 * attack.outputs_per_class), np.float32)
    else:
        classes = clean.shape[1] // attack.outputs_per_class
        check_labels(labels, classes)
        _check_answers(clean)
        attack.check(classes, images.shape[1:])
        look_once(victim, images[:internal_batch], labels[:internal_batch], [attack], internal_batch)
    batch = Batch(images, labels, clean, np.stack([np.full(len(images), seed), indices], axis=1), np.zeros(0))
    wrong = attack.broken(labels, clean).numpy()
    work = _Work(attack, batch, wrong)
    work.attack_all(victim, internal_batch, progress)

    touched = np.flatnonzero(work.steps)
    # Classified again, as whoever doubts will: by a plain pass over the images themselves.
    outputs = clean.copy()
    outputs[touched] = victim.outputs_for(work.found[touched], attack.knowledge, internal_batch)
    distance = _distances(attack.threat, work.found, images)
    success = attack.broken(labels, outputs).numpy() & attack.threat.allows(distance)
    unconfirmed = work.broken & ~success
    _tell_of(unconfirmed, attack)
    forward, backward = attack.passes
    return Attacked(
        images=work.found,
        success=success,
        answered=work.answered,
        unconfirmed=unconfirmed,
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
        self.answered: np.ndarray = np.ones(n, bool)
        self._attempt_answered = np.ones((n, attack.attempts), bool)
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
        streams = [Slots(self.attack, victim, self.batch, internal_batch) for _ in range(parallel_streams())]
        pending, lock, stopped = self._pending(), threading.Lock(), threading.Event()

        def work(slots: Slots) -> None:
            nonlocal reported
            while not stopped.is_set():
                with lock:
                    fresh = slots.assign(pending)
                if not slots.busy.any():
                    return
                slots.load(fresh)
                slots.advance()
                with lock:
                    for outcome in slots.harvest():
                        self._record(outcome)
                    slots.drop(lambda row, attempt: attempt > self._chosen[row])
                    done = self._units_done(streams)
                    progress.advance(done - reported)
                    reported = done

        _run_all(work, streams, stopped)
        # In the order of the attempts, as if they had been made one after the other.
        made = np.arange(self.attack.attempts) <= self._chosen[:, np.newaxis]
        self.steps = (self._attempt_steps * made).sum(axis=1)
        self.answered = np.all(self._attempt_answered | ~made, axis=1)
        progress.advance(units * len(self.found) - reported)

    @property
    def broken(self) -> np.ndarray:
        """Tells, bool `[n]`, which images an attempt broke inside the ball."""
        return (self._chosen < self.attack.attempts) & (not self.attack.minimises)

    def _pending(self) -> Iterator[tuple[int, int]]:
        for attempt in range(self.attack.attempts):
            for row in np.flatnonzero(self.standing):
                if attempt <= self._chosen[row]:
                    yield int(row), attempt

    def _record(self, outcome: Outcome) -> None:
        row, attempt, found, loss, success, steps, answered = outcome
        self._attempt_steps[row, attempt] = steps
        self._attempt_answered[row, attempt] = answered
        if success and not self.attack.minimises:
            if attempt < self._chosen[row]:
                self.found[row], self._chosen[row] = found, attempt
        elif self._chosen[row] == self.attack.attempts and (loss, -attempt) > (
            self._loss[row],
            -self._loss_attempt[row],
        ):
            self.found[row], self._loss[row], self._loss_attempt[row] = found, loss, attempt

    def _units_done(self, streams: list[Slots]) -> int:
        """Units of progress: an image that is broken needs no more of its attempts, so these count as done."""
        units, length = self.attack.work, self.attack.length
        done = length * (self._attempt_steps > 0).sum(axis=1)
        for slots in streams:
            np.add.at(done, slots.rows[slots.busy], slots.steps[slots.busy])
        over = ~self.standing | (self._chosen < self.attack.attempts)
        return int(np.where(over, units, np.minimum(done, units)).sum())


def _run_all(work: Callable[[Slots], None], streams: list[Slots], stopped: threading.Event) -> None:
    if len(streams) == 1:
        return work(streams[0])  # in the thread, and under the devices and strategies, of who called
    with ThreadPoolExecutor(len(streams)) as pool:
        try:
            for future in as_completed([pool.submit(work, slots) for slots in streams]):
                future.result()
        finally:  # also where one of them failed, or Ctrl-C was pressed
            stopped.set()


def _tell_of(unconfirmed: np.ndarray, attack: Steps) -> None:
    if unconfirmed.any():
        warnings.warn(unconfirmed_sentence(attack.name, int(unconfirmed.sum())), RobustnessWarning, stacklevel=4)


def _check_answers(outputs: np.ndarray) -> None:
    wrong = int((~is_answer(outputs).numpy()).sum())
    if wrong:
        raise InputError(
            f"the model's outputs are not numbers for {wrong} of {len(outputs)} clean images: give a model whose "
            "weights and outputs are finite."
        )


def _distances(threat: ThreatModel, images: np.ndarray, origins: np.ndarray, size: int = 1024) -> np.ndarray:
    """Norms of perturbations, float32 `[n]`, part after part of long arrays."""
    parts = [
        threat.distance(images[start : start + size], origins[start : start + size])
        for start in range(0, len(images), size)
    ]
    return np.concatenate([*parts, np.zeros(0, np.float32)])
