"""What became of each image under several attacks."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

#: In `Examples.broken_by`, beside the number of an attack.
STANDING, WRONG_WHEN_CLEAN, UNANSWERED = -1, -2, -3


@dataclass(frozen=True)
class Examples:
    """n images and what k attacks, one after the other, made of them.

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
