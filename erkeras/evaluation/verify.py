"""Whoever doubts: the robust accuracy of a record, recomputed from its images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from erkeras import attacks, saved
from erkeras.attacks.named import recorded_attack
from erkeras.data import Split, load_dataset
from erkeras.errors import InputError
from erkeras.evaluation.examples import STANDING, WRONG_WHEN_CLEAN
from erkeras.evaluation.record import Record
from erkeras.evaluation.subject import Subject


@dataclass(frozen=True)
class Verification:
    """What a record says and what its images say.

    Attributes:
        images: how many.
        dataset, split: of the images.
        recorded, recomputed: robust accuracy.
        doubtful: int64, original indices of the images about which the two differ.
    """

    images: int
    dataset: str
    split: str
    recorded: float
    recomputed: float
    doubtful: np.ndarray

    @property
    def holds(self) -> bool:
        """Tells whether the record says what its images say."""
        return not len(self.doubtful) and self.recorded == self.recomputed


def find_recorded(folder: str | Path, model: Any = None, modules: Sequence[str] = ()) -> tuple[Record, Subject]:
    """Opens a record and finds the model that it is about, without TensorFlow.

    Args:
        folder: of the record.
        model: as `Subject.find` takes it; by default the one whose folder holds the record, or that it names.
        modules: that register Keras classes of the user's own.

    Raises:
        InputError: where there is no record, or the model is another one.
    """
    folder = Path(folder)
    record = Record.open(folder)
    # A record that a card keeps goes where its model goes.
    home = folder.absolute().parent.parent
    where = model or (home if (home / saved.CARD).is_file() else Path(record.settings["model"]))
    subject = Subject.find(where, modules)
    if subject.digest != record.settings.get("digest"):
        raise InputError(
            f"{subject.name} is not the model that {folder} is about, or not the same version of it: give that one."
        )
    return record, subject


def verify_record(
    folder: str | Path, model: Any = None, modules: Sequence[str] = (), images: Split | None = None
) -> Verification:
    """Classifies every clean and every attacked image of a record again.

    An image stands if its clean version is classified correctly and its attacked version either as well, or is
    outside the threat model.

    Example:
        erkeras.verify_record("saved_models/mine/records/pgd-l_inf-0.3-test").holds

    Args:
        folder: of a record that is whole.
        model, modules: as for `find_recorded`.
        images: the whole split that the record is about, where it is loaded already.

    Raises:
        InputError: as `find_recorded`, and for a record that is not whole, or of other images.
    """
    record, subject = find_recorded(folder, model, modules)
    attack = recorded_attack(record.settings["attacks"][0])
    examples = record.read()
    wanted = record.settings["images"]
    if len(examples) < wanted:
        raise InputError(
            f"{record.folder} holds {len(examples)} of {wanted} examples: finish it with the same command and --resume."
        )
    split = images or getattr(load_dataset(record.settings["dataset"]), record.settings["split"])
    order = np.argsort(split.indices)
    rows = order[np.minimum(np.searchsorted(split.indices[order], examples.indices), len(split) - 1)]
    if not np.array_equal(split.indices[rows], examples.indices):
        raise InputError(f"{record.folder} names images that the data set does not have: give the data it was made on.")
    clean = split.take(rows)
    if not np.array_equal(clean.labels, examples.labels):
        raise InputError(f"{record.folder} has other labels than the data set: give the data it was made on.")
    victim = attacks.as_victim(subject.load(attack.outputs_per_class > 1))
    broken_clean, broken = (
        attack.broken(examples.labels, victim.outputs_for(images, attack.knowledge)).numpy()
        for images in (clean.images, examples.images)
    )
    threat = attack.threat
    distance = np.asarray(threat.distance(examples.images, clean.images))
    inside = threat.allows(distance) & np.all(
        (examples.images >= threat.lower) & (examples.images <= threat.upper), axis=(1, 2, 3)
    )
    stands = ~broken_clean & ~(broken & inside)
    recorded = examples.broken_by == STANDING
    wrong = (examples.broken_by == WRONG_WHEN_CLEAN) != broken_clean
    return Verification(
        images=len(examples),
        dataset=record.settings.get("dataset", ""),
        split=record.settings.get("split", ""),
        recorded=float(recorded.mean()),
        recomputed=float(stands.mean()),
        doubtful=examples.indices[(stands != recorded) | wrong],
    )
