"""Detectors by the density of an image's features under the class that it is taken for."""

from __future__ import annotations

from typing import Any, Self

import keras
import numpy as np
import tensorflow as tf

from erkeras.detection.batches import in_batches
from erkeras.detection.density import ClassDensities
from erkeras.detection.detector import NOT_FITTED, Detector
from erkeras.errors import InputError
from erkeras.stored import Pixels

_DENSITIES = ("centres", "counts", "bandwidth", "weights")


class DensityDetector(Detector):
    """Fits a Gaussian kernel density for each class to the features of clean training images.

    The one statistic is the log density of the class that the classifier gives.

    Args:
        model, code_layer: as for `Detector`.
        kind: of the features, as for `Network.reader`.
        scaled: whether each feature is brought to mean 0 and standard deviation 1 on the fitting images.
    """

    arrays = ("mean", "scale", *_DENSITIES)

    def __init__(self, model: keras.Model, kind: str, scaled: bool, code_layer: str | None = None) -> None:
        super().__init__(model, code_layer)
        self._extract = self.network.reader(kind)
        self._scaled = scaled
        self.densities: ClassDensities | None = None
        self.mean = self.scale = np.zeros(0, np.float64)

    def fit(self, images: Pixels, labels: np.ndarray, limit: int | None = 1000, seed: int = 0) -> Self:
        """Fits the scaling, the bandwidth and the densities on clean training images.

        Args:
            images: as for `Detector`.
            labels: int `[n]` or `[n, 1]`, true labels.
            limit: the densities stand on at most this many images of each class, drawn at random, so that a
                detector stays small enough to serve; None for all.
            seed: of that draw.

        Raises:
            InputError: for images or labels that do not fit each other or the model, or where a class has fewer than
                two images.
        """
        pixels, labels = self._fitting(images, labels)
        signature = [tf.TensorSpec((None, *pixels.shape[1:]), tf.float32)]
        features = in_batches(
            tf.function(lambda batch: self._extract(batch)[1], input_signature=signature, autograph=False), pixels
        )
        self.mean, self.scale = np.zeros(features.shape[1]), np.ones(features.shape[1])
        if self._scaled:
            self.mean = features.mean(axis=0, dtype=np.float64)
            # A unit that never fires says nothing, and must not divide by zero.
            self.scale = np.maximum(features.std(axis=0, dtype=np.float64), 1e-6)
        scaled = features - self.mean
        scaled /= self.scale  # in place: a residual network's features fill gigabytes
        self.densities = ClassDensities.fit(scaled, labels, self.network.classes, limit=limit, seed=seed)
        self._compile()
        return self

    def reduce(self, limit: int, seed: int = 0) -> Self:
        """Puts a smaller mixture in the densities' place (see `ClassDensities.reduced`); `calibrate` comes after it.

        Args:
            limit: at most this many centres for each class.
            seed: of the reduction.

        Raises:
            InputError: before `fit`.
        """
        self.densities = self._fitted().reduced(limit, seed)
        self.regression = None
        self._compile()
        return self

    def look(self, images: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        logits, features = self._scaled_features(images)
        return logits, self._fitted().log_density(features)[..., tf.newaxis]

    def of_label(self, images: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        logits, features = self._scaled_features(images)
        label = tf.argmax(logits, axis=1, output_type=tf.int32)
        return logits, label, self._fitted().log_density_at(features, label)[:, tf.newaxis]

    def _scaled_features(self, images: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Logits, and features in the units of the densities."""
        self._fitted()
        _, features, logits = self._extract(images)
        scaled = (tf.cast(features, tf.float64) - tf.constant(self.mean)) / tf.constant(self.scale)
        return logits, scaled

    def log_density(self, images: np.ndarray) -> np.ndarray:
        """Computes the log density of each image's features at the predicted class, float64 `[n]`."""
        return self.statistics(images)[:, 0]

    def _state(self) -> dict[str, Any]:
        densities = self._fitted()
        parts = {name: getattr(densities, name) for name in _DENSITIES}
        return {"mean": self.mean, "scale": self.scale, **parts}

    def _restore(self, arrays: dict[str, Any]) -> None:
        self.mean, self.scale = arrays["mean"], arrays["scale"]
        self.densities = ClassDensities(*(arrays[name] for name in _DENSITIES))

    def _fitted(self) -> ClassDensities:
        if self.densities is None:
            raise InputError(NOT_FITTED)
        return self.densities
