"""Measures a detector: the criteria of Table 4, and how well it tells two kinds of images apart."""

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
        """Counts what a detector and a classifier made of natural and adversarial images.

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
        """Gives n_adv / N, the fraction of attacked images that were found."""
        return _fraction(self.found, self.adversarial)

    @property
    def acc_nadv(self) -> float | None:
        """Gives m_nadv / M, which is 1 minus the false positive rate."""
        return _fraction(self.passed, self.natural)

    @property
    def acc_cla(self) -> float | None:
        """Gives n_cla / (N - n_adv), the accuracy on attacked images that were not found."""
        return _fraction(self.right, self.adversarial - self.found)

    @property
    def acc_com(self) -> float | None:
        """Gives (n_adv + n_cla) / N, the fraction of attacked images found or classified correctly."""
        return _fraction(self.found + self.right, self.adversarial)

    @property
    def without_detector(self) -> float | None:
        """Gives what ACC-COM is without any detector: the classifier's accuracy under attack."""
        return _fraction(self.right_alone, self.adversarial)


def _fraction(part: int, whole: int) -> float | None:
    return part / whole if whole else None


@dataclass(frozen=True)
class Separation:
    """Measures how well natural and adversarial images that nothing was fitted on are told apart.

    Attributes:
        auroc: area under the ROC curve; None without adversarial images.
        detection_rate_at_5: fraction of adversarial images found where 5% of these natural ones are taken for
            adversarial (a point of the ROC curve, whatever the threshold); None without adversarial images.
        detection_rate: fraction of adversarial images above the threshold; None without any.
        false_positive_rate: fraction of natural images above the threshold.
        natural, adversarial: how many there were.
    """

    auroc: float | None
    detection_rate_at_5: float | None
    detection_rate: float | None
    false_positive_rate: float
    natural: int
    adversarial: int
