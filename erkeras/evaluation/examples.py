"""Keeps the result of several attacks for each image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

#: In `Examples.broken_by`, beside the number of an attack.
STANDING, WRONG_WHEN_CLEAN, UNANSWERED = -1, -2, -3
#: What a line of a record calls these; an attack it calls by its name.
WORDS = {STANDING: None, WRONG_WHEN_CLEAN: "clean", UNANSWERED: "no number"}


@dataclass(frozen=True)
class Examples:
    """Holds n images and the results of k attacks that ran one after the other.

    Attributes:
        indices: int64 `[n]`, the images' original indices.
        labels: int32 `[n]`.
        clean_predictions: int32 `[n]`.
        broken_by: int32 `[n]`, the number of the attack that broke the image, `STANDING`, `WRONG_WHEN_CLEAN`, or
            `UNANSWERED` where the model gave what is no number.
        predictions: int32 `[n]`, the model's label for `images`.
        distance: float32 `[n]`, norm of the perturbation of `images`.
        queries: int64 `[n, k]`, forward passes that each attack spent on the image.
        gradients: int64 `[n, k]`, backward passes.
        images: float32 `[n, height, width, channels]`: what broke the image; else the last attack's best attempt.
    """

    indices: np.ndarray
    labels: np.ndarray
    clean_predictions: np.ndarray
    broken_by: np.ndarray
    predictions: np.ndarray
    distance: np.ndarray
    queries: np.ndarray
    gradients: np.ndarray
    images: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    @classmethod
    def join(cls, parts: list[Examples]) -> Examples:
        names = [field.name for field in fields(cls)]
        return cls(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in names})


def as_lines(examples: Examples, names: Sequence[str]) -> list[dict[str, Any]]:
    """Lists one mapping of plain values for each example; `names` are the attacks'."""
    words = {**WORDS, **dict(enumerate(names))}
    return [
        {
            "index": int(examples.indices[row]),
            "label": int(examples.labels[row]),
            "clean_prediction": int(examples.clean_predictions[row]),
            "broken_by": words[int(examples.broken_by[row])],
            "prediction": int(examples.predictions[row]),
            "distance": float(examples.distance[row]),
            "queries": dict(zip(names, examples.queries[row].tolist(), strict=True)),
            "gradients": dict(zip(names, examples.gradients[row].tolist(), strict=True)),
        }
        for row in range(len(examples))
    ]
