"""The protocol by which section 4.5 compares detectors: what is fitted, what it sees, what it is worth.

Densities stand on clean training images. Test images are split by a seed into set I (20%), on which the logistic
regression is fitted, and set II (80%), on which everything is evaluated. Each attacked set is made once and serves all
detectors of its model, and what a detector sees of it is computed once and serves all cells.

Adversarial examples (N) are of images that were right when clean; natural ones (M) are all clean images of the set.
Two conventions of positives, in fitting and in evaluating: `ALL` attacked images, whether or not the attack worked, or
the `SUCCESSFUL` ones alone.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from erkeras.attacks import PGD, AdaptiveAttack, Victim, as_victim
from erkeras.data import Split
from erkeras.detection import Criteria, Detector, Regression, Separation
from erkeras.evaluation.robustness import Robustness, evaluate_robustness
from erkeras.progress import Progress

ALL, SUCCESSFUL = "all", "successful"
CONVENTIONS = (ALL, SUCCESSFUL)


@dataclass(frozen=True)
class AttackedImages:
    """Holds what an attack made of n images that the classifier was right about.

    Attributes:
        images: float32 `[n, height, width, channels]`, within the threat model.
        right: bool `[n]`, the classifier still is.
    """

    images: np.ndarray
    right: np.ndarray

    def rows(self, convention: str) -> np.ndarray:
        """Tells, bool `[n]`, which of them are positives under a convention."""
        return np.ones(len(self.right), bool) if convention == ALL else ~self.right


def within_ball(model: Any, split: Split, found: Robustness) -> AttackedImages:
    """Takes the attacked images of those that the model gets right when clean.

    What an attack that minimises the perturbation found outside the ball is brought to the ball's surface, on the
    straight way back to the image.

    Args:
        model: that was attacked.
        split: the images.
        found: what one attack made of them.
    """
    threat, examples = found.attacks[0].threat, found.examples
    rows = np.flatnonzero(examples.clean_predictions == examples.labels)
    images, clean = examples.images[rows], split.images[rows]
    outside = ~threat.allows(examples.distance[rows])
    if outside.any():
        images[outside] = threat.project(images[outside], clean[outside]).numpy()
    predictions = examples.predictions[rows]
    predictions[outside] = as_victim(model).outputs_for(images[outside]).argmax(axis=1)
    return AttackedImages(images, predictions == examples.labels[rows])


@dataclass(frozen=True)
class Half:
    """Holds set I or set II: clean images, and attacked images by the name of the attack."""

    clean: Split
    attacked: dict[str, AttackedImages]


@dataclass(frozen=True)
class Cell:
    """Holds one detector's results, fitted on one attack and evaluated on another, for one kind of positives.

    Attributes:
        detector: its name.
        model: name of the model that it guards.
        fitted_on, evaluated_by: names of attacks.
        positives: `ALL` or `SUCCESSFUL`.
        criteria: on set II; None where set I has no positive to fit on.
        separation: see `Regression.separation`, of set II; None with `criteria`.
    """

    detector: str
    model: str
    fitted_on: str
    evaluated_by: str
    positives: str
    criteria: Criteria | None
    separation: Separation | None

    def summary(self) -> dict[str, Any]:
        """Lists the figures, as plain values."""
        names = ("acc_nadv", "acc_com", "without_detector", "acc_adv", "acc_cla")
        figures = {name: getattr(self.criteria, name) if self.criteria else None for name in names}
        counts = dataclasses.asdict(self.criteria) if self.criteria else None
        separation = dataclasses.asdict(self.separation) if self.separation else None
        words = {name: getattr(self, name) for name in ("detector", "model", "fitted_on", "evaluated_by", "positives")}
        return {**words, **figures, "counts": counts, "separation": separation}


class Seen:
    """Holds what a fitted detector sees of both halves: its statistics, computed once.

    Args:
        name: of the detector.
        model: name of its model.
        detector: after `fit`.
        fitting, evaluating: set I and set II.
        progress: its units sum to the images of both halves, clean and attacked.
    """

    def __init__(
        self, name: str, model: str, detector: Detector, fitting: Half, evaluating: Half, progress: Progress
    ) -> None:
        self.name, self.model, self.detector = name, model, detector
        self.fitting, self.evaluating = fitting, evaluating

        def look(images: np.ndarray) -> np.ndarray:
            statistics = detector.statistics(images)
            progress.advance(len(images))
            return statistics

        halves = (fitting, evaluating)
        self._clean = [look(half.clean.images) for half in halves]
        self._attacked = [{key: look(part.images) for key, part in half.attacked.items()} for half in halves]
        # Of whichever attack it is fitted on, so that one graph serves all.
        self._weight = tf.Variable(np.zeros(self._clean[0].shape[1]), trainable=False)
        self._offset = tf.Variable(0.0, trainable=False, dtype=tf.float64)
        self._together = Victim(lambda images: detector.excess(images, self._weight, self._offset))

    def regression(self, attack: str, positives: str, false_positive_rate: float | None) -> Regression | None:
        """Fits a regression on set I; None where it has no positive."""
        rows = self.fitting.attacked[attack].rows(positives)
        if not rows.any():
            return None
        return Regression.fit(self._clean[0], self._attacked[0][attack][rows], false_positive_rate)

    def cell(self, fitted_on: str, evaluated_by: str, positives: str, false_positive_rate: float | None) -> Cell:
        """Fits on set I and evaluates on set II."""
        regression = self.regression(fitted_on, positives, false_positive_rate)
        words = (self.name, self.model, fitted_on, evaluated_by, positives)
        if regression is None:
            return Cell(*words, None, None)
        attacked = self.evaluating.attacked[evaluated_by]
        rows = attacked.rows(positives)
        natural, adversarial = self._clean[1], self._attacked[1][evaluated_by][rows]
        criteria = Criteria.count(regression.verdicts(natural), regression.verdicts(adversarial), attacked.right[rows])
        return Cell(*words, criteria, regression.separation(natural, adversarial))

    def scores(self, fitted_on: str, evaluated_by: str, false_positive_rate: float | None) -> dict[str, Any] | None:
        """Lists log odds of set II for a picture: `natural`, `failed` and `successful` attacks, and the threshold's.

        With all attacked images as positives; None where there is none.
        """
        regression = self.regression(fitted_on, ALL, false_positive_rate)
        if regression is None:
            return None
        right = self.evaluating.attacked[evaluated_by].right
        adversarial = regression.log_odds(self._attacked[1][evaluated_by])
        return {
            "natural": regression.log_odds(self._clean[1]),
            "failed": adversarial[right],
            "successful": adversarial[~right],
            "threshold": regression.bias - regression.offset,
        }

    def against_adaptive(
        self,
        fitted_on: str,
        attack: PGD,
        part: Split,
        false_positive_rate: float | None,
        seed: int,
        progress: Progress,
        stage: str,
    ) -> dict[str, Any] | None:
        """Evaluates the detector, fitted on all attacked images of set I, against an adaptive attacker.

        Args:
            fitted_on: name of the attack of set I.
            attack: PGD that does not know the detector.
            part: images of set II.
            progress, stage: as for `evaluate_robustness`.

        Returns:
            `acc_nadv`, and `acc_com`, the fraction of the images right when clean that stay so or are found. None where
            set I has no positive.
        """
        regression = self.regression(fitted_on, ALL, false_positive_rate)
        if regression is None:
            return None
        self._weight.assign(regression.weight)
        self._offset.assign(regression.offset)
        found = evaluate_robustness(
            self._together, part, [AdaptiveAttack(attack)], seed=seed, progress=progress, stage=stage
        )
        right = found.examples.clean_predictions == part.labels
        return {
            "acc_nadv": float((~regression.verdicts(self._clean[1])).mean()),
            "acc_com": float((~found.successful)[right].mean()) if right.any() else None,
        }


def accuracy_under(model: Any, split: Split, attack: PGD, seed: int, progress: Progress, stage: str) -> float | None:
    """Measures what the classifier keeps, of the images that it gets right when clean, under an attack.

    The attack knows no detector, and gets as many attempts as one aimed at a detector.
    """
    attack = dataclasses.replace(attack, restarts=AdaptiveAttack(attack).attempts)
    found = evaluate_robustness(model, split, [attack], seed=seed, progress=progress, stage=stage)
    right = found.examples.clean_predictions == split.labels
    return float(found.robust[right].mean()) if right.any() else None
