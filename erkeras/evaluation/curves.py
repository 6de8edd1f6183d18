"""Robust accuracy over epsilon (Figure 3)."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from erkeras.attacks import Attack
from erkeras.data import Split
from erkeras.evaluation.robustness import Progress, evaluate_robustness
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
) -> list[float]:
    """Portion of images that are right when clean and stand every attack, at each epsilon.

    A ball holds the smaller ones: an image that was broken at a smaller epsilon is not attacked again.

    Args:
        model, split, seed: as for `evaluate_robustness`.
        attacks: the attacks within a threat model.
        threat: norm and bounds.
        epsilons: rising.
        progress: as for `evaluate_robustness`; its units sum to n x the attacks' work x epsilons.
    """
    report = progress or (lambda units, note: None)
    standing = np.arange(len(split))
    accuracies: list[float] = []
    for epsilon in epsilons:
        chosen = attacks(dataclasses.replace(threat, epsilon=epsilon))
        report(sum(attack.work for attack in chosen) * (len(split) - len(standing)), "")
        if len(standing):
            found = evaluate_robustness(model, split.take(standing), chosen, seed=seed, progress=report)
            standing = standing[found.robust]
        accuracies.append(len(standing) / len(split))
    return accuracies
