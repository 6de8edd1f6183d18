"""Whoever doubts: the robust accuracy of a record, recomputed from its images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from erkeras.attacks import Attack, as_victim
from erkeras.data import Split
from erkeras.errors import InputError
from erkeras.evaluation.examples import STANDING, WRONG_WHEN_CLEAN
from erkeras.evaluation.record import Record
from erkeras.threat import ThreatModel


@dataclass(frozen=True)
class Verification:
    """What a record says and what its images say.

    Attributes:
        images: how many.
        recorded, recomputed: robust accuracy.
        doubtful: int64, original indices of the images about which the two differ.
    """

    images: int
    recorded: float
    recomputed: float
    doubtful: np.ndarray


def verify_record(record: Record, model: Any, split: Split, attack: Attack) -> Verification:
    """Classifies every clean and every attacked image of a record again.

    An image stands if its clean version is classified correctly and its attacked version either as well, or is
    outside the threat model.

    Args:
        record: a whole one.
        model: as an attack takes it, the one that was evaluated.
        split: the images that the record is about, with their original indices.
        attack: one of the record's, for what counts as broken and the threat model.

    Raises:
        InputError: for a record that is not whole, or of other images.
    """
    examples = record.read()
    wanted = record.settings["images"]
    if len(examples) < wanted:
        raise InputError(
            f"{record.folder} holds {len(examples)} of {wanted} examples: finish it with the same command and --resume."
        )
    rows = np.searchsorted(split.indices, examples.indices)
    rows = np.minimum(rows, len(split) - 1)
    if not np.array_equal(split.indices[rows], examples.indices):
        raise InputError(f"{record.folder} names images that the data set does not have: give the data it was made on.")
    clean = split.take(rows)
    if not np.array_equal(clean.labels, examples.labels):
        raise InputError(f"{record.folder} has other labels than the data set: give the data it was made on.")
    threat: ThreatModel = attack.threat
    victim = as_victim(model)
    broken_clean, broken = (
        _broken(attack, victim, images, examples.labels) for images in (clean.images, examples.images)
    )
    distance = np.asarray(threat.distance(examples.images, clean.images))
    inside = threat.allows(distance) & np.all(
        (examples.images >= threat.lower) & (examples.images <= threat.upper), axis=(1, 2, 3)
    )
    stands = ~broken_clean & ~(broken & inside)
    recorded = examples.broken_by == STANDING
    wrong = (examples.broken_by == WRONG_WHEN_CLEAN) != broken_clean
    return Verification(
        len(examples), float(recorded.mean()), float(stands.mean()), examples.indices[(stands != recorded) | wrong]
    )


def _broken(attack: Attack, victim: Any, images: np.ndarray, labels: np.ndarray) -> np.ndarray:
    outputs = victim.outputs_for(images, attack.knowledge)
    return attack.broken(labels, outputs).numpy()
