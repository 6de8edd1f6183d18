"""LID: the local intrinsic dimension of every layer's output."""

from __future__ import annotations

from typing import Any, Self

import keras
import numpy as np
import tensorflow as tf

from erkeras.detection.detector import NOT_FITTED, Detector
from erkeras.errors import InputError
from erkeras.pixels import as_floats
from erkeras.stored import Pixels

NEIGHBOURS, REFERENCES = 20, 100
#: The most that an estimate can be: equal distances would make it infinite.
HIGHEST = 1e3
#: Squared distances below this fraction of the points' squared norms are rounding.
_ROUNDING = 1e-14


def local_intrinsic_dimension(points: tf.Tensor, references: tf.Tensor, neighbours: int = NEIGHBOURS) -> tf.Tensor:
    """Computes the maximum likelihood estimate of Ma et al. (2018), equation (4), at each point.

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
    """Looks at local dimensions, as Ma et al. (2018, "Characterizing Adversarial Subspaces Using Local Intrinsic
    Dimensionality").

    Example:
        detector = LIDDetector(model).fit(train.images)

    The statistics are the local intrinsic dimensions of the outputs of all layers, image and softmax included, in one
    set of 100 clean training images that the seed draws. (Ma et al. measure each minibatch against its own clean
    images: an image's score then depends on its neighbours.) Layers that only copy, move or scale are left out. See
    `Detector`.

    Args:
        model: a trained ERClassifier, any row of the paper's, or any trained Sequential or Functional classifier.
        code_layer: as for `Detector`; LID looks at all layers, and only an export gives the code.

    Raises:
        InputError: for a network whose layers cannot be read.
    """

    features = "layers"
    arrays = ("references",)

    def __init__(self, model: keras.Model, code_layer: str | None = None) -> None:
        super().__init__(model, code_layer)
        self._extract = self.network.reader("layers")
        self.references = np.zeros(0, np.float32)
        self._outputs: list[tf.Variable] = []

    def fit(self, images: Pixels, labels: np.ndarray | None = None, seed: int = 0) -> Self:
        """Draws the references.

        Args:
            images: clean training images, as for `Detector`.
            labels: checked alone, where they are given.
            seed: of the draw.

        Raises:
            InputError: for images or labels that do not fit each other or the model, or fewer images than there are
                references.
        """
        images, _ = self._fitting(images, labels)
        if len(images) < REFERENCES:
            raise InputError(
                f"there are {len(images)} images to draw LID's references from: give {REFERENCES} or more."
            )
        rows = np.random.RandomState(seed).permutation(len(images))[:REFERENCES]
        self._refer_to(as_floats(images[np.sort(rows)]))
        return self

    def look(self, images: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        if not self._outputs:
            raise InputError(NOT_FITTED)
        _, layers, logits = self._extract(images)
        dimensions = [
            local_intrinsic_dimension(layer, references)
            for layer, references in zip(layers, self._outputs, strict=True)
        ]
        return logits, tf.stack(dimensions, axis=1)[:, tf.newaxis]

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
