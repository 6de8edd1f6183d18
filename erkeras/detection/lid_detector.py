"""LID: the local intrinsic dimension of every layer's output."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
import tensorflow as tf

from erkeras.data import as_images
from erkeras.detection.detector import Detector
from erkeras.detection.features import all_layers
from erkeras.errors import InputError
from erkeras.models import ERClassifier

NEIGHBOURS, REFERENCES = 20, 100
#: The most that an estimate can be: equal distances would make it infinite.
HIGHEST = 1e3
#: Squared distances below this fraction of the points' squared norms are rounding.
_ROUNDING = 1e-14


def local_intrinsic_dimension(points: tf.Tensor, references: tf.Tensor, neighbours: int = NEIGHBOURS) -> tf.Tensor:
    """The maximum likelihood estimate of Ma et al. (2018), equation (4), at each point.

        LID(x) = -(1 / k sum_i log(r_i / r_k))^-1,   r_1 <= ... <= r_k

    with r the Euclidean distances to the references, without the nearest one: of a point that is among them that is
    itself, and all points are to be treated alike.

    Args:
        points: float `[n, size]`.
        references: float `[m, size]`, at least `neighbours` + 1 of them.
        neighbours: k.

    Returns:
        float64 `[n]`, at most `HIGHEST`.
    """
    points, references = (tf.cast(part, tf.float64) for part in (points, references))
    norms = tf.reduce_sum(points**2, axis=1, keepdims=True) + tf.reduce_sum(references**2, axis=1)
    squared = norms - 2 * tf.matmul(points, references, transpose_b=True)
    squared = tf.maximum(squared, _ROUNDING * norms + 1e-300)
    nearest = -tf.math.top_k(-squared, neighbours + 1).values[:, 1:]
    logarithms = tf.math.log(nearest / nearest[:, -1:]) / 2
    return 1 / tf.maximum(-tf.reduce_mean(logarithms, axis=1), 1 / HIGHEST)


class LIDDetector(Detector):
    """Ma et al. (2018, "Characterizing Adversarial Subspaces Using Local Intrinsic Dimensionality").

    The statistics are the local intrinsic dimensions of the outputs of all layers, image and softmax included, in one
    set of 100 clean training images that the seed draws. (Ma et al. measure each minibatch against its own clean
    images: an image's score then depends on its neighbours.) Layers that only copy, move or scale are left out. See
    `Detector`.

    Args:
        model: a trained ERClassifier, any row of the paper's.

    Raises:
        InputError: for a network whose layers cannot be read.
    """

    features = "layers"
    arrays = ("references",)

    def __init__(self, model: ERClassifier) -> None:
        self._extract = all_layers(model.encoder, model.classifier)
        self.references = np.zeros(0, np.float32)
        self._outputs: list[tf.Variable] = []
        super().__init__(model)

    def fit(self, images: np.ndarray, labels: np.ndarray | None = None, seed: int = 0) -> Self:
        """Draws the references.

        Args:
            images: `[n, height, width, channels]`, clean training images, float32 in [0, 1] or uint8.
            labels: not looked at.
            seed: of the draw.

        Raises:
            InputError: for fewer images than references are drawn.
        """
        if len(images) < REFERENCES:
            raise InputError(
                f"there are {len(images)} images to draw LID's references from: give {REFERENCES} or more."
            )
        rows = np.random.RandomState(seed).permutation(len(images))[:REFERENCES]
        self._refer_to(as_images(images[np.sort(rows)]))
        return self

    def look(self, images: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        if not self._outputs:
            raise InputError("the detector is not fitted: call fit and calibrate first.")
        codes, layers = self._extract(images)
        dimensions = [
            local_intrinsic_dimension(layer, references)
            for layer, references in zip(layers, self._outputs, strict=True)
        ]
        return self.model.classify(images, codes), tf.stack(dimensions, axis=1)[:, tf.newaxis]

    def _refer_to(self, references: np.ndarray) -> None:
        self.references = references
        # Variables, so that a SavedModel holds them once for all its signatures.
        self._outputs = [tf.Variable(layer, trainable=False) for layer in self._extract(tf.constant(references))[1]]
        self.regression = None
        self._compile()

    def _state(self) -> dict[str, Any]:
        return {"references": self.references}

    def _restore(self, arrays: dict[str, Any]) -> None:
        self._refer_to(arrays["references"])
