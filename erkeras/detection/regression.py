"""The logistic regression that makes a verdict of what a detector sees, and how well two kinds are told apart."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.special import expit

from erkeras.detection.criteria import Separation
from erkeras.errors import InputError

#: Where a statistic's distance from the median counts no further in the fit, in interquartile ranges.
_FARTHEST = 10.0


@dataclass(frozen=True)
class Regression:
    """Computes score(s) = sigmoid(weight . s + bias) of statistics s, and compares it with a threshold.

    Attributes:
        weight: float64 `[size]`.
        bias: in units of log odds.
        threshold: in [0, 1].
        false_positive_rate: that the threshold was set for; None for the regression's own decision, at 1/2.
    """

    weight: np.ndarray
    bias: float
    threshold: float
    false_positive_rate: float | None

    @classmethod
    def fit(cls, natural: np.ndarray, adversarial: np.ndarray, false_positive_rate: float | None = 0.05) -> Regression:
        """Fits on statistics of both kinds, each kind with the same weight however many images it has.

        Args:
            natural: float64 `[n, size]`.
            adversarial: float64 `[m, size]`, the positives.
            false_positive_rate: the threshold is what at most this fraction of the natural ones exceeds, in (0, 1);
                None for 1/2.

        Raises:
            InputError: without statistics of both kinds, or for a rate that is none.
        """
        if not (len(natural) and len(adversarial)):
            raise InputError(
                f"there are {len(natural)} natural and {len(adversarial)} adversarial images to calibrate the "
                "detector on: give at least one of each."
            )
        if false_positive_rate is not None and not 0 < false_positive_rate < 1:
            raise InputError(f"the false positive rate is {false_positive_rate}: give a number between 0 and 1.")
        statistics = np.concatenate([natural, adversarial])
        # In units of their own, so that the regression's penalty does not depend on them: of the middle half, because
        # a log density or two may be a million times as far away as all the others, which also must not rule the fit.
        centre = np.median(statistics, axis=0)
        low, high = np.quantile(statistics, [0.25, 0.75], axis=0)
        spread = np.maximum(high - low, 1e-12)
        from sklearn.linear_model import LogisticRegression  # slow to load, and verdicts do without

        regression = LogisticRegression(class_weight="balanced", max_iter=1000).fit(
            np.clip((statistics - centre) / spread, -_FARTHEST, _FARTHEST),
            np.repeat([0, 1], [len(natural), len(adversarial)]),
        )
        weight = regression.coef_[0] / spread
        bias = float(regression.intercept_[0] - weight @ centre)
        threshold = 0.5
        if false_positive_rate is not None:
            scores = expit(natural @ weight + bias)
            # The order statistic that a new natural image exceeds with at most the stated probability; halfway to
            # the next one, so that rounding decides no verdict.
            rank = min(math.ceil((len(scores) + 1) * (1 - false_positive_rate)), len(scores))
            threshold = float(np.append(np.sort(scores), 1.0)[rank - 1 : rank + 1].mean())
        return cls(weight, bias, threshold, false_positive_rate)

    def log_odds(self, statistics: np.ndarray) -> np.ndarray:
        """Gives those of the adversarial score, float64 `[n]`, of statistics `[n, size]`."""
        return statistics @ self.weight + self.bias

    @property
    def offset(self) -> float:
        """Gives the bias when log odds are counted from the threshold's."""
        threshold = min(max(self.threshold, 1e-12), 1 - 1e-12)
        return self.bias - math.log(threshold / (1 - threshold))

    def verdicts(self, statistics: np.ndarray) -> np.ndarray:
        """Decides, bool `[n]`, true: adversarial."""
        return expit(self.log_odds(statistics)) > self.threshold

    def separation(self, natural: np.ndarray, adversarial: np.ndarray) -> Separation:
        """Measures how well statistics of natural and adversarial images are told apart.

        Args:
            natural: float64 `[n, size]`, of images that nothing was fitted on.
            adversarial: float64 `[m, size]`, of such images.

        Raises:
            InputError: without natural ones.
        """
        if not len(natural):
            raise InputError("there are 0 natural images to evaluate the detector on: give at least one.")
        false_positive_rate = float(self.verdicts(natural).mean())
        if not len(adversarial):
            return Separation(None, None, None, false_positive_rate, len(natural), 0)
        truth = np.repeat([0, 1], [len(natural), len(adversarial)])
        # The log odds keep the order where the score saturates.
        order = np.concatenate([self.log_odds(natural), self.log_odds(adversarial)])
        from sklearn.metrics import roc_auc_score, roc_curve

        false_positives, true_positives, _ = roc_curve(truth, order)
        return Separation(
            float(roc_auc_score(truth, order)),
            float(true_positives[false_positives <= 0.05].max()),
            float(self.verdicts(adversarial).mean()),
            false_positive_rate,
            len(natural),
            len(adversarial),
        )
