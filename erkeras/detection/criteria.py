"""The criteria of Table 4."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Criteria:
    """Counts of a detector in front of a classifier, and what Table 4 makes of them.

    Attributes:
        adversarial: N, adversarial images.
        natural: M, natural images.
        found: n_adv, adversarial images that the detector found.
        passed: m_nadv, natural images that it let pass.
        right: n_cla, adversarial images that it let pass and the classifier classified correctly.
        right_alone: adversarial images that the classifier classified correctly, found or not.
    """

    adversarial: int
    natural: int
    found: int
    passed: int
    right: int
    right_alone: int

    @classmethod
    def count(cls, natural_verdicts: np.ndarray, verdicts: np.ndarray, right: np.ndarray) -> Criteria:
        """Counts.

        Args:
            natural_verdicts: bool `[M]`, true where a natural image was found adversarial.
            verdicts: bool `[N]`, the same of the adversarial images.
            right: bool `[N]`, true where the classifier is right about an adversarial image.
        """
        return cls(
            adversarial=len(verdicts),
            natural=len(natural_verdicts),
            found=int(verdicts.sum()),
            passed=int((~natural_verdicts).sum()),
            right=int((right & ~verdicts).sum()),
            right_alone=int(right.sum()),
        )

    @property
    def acc_adv(self) -> float | None:
        """n_adv / N."""
        return _portion(self.found, self.adversarial)

    @property
    def acc_nadv(self) -> float | None:
        """m_nadv / M: 1 minus the rate of false positives."""
        return _portion(self.passed, self.natural)

    @property
    def acc_cla(self) -> float | None:
        """n_cla / (N - n_adv)."""
        return _portion(self.right, self.adversarial - self.found)

    @property
    def acc_com(self) -> float | None:
        """(n_adv + n_cla) / N."""
        return _portion(self.found + self.right, self.adversarial)

    @property
    def without_detector(self) -> float | None:
        """What ACC-COM is without any detector: the classifier's accuracy under attack."""
        return _portion(self.right_alone, self.adversarial)


def _portion(part: int, whole: int) -> float | None:
    return part / whole if whole else None
