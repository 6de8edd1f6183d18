"""Who attacks the images of an evaluation: this process, or workers that hold the model."""

from __future__ import annotations

import abc
import dataclasses
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np

from erkeras.attacks import Attack, Victim, as_victim, fitting_batch
from erkeras.attacks.checks import check_labels, check_model
from erkeras.attacks.streams import has_gpu, parallel_streams
from erkeras.data import Split
from erkeras.evaluation.examples import STANDING, UNANSWERED, WRONG_WHEN_CLEAN, Examples
from erkeras.progress import Progress

if TYPE_CHECKING:
    from erkeras.evaluation.subject import Subject

#: Work for each image up to which a part has more images than the internal batches, and how many times as many at most.
_WORK, _MOST_TIMES = 200, 4


class Look(NamedTuple):
    """Says what was seen of a model before it is attacked.

    Attributes:
        outputs: what its outputs are taken for; see `Attacked`.
        warnings: sentences about what makes its figures doubtful.
    """

    outputs: str
    warnings: tuple[str, ...]


class Finished(NamedTuple):
    """Holds a part of the images that has gone through all attacks.

    Attributes:
        start: position of its first image.
        examples: what became of each image.
        seconds: how long each attack took.
        unconfirmed: how many images each attack broke that a plain pass has right again; see `Attacked`.
    """

    start: int
    examples: Examples
    seconds: tuple[float, ...]
    unconfirmed: tuple[int, ...]


class Attacker(abc.ABC):
    """Attacks the images of an evaluation in parts. Its results depend on the seed and the images alone."""

    @property
    @abc.abstractmethod
    def part_size(self) -> int:
        """Gives how many images a part has, once it has begun; the last may have fewer."""

    @abc.abstractmethod
    def fitting_batch(self, images: np.ndarray) -> int:
        """Gives how many images the model sees at once, where nobody says so; see `erkeras.attacks.fitting_batch`."""

    @abc.abstractmethod
    def begin(
        self, split: Split, attacks: tuple[Attack, ...], seed: int, internal_batch: int, progress: Progress
    ) -> Look:
        """Looks at the model on the first images.

        Args:
            split: all images.
            attacks: those to come, one after the other.
            seed: of their random numbers.
            internal_batch: how many images the model sees at once.
            progress: hears of units of work: images x the work of all attacks.

        Raises:
            InputError: where the attacks cannot run on such a model.
        """

    @abc.abstractmethod
    def attack(self, starts: Iterable[int]) -> Iterator[Finished]:
        """Gives parts as they are finished, in any order.

        Args:
            starts: position of the first image of each part.

        Raises:
            InputError: whatever the attacks raise.
        """

    @abc.abstractmethod
    def close(self) -> None:
        """Lets go of the model; `begin` takes it again."""


class Workers(Protocol):
    """Says what an evaluation asks of workers."""

    def hold(self, subject: Subject, with_detector: bool, jit_compile: bool | str = "auto") -> Attacker:
        """Has them load a model; see `Subject.load` and `Victim`."""


class ThisProcess(Attacker):
    """Attacks in this process.

    Args:
        model: as an attack takes it.
    """

    def __init__(self, model: Any) -> None:
        self._victim = as_victim(model)

    @property
    def part_size(self) -> int:
        return part_size(self._attacks, self._internal_batch, parallel_streams())

    def fitting_batch(self, images: np.ndarray) -> int:
        return fitting_batch(self._victim, images)

    def begin(
        self, split: Split, attacks: tuple[Attack, ...], seed: int, internal_batch: int, progress: Progress
    ) -> Look:
        self._split, self._attacks, self._seed, self._progress = split, attacks, seed, progress
        self._internal_batch = internal_batch
        return look_at(self._victim, part_of(split, 0, internal_batch), attacks, internal_batch)

    def attack(self, starts: Iterable[int]) -> Iterator[Finished]:
        for start in starts:
            part = part_of(self._split, start, self.part_size)
            yield attack_part(
                self._victim, start, part, self._attacks, self._seed, self._internal_batch, self._progress
            )

    def close(self) -> None:
        """Does nothing: whoever gave the model keeps it."""


def part_of(split: Split, start: int, size: int) -> Split:
    """Takes the images from a position on, at most `size`."""
    return split.take(np.arange(start, min(start + size, len(split))))


def part_size(attacks: Sequence[Attack], internal_batch: int, streams: int) -> int:
    """Counts the images that go through all attacks before the next ones, and before a record has them.

    They fill the internal batches. Where attacks make few passes, and on a GPU, there are up to four times as many, so
    that slots which broken images leave are taken by others.

    Args:
        attacks: one after the other.
        internal_batch: how many images the model sees at once.
        streams: internal batches that are worked on at once.
    """
    times = _MOST_TIMES if has_gpu() else _WORK // sum(attack.work for attack in attacks)
    return internal_batch * streams * min(max(times, 1), _MOST_TIMES)


def look_at(victim: Victim, first: Split, attacks: Sequence[Attack], internal_batch: int) -> Look:
    """Looks at a model on images; see `Attacker.begin`."""
    classes = victim.outputs_for(first.images, internal_batch=internal_batch).shape[1]
    check_labels(first.labels, classes // attacks[0].outputs_per_class)
    for attack in attacks:
        attack.check(classes // attack.outputs_per_class, first.pixels.shape[1:])
    warnings = check_model(victim, first.images, first.labels, attacks, internal_batch)
    victim.looked.update(attacks)  # the evaluation says what was seen, with what the results say
    return Look(victim.outputs, tuple(warnings))


def attack_part(
    victim: Victim,
    start: int,
    part: Split,
    attacks: tuple[Attack, ...],
    seed: int,
    internal_batch: int,
    progress: Progress,
) -> Finished:
    """Takes a part of the images through all attacks, each on those that still stand.

    Args:
        victim: looked at already.
        start: position of the part's first image.
        part: images, labels and original indices.
        attacks, seed, internal_batch, progress: as for an `Attacker`.
    """
    seconds, unconfirmed = [0.0] * len(attacks), [0] * len(attacks)
    images, labels = part.images, part.labels
    broken_by = np.full(len(part), STANDING, np.int32)
    clean_predictions = predictions = np.zeros(len(part), np.int32)
    found, distance = images.copy(), np.zeros(len(part), np.float32)
    queries, gradients = (np.zeros((len(part), len(attacks)), np.int64) for _ in range(2))
    for number, attack in enumerate(attacks):
        rows = np.flatnonzero(broken_by == STANDING)
        progress.advance(attack.work * (len(part) - len(rows)))
        if not len(rows):
            continue
        started = time.perf_counter()
        result = attack(
            victim,
            images[rows],
            labels[rows],
            seed=seed,
            indices=part.indices[rows],
            internal_batch=internal_batch,
            progress=progress,
        )
        seconds[number] += time.perf_counter() - started
        unconfirmed[number] += int(result.unconfirmed.sum())
        if number == 0:
            clean_predictions, predictions = result.clean_predictions, result.predictions.copy()
            broken_by[result.wrong_when_clean] = WRONG_WHEN_CLEAN
            result = dataclasses.replace(result, success=result.success & ~result.wrong_when_clean)
        broken_by[rows[~result.answered]] = UNANSWERED
        broken_by[rows[result.success]] = number
        found[rows], distance[rows], predictions[rows] = result.images, result.distance, result.predictions
        queries[rows, number], gradients[rows, number] = result.queries, result.gradients
    examples = Examples(
        part.indices, labels, clean_predictions, broken_by, predictions, distance, queries, gradients, found
    )
    return Finished(start, examples, tuple(seconds), tuple(unconfirmed))
