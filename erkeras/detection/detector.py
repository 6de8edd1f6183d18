"""Defines what all detectors share: statistics of an image, a logistic regression on them, a verdict."""

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

from erkeras.data import read_arrays
from erkeras.detection.batches import in_batches
from erkeras.detection.criteria import Separation
from erkeras.detection.network import network_of
from erkeras.detection.regression import Regression
from erkeras.errors import InputError
from erkeras.files import write_arrays
from erkeras.models.precision import at_least_float32
from erkeras.pixels import as_labels, as_pixels
from erkeras.stored import Pixels

_REGRESSION = ("weight", "bias", "threshold", "false_positive_rate")
NOT_FITTED = "the detector is not fitted: call fit and calibrate first."


@dataclass(frozen=True)
class Detection:
    """Holds what the detector says of n images.

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

    Example:
        detector = ERDetector(model).fit(train.images, train.labels)
        detector.calibrate(validation.images, adversarial_validation_images)
        detector.predict(images).verdict

    `fit` takes clean training images, `calibrate` images that `fit` has not seen; evaluate on neither.
    A verdict is a function of the image alone.

    All images are `[n, height, width, channels]`, floats in [0, 1] or whole numbers in 0..255 (`erkeras.pixels`), of
    the size that the model takes.

    The fitted numbers hold for the weights that the model had in `fit`. `calibrate`, `save`, `load` and the export
    compare a digest of them; `predict` does not, which would cost more than the verdict.

    Args:
        model: a trained ERClassifier, or any trained Sequential or Functional classifier that gives logits or
            probabilities. A softmax that it ends in is taken off.
        code_layer: the layer whose output is the code, of a model that is no ERClassifier: its name, or its path
            where it is in a nested model, as "backbone/block3_relu". By default the last layer with a nonlinearity
            before the logits. Height and width are averaged.

    Attributes:
        model: as given.
        code_layer: as given.
        network: the model as detectors see it.
        features: what it looks at, the word that tells detectors apart in a file.
        regression: None before `calibrate`.

    Raises:
        InputError: for another model, or a layer that it does not have.
    """

    features: str
    #: What a subclass saves, beside the regression.
    arrays: ClassVar[tuple[str, ...]]

    def __init__(self, model: keras.Model, code_layer: str | None = None) -> None:
        self.model = model
        self.code_layer = code_layer
        self.network = network_of(model, code_layer)
        self._digest = ""
        self.regression: Regression | None = None
        self._compile()

    @abstractmethod
    def fit(self, images: Pixels, labels: np.ndarray) -> Self:
        """Learns what clean training images look like.

        Args:
            images: of bytes one batch at a time is cast.
            labels: int `[n]`, true labels.

        Raises:
            InputError: for images or labels that do not fit each other or the model.
        """

    @abstractmethod
    def look(self, images: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Computes logits `[n, classes]` and statistics, float64 `[n, classes, size]`, of images.

        Row k of an image's statistics holds if the image is taken for class k. Where the class makes no difference the
        statistics are `[n, 1, size]`.

        Raises:
            InputError: before `fit`.
        """

    def of_label(self, images: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Computes logits, the predicted label int32 `[n]`, and the statistics `[n, size]` for that label.

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
            InputError: without images of both kinds, before `fit`, or where the weights have changed since.
        """
        self.check_weights()
        self.regression = Regression.fit(self.statistics(natural), self.statistics(adversarial), false_positive_rate)
        self._compile()
        return self

    @property
    def threshold(self) -> float:
        """Gives the score above which an image counts as adversarial."""
        return self._calibrated().threshold

    @property
    def false_positive_rate(self) -> float | None:
        """Gives the rate that the threshold was set for."""
        return self._calibrated().false_positive_rate

    def graph(self, images: tf.Tensor) -> dict[str, tf.Tensor]:
        """Computes everything about images `[n, height, width, channels]` in one graph, which `serving` exports.

        Returns:
            `probabilities` float32 `[n, classes]`, `label` int32 `[n]`, `adversarial_score` float32 `[n]`,
            `verdict` bool `[n]`.
        """
        regression = self._calibrated()
        logits, label, statistics = self.of_label(images)
        score = tf.sigmoid(tf.linalg.matvec(statistics, regression.weight) + regression.bias)
        return {
            "probabilities": tf.nn.softmax(at_least_float32(logits)),
            "label": label,
            "adversarial_score": tf.cast(score, tf.float32),
            "verdict": score > regression.threshold,
        }

    @property
    def outputs(self) -> Callable[[tf.Tensor], tf.Tensor]:
        """Gives a function for adaptive attackers, from images to float32 `[n, 2 classes]`.

        The first half are logits. The second half says how far the log odds of the adversarial score would be above
        the threshold's if the image were taken for each class. Each `calibrate` makes a new function, so that no graph
        of an older one is used.

        Raises:
            InputError: before `fit` and `calibrate`.
        """
        self._calibrated()
        return self._seen_by_attacker

    def excess(self, images: tf.Tensor, weight: Any, offset: Any) -> tf.Tensor:
        """Computes `outputs` for a regression in variables: its `weight` `[size]` and `offset`, float64."""
        logits, statistics = self.look(images)
        odds = tf.cast(tf.linalg.matvec(statistics, weight) + offset, tf.float32)
        return tf.concat([at_least_float32(logits), tf.broadcast_to(odds, tf.shape(logits))], axis=1)

    def statistics(self, images: np.ndarray) -> np.ndarray:
        """Gives what the regression looks at, float64 `[n, size]`: of each image, for the class it is taken for.

        Raises:
            InputError: before `fit`, or for what are no images of the model's.
        """
        return in_batches(self._compiled_statistics, self._pixels(images))

    def score(self, images: np.ndarray) -> np.ndarray:
        """Computes the adversarial score of each image, float32 `[n]` in [0, 1]."""
        return self.predict(images).score

    def predict(self, images: np.ndarray) -> Detection:
        """Classifies images, and says which of them are adversarial.

        Args:
            images: n may be 0.

        Raises:
            InputError: before `fit` and `calibrate`, or for what are no images of the model's.
        """
        self._calibrated()
        results = in_batches(self._compiled, self._pixels(images))
        return Detection(*(results[name] for name in ("probabilities", "label", "adversarial_score", "verdict")))

    def evaluate(self, natural: np.ndarray, adversarial: np.ndarray) -> Separation:
        """Measures how well natural and adversarial images are told apart, on images that nothing was fitted on."""
        return self._calibrated().separation(self.statistics(natural), self.statistics(adversarial))

    def save(self, path: str | Path) -> None:
        """Writes the detector's arrays as .npz (never a pickle); the model is not in it, but a digest of its weights.

        Raises:
            InputError: before `fit` and `calibrate`, or where the weights have changed since.
        """
        regression = vars(self._calibrated())
        self.check_weights()
        rate = regression["false_positive_rate"]
        regression = {**regression, "false_positive_rate": math.nan if rate is None else rate}
        known = {"model": self._digest, "code_layer": self.code_layer or "", "image_shape": self.network.image_shape}
        arrays = {"features": self.features, **known, **self._state(), **regression}
        write_arrays(Path(path), {name: np.asarray(value) for name, value in arrays.items()})

    @classmethod
    def load(cls, path: str | Path, model: keras.Model) -> Self:
        """Reads what `save` wrote, for the model that the detector was fitted on.

        Raises:
            InputError: where the file is missing, not such a detector's, or of another model. An older file
                has no digest of the weights, and is taken where it fits.
        """
        path = Path(path)
        arrays: dict[str, Any] = read_arrays(path, ("features", *cls.arrays, *_REGRESSION))
        digest, code_layer = (str(_optional(path, name, "")) for name in ("model", "code_layer"))
        detector = cls._of_features(model, str(arrays["features"]), code_layer or None)
        if detector is None:
            raise InputError(
                f"{path} has features {str(arrays['features'])!r}: give a detector.npz that {cls.__name__} wrote."
            )
        detector._digest = detector.network.digest()
        if digest not in ("", detector._digest):
            raise InputError(
                f"{path} was fitted on a model of other weights than this one's: give the detector that was fitted on "
                "this model, or the model that it was fitted on."
            )
        try:
            shape = tuple(int(size) for size in _optional(path, "image_shape", detector.network.image_shape))
            detector._settle(shape)
            detector._restore(arrays)
            bias, threshold, rate = (float(arrays[name]) for name in _REGRESSION[1:])
            weight = np.atleast_1d(np.asarray(arrays["weight"], np.float64))
            detector.regression = Regression(weight, bias, threshold, None if math.isnan(rate) else rate)
            detector._compile()
            detector.predict(np.zeros((1, *shape), np.float32))
        except (ValueError, TypeError, IndexError, tf.errors.InvalidArgumentError) as error:
            raise InputError(
                f"{path} does not fit the model: give the detector that was fitted on this model."
            ) from error
        return detector

    def check_weights(self) -> None:
        """Raises InputError where the model's weights are not those that the detector was fitted on."""
        if not self._digest:
            raise InputError(NOT_FITTED)
        if self.network.digest() != self._digest:
            raise InputError(
                "the model's weights have changed since the detector was fitted: fit and calibrate it again."
            )

    @classmethod
    def _of_features(cls, model: keras.Model, features: str, code_layer: str | None) -> Self | None:
        """A detector that looks at these features, if this class has one."""
        return cls(model, code_layer=code_layer) if features == cls.features else None

    def _calibrated(self) -> Regression:
        if self.regression is None:
            raise InputError(NOT_FITTED)
        return self.regression

    def _pixels(self, images: Any) -> Pixels:
        """Images as `as_pixels` gives them, of the model's size."""
        pixels = as_pixels(images)
        self.network.check_shape(pixels.shape)
        return pixels

    def _labels(self, labels: Any, count: int) -> np.ndarray:
        """True labels of as many images, int32 `[n]`, of the classes that the model has."""
        found = as_labels(labels)
        if len(found) != count:
            raise InputError(f"there are {count} images and {len(found)} labels: give one label for each image.")
        low, high = (int(found.min()), int(found.max())) if count else (0, 0)
        if low < 0 or high >= self.network.classes:
            raise InputError(
                f"the labels go from {low} to {high}, and the model has {self.network.classes} classes: give labels "
                f"from 0 to {self.network.classes - 1}."
            )
        return found

    def _fitting(self, images: Any, labels: Any = None) -> tuple[Pixels, Any]:
        """Images and labels to fit on, checked. The weights are now those that the detector is of."""
        pixels = self._pixels(images)
        self._settle(pixels.shape[1:])
        if labels is not None:
            labels = self._labels(labels, len(pixels))
        self._digest = self.network.digest()
        self.regression = None
        return pixels, labels

    def _settle(self, image_shape: tuple[int, ...]) -> None:
        self.network.settle(image_shape)
        self._compile()

    def _compile(self) -> None:
        # The fitted numbers are constants of the graphs: new ones need new ones.
        signature = [tf.TensorSpec((None, *self.network.image_shape), tf.float32)]
        if self.regression is not None:
            weight, offset = self.regression.weight, self.regression.offset
            self._seen_by_attacker = lambda images: self.excess(images, weight, offset)
        self._compiled = tf.function(self.graph, input_signature=signature, autograph=False)
        self._compiled_statistics = tf.function(
            lambda images: self.of_label(images)[2], input_signature=signature, autograph=False
        )


def _optional(path: Path, name: str, otherwise: Any) -> Any:
    """One array of an .npz file that older ones lack."""
    try:
        return read_arrays(path, (name,))[name]
    except InputError:
        return otherwise
