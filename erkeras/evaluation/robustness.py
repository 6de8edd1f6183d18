"""Robust accuracy: correct when clean and under every attack that was run, image by image."""

from __future__ import annotations

import contextlib
import dataclasses
import warnings as python_warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from erkeras.attacks import Attack
from erkeras.attacks.checks import unconfirmed_sentence
from erkeras.data import Split
from erkeras.errors import InputError, RobustnessWarning
from erkeras.evaluation.attacker import Attacker, Finished, ThisProcess
from erkeras.evaluation.checks import check_result
from erkeras.evaluation.examples import STANDING, WRONG_WHEN_CLEAN, Examples
from erkeras.evaluation.record import Record
from erkeras.notebook import html_table
from erkeras.progress import Progress
from erkeras.saved import Summary


@dataclass(frozen=True, repr=False)
class Robustness:
    """Holds what attacks, one after the other, left standing. Each attack gets the images that still stand.

    Attributes:
        attacks: those that were run, in this order.
        examples: what became of each image.
        outputs: what the model's outputs were taken for; see `Attacked`.
        seconds: how long each attack took, in all runs that made the record; of several workers, all of them together.
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

    def _repr_html_(self) -> str:
        """Shows the accuracy after each attack as a table, in a notebook."""
        rows = [["clean", f"{self.clean_accuracy:.1%}", ""]]
        for number, (name, seconds) in enumerate(zip(self.names, self.seconds, strict=True)):
            rows.append([name, f"{self.accuracy_after(number):.1%}", f"{seconds:.1f}"])
        title = f"Robustness on {len(self.examples)} images"
        return html_table(title, ["attack", "robust after it", "seconds"], rows, self.warnings)

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

    Example:
        evaluate_robustness(model, digits.test.take(np.arange(20)), [FGSM(threat), PGD(threat)]).robust_accuracy

    Args:
        model: as an attack takes it, or an `Attacker` that holds one.
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
    attacker = model if isinstance(model, Attacker) else ThisProcess(model)
    if internal_batch is None:
        internal_batch = attacker.fitting_batch(split.take(np.arange(1)).images)
    parts = [record.read()] if record else []
    seconds = record.seconds() if record else [0.0] * len(chosen)
    unconfirmed = record.unconfirmed() if record else [0] * len(chosen)
    known = sum(len(part) for part in parts)
    report = _Report(progress or Progress(), stage, len(split), sum(attack.work for attack in chosen), parts)
    with contextlib.closing(attacker):
        look = attacker.begin(split, chosen, seed, internal_batch, report)
        # Part by part through all attacks: what is known of an image is then known for good.
        starts = range(known, len(split), attacker.part_size)
        for finished in _in_order(attacker.attack(starts), known):
            parts.append(finished.examples)
            seconds = [before + more for before, more in zip(seconds, finished.seconds, strict=True)]
            unconfirmed = [before + more for before, more in zip(unconfirmed, finished.unconfirmed, strict=True)]
            report.standing(parts)
            if record:
                record.append(parts[-1], seconds, unconfirmed)
    examples = Examples.join(parts)
    warnings = [*look.warnings, *check_result(examples, chosen)]
    for sentence in warnings:
        python_warnings.warn(sentence, RobustnessWarning, stacklevel=2)
    # Whoever called the attack was warned of these then.
    warnings += [unconfirmed_sentence(name, count) for name, count in zip(names, unconfirmed, strict=True) if count]
    result = Robustness(chosen, examples, look.outputs, tuple(seconds), tuple(warnings))
    if record:
        record.finish({**record.so_far(seconds, unconfirmed), "summary": dataclasses.asdict(result.summary())})
    return result


def _in_order(finished: Iterator[Finished], start: int) -> Iterator[Finished]:
    """Holds each part back until all before it have come."""
    waiting: dict[int, Finished] = {}
    for part in finished:
        waiting[part.start] = part
        while start in waiting:
            ready = waiting.pop(start)
            start += len(ready.examples)
            yield ready


class _Report(Progress):
    """Adds the robust accuracy so far to the units of work that attacks report, and to what is known of workers."""

    def __init__(self, progress: Progress, stage: str, images: int, work: int, parts: list[Examples]) -> None:
        self._progress = progress
        self._who, self._note = "", ""
        progress.stage(stage, images * work)
        self.standing(parts)
        self.advance(work * sum(len(part) for part in parts))

    def standing(self, parts: list[Examples]) -> None:
        broken_by = np.concatenate([np.zeros(0, np.int32), *(part.broken_by for part in parts)])
        if len(broken_by):
            self._note = f"robust {np.mean(broken_by == STANDING):.1%} of {len(broken_by)}"
            self.advance(0)

    def advance(self, units: int, note: str = "") -> None:
        self._who = note or self._who
        self._progress.advance(units, ", ".join(words for words in (self._who, self._note) if words))
