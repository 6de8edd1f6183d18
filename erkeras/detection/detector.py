"""What all detectors share: statistics of an image, a logistic regression on them, a verdict."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import keras
import numpy as np
import tensorflow as tf

from erkeras.data import as_images, read_arrays
from erkeras.detection.criteria import Separation
from erkeras.detection.regression import Regression
from erkeras.errors import InputError
from erkeras.files import write_arrays
from erkeras.models import ERClassifier

_REGRESSION = ("weight", "bias", "threshold", "false_positive_rate")


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


class Detector(ABC):
    """Tells adversarial images from natural ones by what a classifier makes of them.

        detector = ERDetector(model).fit(train.images, train.labels)
        detector.calibrate(validation.images, adversarial_validation_images)
        detector.predict(images).verdict

    `fit` takes clean training images, `calibrate` images that `fit` has not seen; evaluate on neither.
    A verdict is a function of the image alone.

    Args:
        model: a trained ERClassifier.

    Attributes:
        features: what it looks at, the word that tells detectors apart in a file.
        regression: None before `calibrate`.
    """

    features: str
    #: What a subclass saves, beside the regression.
    arrays: ClassVar[tuple[str, ...]]

    def __init__(self, model: ERClassifier) -> None:
        self.model = model
        self.regression: Regression | None = None
        self._compile()

    @abstractmethod
    def fit(self, images: np.ndarray, labels: np.ndarray) -> Self:
        """Learns what clean training images look like.

        Args:
            images: `[n, height, width, channels]`, float32 in [0, 1] or uint8, of which one batch at a time is cast.
            labels: int `[n]`, true labels.
        """

    @abstractmethod
    def look(self, images: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Images `[n, height, width, channels]` -> logits `[n, classes]` and statistics, float64 `[n, classes, size]`:
        an image's if it were taken for each class; `[n, 1, size]` where that makes no difference.

        Raises:
            InputError: before `fit`.
        """

    def of_label(self, images: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Images -> logits, the label int32 `[n]` that the classifier gives, and the statistics `[n, size]` for it.

        Raises:
            InputError: before `fit`.
        """
        logits, statistics = self.look(images)
        label = tf.argmax(logits, axis=1, output_type=tf.int32)
        alone = statistics.shape[1] == 1
        return logits, label, statistics[:, 0] if alone else tf.gather(statistics, label, batch_dims=1)

    @abstractmethod
    def _state(self) -> dict[str, Any]:
        """The values of `arrays`."""

    @abstractmethod
    def _restore(self, arrays: dict[str, Any]) -> None:
        """Takes what `_state` gave; raises InputError where it does not fit the model."""

    def calibrate(self, natural: np.ndarray, adversarial: np.ndarray, false_positive_rate: float | None = 0.05) -> Self:
        """Fits the logistic regression, and the threshold that at most this fraction of natural images exceeds.

        Args:
            natural: clean validation images.
            adversarial: attacked validation images: the positives.
            false_positive_rate: in (0, 1); None for the regression's own decision, at 1/2.

        Raises:
            InputError: without images of both kinds, or before `fit`.
        """
        self.regression = Regression.fit(self.statistics(natural), self.statistics(adversarial), false_positive_rate)
        self._compile()
        return self

    @property
    def threshold(self) -> float:
        """The score above which an image is found adversarial."""
        return self._calibrated().threshold

    @property
    def false_positive_rate(self) -> float | None:
        """Gives the rate that the threshold was set for."""
        return self._calibrated().false_positive_rate

    def graph(self, images: tf.Tensor) -> dict[str, tf.Tensor]:
        """Everything about images `[n, height, width, channels]` as one TensorFlow graph; what `serving` exports.

        Returns:
            `probabilities` float32 `[n, classes]`, `label` int32 `[n]`, `adversarial_score` float32 `[n]`,
            `verdict` bool `[n]`.
        """
        regression = self._calibrated()
        logits, label, statistics = self.of_label(images)
        score = tf.sigmoid(tf.linalg.matvec(statistics, regression.weight) + regression.bias)
        return {
            "probabilities": tf.nn.softmax(logits),
            "label": label,
            "adversarial_score": tf.cast(score, tf.float32),
            "verdict": score > regression.threshold,
        }

    @property
    def outputs(self) -> Callable[[tf.Tensor], tf.Tensor]:
        """Gives what an adaptive attacker sees: images -> float32 `[n, 2 classes]`, logits, and then for each
        class how far the log odds of the adversarial score would be above the threshold's if the image were taken for
        it. Another function after each `calibrate`, so that no graph of an older one is taken for it.

        Raises:
            InputError: before `fit` and `calibrate`.
        """
        self._calibrated()
        return self._seen_by_attacker

    def excess(self, images: tf.Tensor, weight: Any, offset: Any) -> tf.Tensor:
        """`outputs` for a regression that may be in variables: its `weight` `[size]` and `offset`, float64."""
        logits, statistics = self.look(images)
        odds = tf.cast(tf.linalg.matvec(statistics, weight) + offset, tf.float32)
        return tf.concat([logits, tf.broadcast_to(odds, tf.shape(logits))], axis=1)

    def statistics(self, images: np.ndarray) -> np.ndarray:
        """Gives what the regression looks at, float64 `[n, size]`: of each image, for the class it is taken for.

        Raises:
            InputError: before `fit`.
        """
        if not len(images):
            return np.zeros((0, 0))
        return in_batches(self._compiled_statistics, np.asarray(images))

    def score(self, images: np.ndarray) -> np.ndarray:
        """Adversarial score of each image, float32 `[n]` in [0, 1]."""
        return self.predict(images).score

    def predict(self, images: np.ndarray) -> Detection:
        """The classifier's and the detector's word on images.

        Args:
            images: `[n, height, width, channels]`, float32 in [0, 1] or uint8.

        Raises:
            InputError: before `fit` and `calibrate`.
        """
        results = in_batches(self._compiled, np.asarray(images))
        return Detection(*(results[name] for name in ("probabilities", "label", "adversarial_score", "verdict")))

    def evaluate(self, natural: np.ndarray, adversarial: np.ndarray) -> Separation:
        """Measures how well natural and adversarial images are told apart, on images that nothing was fitted on."""
        return self._calibrated().separation(self.statistics(natural), self.statistics(adversarial))

    def save(self, path: str | Path) -> None:
        """Writes the detector's arrays as .npz (never a pickle); the model is not in it."""
        regression = vars(self._calibrated())
        rate = regression["false_positive_rate"]
        regression = {**regression, "false_positive_rate": math.nan if rate is None else rate}
        arrays = {"features": self.features, **self._state(), **regression}
        write_arrays(Path(path), {name: np.asarray(value) for name, value in arrays.items()})

    @classmethod
    def load(cls, path: str | Path, model: ERClassifier) -> Self:
        """Reads what `save` wrote, for the model that the detector was fitted on.

        Raises:
            InputError: where the file is missing, not such a detector's, or of another model.
        """
        arrays: dict[str, Any] = read_arrays(Path(path), ("features", *cls.arrays, *_REGRESSION))
        detector = cls._of_features(model, str(arrays["features"]))
        if detector is None:
            raise InputError(
                f"{path} has features {str(arrays['features'])!r}: give a detector.npz that {cls.__name__} wrote."
            )
        try:
            detector._restore(arrays)
            bias, threshold, rate = (float(arrays[name]) for name in _REGRESSION[1:])
            weight = np.atleast_1d(np.asarray(arrays["weight"], np.float64))
            detector.regression = Regression(weight, bias, threshold, None if math.isnan(rate) else rate)
            detector._compile()
            detector.predict(np.zeros((1, *model.encoder.input_shape[1:]), np.float32))
        except (ValueError, TypeError, IndexError, tf.errors.InvalidArgumentError) as error:
            raise InputError(
                f"{path} does not fit the model: give the detector that was fitted on this model."
            ) from error
        return detector

    @classmethod
    def _of_features(cls, model: ERClassifier, features: str) -> Self | None:
        """A detector that looks at these features, if this class has one."""
        return cls(model) if features == cls.features else None

    def _calibrated(self) -> Regression:
        if self.regression is None:
            raise InputError("the detector is not fitted: call fit and calibrate first.")
        return self.regression

    def _compile(self) -> None:
        # The fitted numbers are constants of the graphs: new ones need new ones.
        signature = [tf.TensorSpec((None, *self.model.encoder.input_shape[1:]), tf.float32)]
        if self.regression is not None:
            weight, offset = self.regression.weight, self.regression.offset
            self._seen_by_attacker = lambda images: self.excess(images, weight, offset)
        self._compiled = tf.function(self.graph, input_signature=signature, autograph=False)
        self._compiled_statistics = tf.function(
            lambda images: self.of_label(images)[2], input_signature=signature, autograph=False
        )


def in_batches(function: Callable[[tf.Tensor], Any], images: np.ndarray, size: int = 256) -> Any:
    """A function of float32 images over batches, its outputs (any structure) joined as arrays."""
    starts = range(0, max(len(images), 1), size)
    parts = [function(tf.constant(as_images(images[start : start + size]))) for start in starts]
    return keras.tree.map_structure(lambda *arrays: np.concatenate([np.asarray(a) for a in arrays]), *parts)
