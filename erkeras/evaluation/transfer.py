"""Attacked images of one model, classified by another: what a defense is worth against those who do not know it."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from erkeras.attacks import as_victim
from erkeras.data import Split
from erkeras.evaluation.examples import STANDING, WRONG_WHEN_CLEAN
from erkeras.evaluation.robustness import Robustness

_TRANSFERRED = (
    "The images were made for another model than the one that classifies them: an attack on that one finds more."
)


def evaluate_transferred(model: Any, robustness: Robustness, split: Split) -> Robustness:
    """Classifies the same clean and attacked images by another model.

    What one attack spared, the next one attacked: an image that only this model takes for another class counts as
    broken by the last attack, if it is within its threat model. What only the attacked model got wrong was never
    attacked, and stands.

    Args:
        model: who classifies them, as an attack takes it.
        robustness: of the model that was attacked.
        split: the images that it is about.
    """
    victim = as_victim(model)
    attack, found = robustness.attacks[0], robustness.examples
    clean, attacked = (
        attack.predictions(victim.outputs_for(images, "labels")).numpy() for images in (split.images, found.images)
    )
    last = len(robustness.attacks) - 1
    broken_by = np.where(found.broken_by >= 0, found.broken_by, last)
    inside = robustness.attacks[last].threat.allows(found.distance)  # the nearest image that C&W found may not be
    broken_by = np.where((attacked == found.labels) | ~inside, STANDING, broken_by)
    broken_by = np.where(clean == found.labels, broken_by, WRONG_WHEN_CLEAN).astype(np.int32)
    examples = dataclasses.replace(found, clean_predictions=clean, predictions=attacked, broken_by=broken_by)
    return dataclasses.replace(
        robustness, examples=examples, outputs=victim.outputs, warnings=(*robustness.warnings, _TRANSFERRED)
    )
