"""ER-Detector (section 3.3, Algorithm 2): a density for each class, a logistic regression on its score."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score, roc_curve

from erkeras.data import read_arrays
from erkeras.detection.density import ClassDensities
from erkeras.detection.features import FEATURES, feature_function
from erkeras.errors import InputError
from erkeras.files import write_arrays
from erkeras.models import ERClassifier

_DENSITIES = ("centres", "counts", "bandwidth", "weights")
_ARRAYS = (
    "features",
    "mean",
    "scale",
    *_DENSITIES,
    "weight",
    "bias",
    "threshold",
    "false_positive_rate",
)


@dataclass(frozen=True)
class Detection:
    """What the detector says of n images.

    Attributes:
        probabilities: float32 `[n, classes]`, of the classifier.
        label: int32 `[n]`, the classifier's.
        score: float32 `[n]` in [0, 1], higher for adversarial images.
        verdict: bool `[n]`, true where the score is above the threshold: adversarial.
    """

    probabilities: np.ndarray
    label: np.ndarray
    score: np.ndarray
    verdict: np.ndarray


class ERDetector:
    """Tells adversarial images by the density of their code under the class that the classifier predicts.

        detector = ERDetector(model).fit(train.images, train.labels)
        detector.calibrate(validation.images, adversarial_validation_images)
        detector.predict(images).verdict

    `fit` takes clean training images, `calibrate` validation images; nothing is to be judged on either.

    Args:
        model: a trained ERClassifier.
        features: "combined" (ER2: hidden layers' means and code) or "code" (ER1).
    """

    def __init__(self, model: ERClassifier, features: str = "combined") -> None:
        self.model = model
        self.features = features
        self._extract = feature_function(model.encoder, features)
        self.densities: ClassDensities | None = None
        self.mean = self.scale = np.zeros(0, np.float64)
        self.weight, self.bias, self.threshold, self.false_positive_rate = 0.0, 0.0, 1.0, 0.0
        self._compile()

    def fit(self, images: np.ndarray, labels: np.ndarray, limit: int | None = 1000, seed: int = 0) -> ERDetector:
        """Fits the scaling, the bandwidth and the densities on clean training images.

        Args:
            images: float32 `[n, height, width, channels]`.
            labels: int `[n]`, true labels.
            limit: the densities stand on at most this many images of each class, drawn at random, so that a
                detector stays small enough to serve; None for all.
            seed: of that draw.
        """
        features = _batched(self._extract, images)[1].astype(np.float64)
        self.mean = features.mean(axis=0)
        # A unit that never fires says nothing, and must not divide by zero.
        self.scale = np.maximum(features.std(axis=0), 1e-6)
        classes = self.model.classifier.output_shape[-1]
        scaled = (features - self.mean) / self.scale
        self.densities = ClassDensities.fit(scaled, labels, classes, limit=limit, seed=seed)
        self._compile()
        return self

    def reduce(self, limit: int, seed: int = 0) -> ERDetector:
        """Puts a smaller mixture in the densities' place (see `ClassDensities.reduced`); `calibrate` comes after it.

        Args:
            limit: at most this many centres for each class.
            seed: of the reduction.

        Raises:
            InputError: before `fit`.
        """
        self.densities = self._fitted().reduced(limit, seed)
        self._compile()
        return self

    def calibrate(self, natural: np.ndarray, adversarial: np.ndarray, false_positive_rate: float = 0.05) -> ERDetector:
        """Fits the logistic regression, and the threshold that at most this portion of natural images exceeds.

        Args:
            natural: clean validation images.
            adversarial: attacked validation images: the positives.
            false_positive_rate: in (0, 1).

        Raises:
            InputError: without images of both kinds, or before `fit`.
        """
        if not (len(natural) and len(adversarial)):
            raise InputError(
                f"there are {len(natural)} natural and {len(adversarial)} adversarial images to calibrate the "
                "detector on: give at least one of each."
            )
        if not 0 < false_positive_rate < 1:
            raise InputError(f"the false positive rate is {false_positive_rate}: give a number between 0 and 1.")
        negatives, positives = self.log_density(natural), self.log_density(adversarial)
        densities = np.concatenate([negatives, positives])
        # Standardised, so that the regression's penalty does not depend on the unit of the density.
        centre, spread = densities.mean(), max(densities.std(), 1e-12)
        regression = LogisticRegression(class_weight="balanced").fit(
            ((densities - centre) / spread)[:, np.newaxis],
            np.repeat([0, 1], [len(negatives), len(positives)]),
        )
        self.weight = float(regression.coef_[0, 0] / spread)
        self.bias = float(regression.intercept_[0] - self.weight * centre)
        scores = 1 / (1 + np.exp(-(self.weight * negatives + self.bias)))
        # The order statistic that a new natural image exceeds with at most the stated probability; halfway to the
        # next one, so that rounding decides no verdict.
        rank = min(math.ceil((len(scores) + 1) * (1 - false_positive_rate)), len(scores))
        self.threshold = float(np.append(np.sort(scores), 1.0)[rank - 1 : rank + 1].mean())
        self.false_positive_rate = false_positive_rate
        self._compile()
        return self

    def graph(self, images: tf.Tensor) -> dict[str, tf.Tensor]:
        """Everything about images `[n, height, width, channels]` as one TensorFlow graph; what `serving` exports."""
        densities = self._fitted()
        codes, features = self._extract(images)
        logits = self.model.classify(images, codes)
        label = tf.argmax(logits, axis=1, output_type=tf.int32)
        scaled = (tf.cast(features, tf.float64) - self.mean) / self.scale
        log_density = tf.gather(densities.log_density(scaled), label, batch_dims=1)
        score = tf.sigmoid(self.weight * log_density + self.bias)
        return {
            "probabilities": tf.nn.softmax(logits),
            "label": label,
            "log_density": log_density,
            "adversarial_score": tf.cast(score, tf.float32),
            "verdict": score > self.threshold,
        }

    def outputs(self, images: tf.Tensor) -> tf.Tensor:
        """What an attacker who knows the detector sees, float32 `[n, 2 classes]`: logits, and then for each class how
        far the log odds of the adversarial score would be above the threshold's if the image were taken for it."""
        densities = self._fitted()
        codes, features = self._extract(images)
        scaled = (tf.cast(features, tf.float64) - self.mean) / self.scale
        odds = self.weight * densities.log_density(scaled) + self.bias
        threshold = min(self.threshold, 1 - 1e-12)
        excess = tf.cast(odds - math.log(threshold / (1 - threshold)), tf.float32)
        return tf.concat([self.model.classify(images, codes), excess], axis=1)

    def log_density(self, images: np.ndarray) -> np.ndarray:
        """Log density of each image's features at the predicted class, float64 `[n]`."""
        return self._run(images)["log_density"]

    def score(self, images: np.ndarray) -> np.ndarray:
        """Adversarial score of each image, float32 `[n]` in [0, 1]."""
        return self._run(images)["adversarial_score"]

    def predict(self, images: np.ndarray) -> Detection:
        """The classifier's and the detector's word on images `[n, height, width, channels]` in [0, 1]."""
        results = self._run(images)
        return Detection(*(results[name] for name in ("probabilities", "label", "adversarial_score", "verdict")))

    def evaluate(self, natural: np.ndarray, adversarial: np.ndarray) -> dict[str, Any]:
        """How well natural and adversarial images are told apart, on images that nothing was fitted on.

        Returns:
            `auroc`; `detection_rate_at_5`, the portion of adversarial images found where 5% of these natural ones
            are taken for adversarial (a point of the ROC curve, whatever the threshold); `detection_rate`, the
            portion of adversarial images above the threshold, and `false_positive_rate`, that of natural ones;
            `natural` and `adversarial`, how many there were. The first three are None without adversarial images.
        """
        negatives = self._run(natural)
        result: dict[str, Any] = {
            "auroc": None,
            "detection_rate_at_5": None,
            "detection_rate": None,
            "false_positive_rate": float(negatives["verdict"].mean()),
            "natural": len(natural),
            "adversarial": len(adversarial),
        }
        if len(adversarial):
            positives = self._run(adversarial)
            truth = np.repeat([0, 1], [len(natural), len(adversarial)])
            # The density, of which the score is a function, keeps the order where the score saturates.
            order = self.weight * np.concatenate([negatives["log_density"], positives["log_density"]])
            result["auroc"] = float(roc_auc_score(truth, order))
            false_positives, true_positives, _ = roc_curve(truth, order)
            result["detection_rate_at_5"] = float(true_positives[false_positives <= 0.05].max())
            result["detection_rate"] = float(positives["verdict"].mean())
        return result

    def save(self, path: str | Path) -> None:
        """Writes the detector's arrays as .npz (never a pickle); the model is not in it."""
        densities = self._fitted()
        owners = {name: densities if name in _DENSITIES else self for name in _ARRAYS}
        write_arrays(Path(path), {name: np.asarray(getattr(owner, name)) for name, owner in owners.items()})

    @classmethod
    def load(cls, path: str | Path, model: ERClassifier) -> ERDetector:
        """Reads what `save` wrote, for the model that the detector was fitted on.

        Raises:
            InputError: where the file is missing, not a detector's, or of another model.
        """
        arrays: dict[str, Any] = read_arrays(Path(path), _ARRAYS)
        features = str(arrays["features"])
        if features not in FEATURES:
            raise InputError(f"{path} has features {features!r}: give a detector.npz that erkeras wrote.")
        detector = cls(model, features)
        detector.mean, detector.scale = arrays["mean"], arrays["scale"]
        detector.densities = ClassDensities(*(arrays[name] for name in _DENSITIES))
        size = _batched(detector._extract, np.zeros((1, *model.encoder.input_shape[1:]), np.float32))[1].shape[1]
        if detector.densities.centres.shape[1] != size:
            raise InputError(
                f"{path} has features of size {detector.densities.centres.shape[1]} and the model gives {size}: "
                "give the detector that was fitted on this model."
            )
        for name in ("weight", "bias", "threshold", "false_positive_rate"):
            setattr(detector, name, float(arrays[name]))
        return detector

    def _fitted(self) -> ClassDensities:
        if self.densities is None:
            raise InputError("the detector is not fitted: call fit and calibrate first.")
        return self.densities

    def _compile(self) -> None:
        # The fitted numbers are constants of the graph: new ones need a new one.
        shape = (None, *self.model.encoder.input_shape[1:])
        signature = [tf.TensorSpec(shape, tf.float32)]
        self._compiled = tf.function(self.graph, input_signature=signature, autograph=False)

    def _run(self, images: np.ndarray) -> dict[str, np.ndarray]:
        return _batched(self._compiled, np.asarray(images, np.float32))


def _batched(function: Callable[[tf.Tensor], Any], images: np.ndarray, size: int = 256) -> Any:
    """A function of images over batches, its outputs (any structure) joined as arrays."""
    parts = [function(tf.constant(images[start : start + size])) for start in range(0, max(len(images), 1), size)]
    return keras.tree.map_structure(lambda *arrays: np.concatenate([np.asarray(a) for a in arrays]), *parts)
