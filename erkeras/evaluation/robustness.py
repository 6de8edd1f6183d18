"""Robust accuracy: correct when clean and under every attack that was run, image by image."""

from __future__ import annotations

import dataclasses
import time
import warnings as python_warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from erkeras.attacks import Attack, Victim, as_victim
from erkeras.attacks.checks import check_model
from erkeras.attacks.devices import fitting_batch
from erkeras.attacks.streams import has_gpu, parallel_streams
from erkeras.data import Split
from erkeras.errors import InputError, RobustnessWarning
from erkeras.evaluation.checks import check_result
from erkeras.evaluation.examples import STANDING, UNANSWERED, WRONG_WHEN_CLEAN, Examples
from erkeras.evaluation.record import Record
from erkeras.progress import Progress
from erkeras.saved import Summary

#: Work for each image up to which a part has more images than the internal batches, and how many times as many at most.
_WORK, _MOST_TIMES = 200, 4


@dataclass(frozen=True, repr=False)
class Robustness:
    """Holds what attacks, one after the other, left standing. Each attack gets the images that still stand.

    Attributes:
        attacks: those that were run, in this order.
        examples: what became of each image.
        outputs: what the model's outputs were taken for; see `Attacked`.
        seconds: how long each attack took, in all runs that made the record.
        warnings: sentences about what makes these figures doubtful.
    """

    attacks: tuple[Attack, ...]
    examples: Examples
    outputs: str
    seconds: tuple[float, ...]
    warnings: tuple[str, ...]

    def __repr__(self) -> str:
        """Says how it ended: a notebook shows this, and arrays would hide it."""
        after = [f"{name} {self.accuracy_after(number):.1%}" for number, name in enumerate(self.names)]
        return f"Robustness({len(self.examples)} images, {', '.join([f'clean {self.clean_accuracy:.1%}', *after])})"

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(attack.name for attack in self.attacks)

    @property
    def right_when_clean(self) -> np.ndarray:
        """Tells, bool `[n]`, which images attacks got at all."""
        return self.examples.broken_by != WRONG_WHEN_CLEAN

    @property
    def clean_accuracy(self) -> float:
        return float(np.mean(self.right_when_clean))

    @property
    def robust(self) -> np.ndarray:
        """Tells, bool `[n]`, which are correct when clean and under every attack."""
        return self.examples.broken_by == STANDING

    @property
    def successful(self) -> np.ndarray:
        """Tells, bool `[n]`, which are right when clean, and broken."""
        return self.examples.broken_by >= 0

    @property
    def robust_accuracy(self) -> float:
        return float(np.mean(self.robust))

    def accuracy_after(self, number: int) -> float:
        """Gives the robust accuracy once the attacks up to this one, a position in `attacks`, were run."""
        return float(np.mean(self.robust | (self.examples.broken_by > number)))

    @property
    def mean_boundary_distance(self) -> float | None:
        """Gives the mean distance to the nearest image found of another class, over images that are right when clean.

        The average decision boundary distance of Chen and Gu (2020), for RayS; for one attack alone that minimises
        the perturbation, None otherwise, or where an image has no such neighbour.
        """
        right = self.right_when_clean
        crossed = self.examples.predictions[right] != self.examples.labels[right]
        if len(self.attacks) > 1 or not self.attacks[0].minimises or not right.any() or not crossed.all():
            return None
        return float(np.mean(self.examples.distance[right]))

    def summary(self) -> Summary:
        """Gives the figures, as plain values."""
        return Summary(
            images=len(self.examples),
            outputs=self.outputs,
            clean_accuracy=self.clean_accuracy,
            attacks={name: self.accuracy_after(number) for number, name in enumerate(self.names)},
            robust_accuracy=self.robust_accuracy,
            mean_boundary_distance=self.mean_boundary_distance,
            forward_passes=dict(zip(self.names, self.examples.queries.sum(axis=0).tolist(), strict=True)),
            backward_passes=dict(zip(self.names, self.examples.gradients.sum(axis=0).tolist(), strict=True)),
            warnings=self.warnings,
        )


