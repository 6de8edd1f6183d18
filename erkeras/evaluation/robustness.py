"""Robust accuracy: correct when clean and under every attack that was run, image by image."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from erkeras.attacks import Attack, Attacked
from erkeras.data import Split
from erkeras.errors import InputError


@dataclass(frozen=True)
class Robustness:
    """What several attacks left standing of the same n images.

    Attributes:
        labels: int32 `[n]`.
        indices: int64 `[n]`, the images' original indices.
        attacked: what each attack made of them, by the attack's name.
    """

    labels: np.ndarray
    indices: np.ndarray
    attacked: dict[str, Attacked]

    @property
    def _first(self) -> Attacked:
        return next(iter(self.attacked.values()))

    @property
    def clean_accuracy(self) -> float:
        return float(np.mean(self._first.clean_predictions == self.labels))

    @property
    def robust(self) -> np.ndarray:
        """bool `[n]`: correct when clean and under every attack."""
        return ~np.any([attacked.success for attacked in self.attacked.values()], axis=0)

    @property
    def robust_accuracy(self) -> float:
        return float(np.mean(self.robust))

    @property
    def outputs(self) -> str:
        """What the model's outputs were taken for; see `Attacked`."""
        return self._first.outputs

    def summary(self) -> dict[str, Any]:
        """The figures, as plain numbers."""
        return {
            "images": len(self.labels),
            "outputs": self.outputs,
            "clean_accuracy": self.clean_accuracy,
            "attacks": {name: attacked.robust_accuracy for name, attacked in self.attacked.items()},
            "robust_accuracy": self.robust_accuracy,
        }

    def adversarial(self) -> tuple[np.ndarray, np.ndarray]:
        """Images `[n, height, width, channels]`, each from the first attack that broke it (the last where none
        did), and bool `[n]`: right when clean and broken."""
        images = list(self.attacked.values())[-1].images.copy()
        for attacked in reversed(self.attacked.values()):
            images[attacked.success] = attacked.images[attacked.success]
        return images, ~self.robust & (self._first.clean_predictions == self.labels)


def evaluate_robustness(
    model: Any,
    split: Split,
    attacks: Sequence[Attack],
    *,
    seed: int = 0,
    progress: Callable[[int], None] | None = None,
) -> Robustness:
    """Runs every attack on every image.

    Args:
        model: as an attack takes it.
        split: images, labels and original indices.
        attacks: no two of one name.
        seed: of the attacks' random numbers.
        progress: called with units of work that are done; they sum to n x the work of all attacks.

    Raises:
        InputError: without an attack or an image, and whatever the attacks raise.
    """
    names = [attack.name for attack in attacks]
    if not names or len(set(names)) < len(names) or not len(split):
        raise InputError(f"{len(split)} images and the attacks {names or 'none'} were given: give each attack once.")
    images = split.images
    attacked = {
        attack.name: attack(model, images, split.labels, seed=seed, indices=split.indices, progress=progress)
        for attack in attacks
    }
    return Robustness(split.labels, split.indices, attacked)
