"""AutoAttack (Croce and Hein 2020, "Reliable evaluation of adversarial robustness with an ensemble of diverse
parameter-free attacks")."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from erkeras.attacks.apgd import APGD
from erkeras.attacks.attack import Attack, check_images, serializable
from erkeras.attacks.contract import INTERNAL_BATCH, Attacked
from erkeras.attacks.fab import FAB
from erkeras.attacks.square import Square
from erkeras.attacks.victim import as_victim
from erkeras.errors import InputError
from erkeras.progress import Progress
from erkeras.threat import ThreatModel

#: Target classes of APGD-T and FAB-T.
_TARGETS = 9


def _standard(threat: ThreatModel) -> tuple[Attack, ...]:
    return (
        APGD(threat),
        APGD(threat, loss="dlr", targets=_TARGETS),
        FAB(threat, targets=_TARGETS, minimise=False),
        Square(threat),
    )


def _plus(threat: ThreatModel) -> tuple[Attack, ...]:
    return (
        APGD(threat, restarts=5),
        APGD(threat, loss="dlr", restarts=5),
        FAB(threat, restarts=5, minimise=False),
        Square(threat),
        APGD(threat, loss="dlr", targets=_TARGETS),
        FAB(threat, targets=_TARGETS, minimise=False),
    )


def _rand(threat: ThreatModel) -> tuple[Attack, ...]:
    return APGD(threat, eot=20), APGD(threat, loss="dlr", eot=20)


_VERSIONS = {"standard": _standard, "plus": _plus, "rand": _rand}
VERSIONS = tuple(_VERSIONS)


@serializable
@dataclass(frozen=True)
class AutoAttack(Attack):
    """Runs several attacks one after the other, each on the images that no earlier one has broken.

    `evaluate_robustness` runs, times and records the attacks one by one; a call gives the union alone.

    Example:
        AutoAttack(ThreatModel("l_inf", 0.3))(model, images, labels).robust_accuracy

    Args:
        threat: norm, epsilon, pixel bounds.
        version: "standard" (APGD-CE, APGD-T, FAB-T, Square), "plus" (APGD-CE and APGD-DLR with five restarts, FAB
            with five, Square, APGD-T, FAB-T), or "rand" for randomised models (APGD-CE and APGD-DLR on the mean
            gradient of 20 passes).

    Raises:
        InputError: for another version; when called, for a model of two or three classes (but for "rand" with
            three), where the DLR losses do not exist.
    """

    version: str = "standard"

    name = "autoattack"

    def __post_init__(self) -> None:
        if self.version not in _VERSIONS:
            raise InputError(f"AutoAttack's version is {self.version!r}: give one of {', '.join(VERSIONS)}.")

    @property
    def parts(self) -> tuple[Attack, ...]:
        return _VERSIONS[self.version](self.threat)

    @property
    def attempts(self) -> int:
        return sum(attack.work for attack in self.parts)

    def check(self, classes: int, image_shape: tuple[int, ...]) -> None:
        for attack in self.parts:
            attack.check(classes, image_shape)

    def __call__(
        self,
        model: Any,
        images: Any,
        labels: Any,
        *,
        seed: int = 0,
        indices: Any = None,
        internal_batch: int | None = None,
        progress: Progress | None = None,
    ) -> Attacked:
        """Attacks every image, as any attack does."""
        return attack_in_turn(
            self.parts,
            model,
            images,
            labels,
            seed=seed,
            indices=indices,
            internal_batch=internal_batch,
            progress=progress,
        )


def attack_in_turn(
    attacks: Sequence[Attack],
    model: Any,
    images: Any,
    labels: Any,
    *,
    seed: int = 0,
    indices: Any = None,
    internal_batch: int | None = None,
    progress: Progress | None = None,
) -> Attacked:
    """Runs attacks one after the other, each on the images that still stand; arguments as for any attack."""
    images, labels, indices = check_images(attacks[0].threat, images, labels, indices)
    progress = progress or Progress()
    victim = as_victim(model)
    if len(images):
        # Before the first attack has spent its time.
        outputs = victim.outputs_for(images[:1], internal_batch=internal_batch or INTERNAL_BATCH).shape[1]
        for attack in attacks:
            attack.check(outputs // attack.outputs_per_class, images.shape[1:])
    found: Attacked | None = None
    for attack in attacks:
        rows = np.arange(len(images)) if found is None else np.flatnonzero(~found.success)
        progress.advance(attack.work * (len(images) - len(rows)))
        result = attack(
            victim,
            images[rows],
            labels[rows],
            seed=seed,
            indices=indices[rows],
            internal_batch=internal_batch,
            progress=progress,
        )
        found = result if found is None else found.followed_by(result, rows)
    assert found is not None
    return found