def evaluate_robustness(
    model: Any,
    split: Split,
    attacks: Sequence[Attack],
    *,
    seed: int = 0,
    internal_batch: int | None = None,
    record: Record | None = None,
    progress: Progress | None = None,
    stage: str = "attacking",
) -> Robustness:
    """Runs attacks one after the other, each on the images that still stand.

    Args:
        model: as an attack takes it.
        split: images, labels and original indices.
        attacks: no two of one name. One that is made of others (AutoAttack) counts as these.
        seed: of the attacks' random numbers.
        internal_batch: how many images the model sees at once; by default what suits the device.
        record: where examples go as soon as they are known; those that it holds are not attacked again.
        progress: hears of one stage, whose units are n x the work of all attacks, with the figure so far.
        stage: name of that stage.

    Raises:
        InputError: without an attack or an image, and whatever the attacks raise.
    """
    chosen = tuple(part for attack in attacks for part in attack.parts)
    names = [attack.name for attack in chosen]
    if not names or len(set(names)) < len(names) or not len(split):
        raise InputError(
            f"{len(split)} images and the attacks {', '.join(names) or 'none'} were given: give at least one image, "
            "and each attack once."
        )
    victim = as_victim(model)
    if internal_batch is None:
        internal_batch = fitting_batch(victim, split.take(np.arange(1)).images)
    first = split.take(np.arange(min(len(split), internal_batch)))
    classes = victim.outputs_for(first.images, internal_batch=internal_batch).shape[1]
    for attack in chosen:
        attack.check(classes // attack.outputs_per_class, split.pixels.shape[1:])
    warnings = check_model(victim, first.images, first.labels, chosen, internal_batch)
    victim.looked.update(chosen)  # what was seen is said below, with what the results say
    parts = [record.read()] if record else []
    seconds = record.seconds() if record else [0.0] * len(chosen)
    known = sum(len(part) for part in parts)
    report = _Report(progress or Progress(), stage, len(split), sum(attack.work for attack in chosen), parts)
    # Part by part through all attacks: what is known of an image is then known for good.
    size = part_size(chosen, internal_batch)
    for start in range(known, len(split), size):
        part = split.take(np.arange(start, min(start + size, len(split))))
        parts.append(_attack(victim, part, chosen, seed, internal_batch, seconds, report))
        report.standing(parts)
        if record:
            record.append(parts[-1], seconds)
    examples = Examples.join(parts)
    warnings += check_result(examples, chosen)
    for sentence in warnings:
        python_warnings.warn(sentence, RobustnessWarning, stacklevel=2)
    result = Robustness(chosen, examples, victim.outputs, tuple(seconds), tuple(warnings))
    if record:
        record.finish(
            {"seconds": dict(zip(names, seconds, strict=True)), "summary": dataclasses.asdict(result.summary())}
        )
    return result


def part_size(attacks: Sequence[Attack], internal_batch: int) -> int:
    """Counts the images that go through all attacks before the next ones, and before a record has them.

    They fill the internal batches. Where attacks make few passes, and on a GPU, there are up to four times as many, so
    that slots which broken images leave are taken by others.
    """
    times = _MOST_TIMES if has_gpu() else _WORK // sum(attack.work for attack in attacks)
    return internal_batch * parallel_streams() * min(max(times, 1), _MOST_TIMES)


def _attack(
    victim: Victim,
    part: Split,
    attacks: tuple[Attack, ...],
    seed: int,
    internal_batch: int,
    seconds: list[float],
    report: _Report,
) -> Examples:
    images, labels = part.images, part.labels
    broken_by = np.full(len(part), STANDING, np.int32)
    clean_predictions = predictions = np.zeros(len(part), np.int32)
    found, distance = images.copy(), np.zeros(len(part), np.float32)
    queries, gradients = (np.zeros((len(part), len(attacks)), np.int64) for _ in range(2))
    for number, attack in enumerate(attacks):
        rows = np.flatnonzero(broken_by == STANDING)
        report.advance(attack.work * (len(part) - len(rows)))
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
            progress=report,
        )
        seconds[number] += time.perf_counter() - started
        if number == 0:
            clean_predictions, predictions = result.clean_predictions, result.predictions.copy()
            broken_by[result.wrong_when_clean] = WRONG_WHEN_CLEAN
            result = dataclasses.replace(result, success=result.success & ~result.wrong_when_clean)
        broken_by[rows[~result.answered]] = UNANSWERED
        broken_by[rows[result.success]] = number
        found[rows], distance[rows], predictions[rows] = result.images, result.distance, result.predictions
        queries[rows, number], gradients[rows, number] = result.queries, result.gradients
    return Examples(
        part.indices, labels, clean_predictions, broken_by, predictions, distance, queries, gradients, found
    )


class _Report(Progress):
    """Adds the robust accuracy so far to the units of work that attacks report."""

    def __init__(self, progress: Progress, stage: str, images: int, work: int, parts: list[Examples]) -> None:
        self._progress = progress
        self._note = ""
        progress.stage(stage, images * work)
        self.standing(parts)
        self.advance(work * sum(len(part) for part in parts))

    def standing(self, parts: list[Examples]) -> None:
        broken_by = np.concatenate([np.zeros(0, np.int32), *(part.broken_by for part in parts)])
        if len(broken_by):
            self._note = f"robust {np.mean(broken_by == STANDING):.1%} of {len(broken_by)}"
            self.advance(0)

    def advance(self, units: int, note: str = "") -> None:
        self._progress.advance(units, note or self._note)
