"""Robust accuracy over epsilon (Figure 3)."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from erkeras.attacks import Attack
from erkeras.data import Split
from erkeras.evaluation.robustness import evaluate_robustness
from erkeras.progress import Progress
from erkeras.threat import ThreatModel


def accuracy_curve(
    model: Any,
    split: Split,
    attacks: Callable[[ThreatModel], Sequence[Attack]],
    threat: ThreatModel,
    epsilons: Sequence[float],
    *,
    seed: int = 0,
    progress: Progress | None = None,
    stage: str = "attacking",
) -> list[float]:
    """Measures the fraction of images that are right when clean and stand every attack, at each epsilon.

    A ball holds the smaller ones: an image that was broken at a smaller epsilon is not attacked again.

    Args:
        model, split, seed: as for `evaluate_robustness`.
        attacks: the attacks within a threat model.
        threat: norm and bounds.
        epsilons: rising.
        progress: hears of one stage, whose units are n x the attacks' work x epsilons.
        stage: name of that stage.
    """
    progress = progress or Progress()
    work = sum(attack.work for attack in attacks(threat))
    progress.stage(stage, len(split) * work * len(epsilons))
    standing = np.arange(len(split))
    accuracies: list[float] = []
    for epsilon in epsilons:
        chosen = attacks(dataclasses.replace(threat, epsilon=epsilon))
        progress.advance(work * (len(split) - len(standing)))
        if len(standing):
            found = evaluate_robustness(model, split.take(standing), chosen, seed=seed, progress=_WithinStage(progress))
            standing = standing[found.robust]
        accuracies.append(len(standing) / len(split))
    return accuracies


class _WithinStage(Progress):
    """Hands units on to a stage that has begun."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress

    def advance(self, units: int, note: str = "") -> None:
        self._progress.advance(units, note)
