"""ER-Detector (section 3.3, Algorithm 2): a density for each class on the embedding."""

from __future__ import annotations

from typing import Self

import keras

from erkeras.detection.density_detector import DensityDetector
from erkeras.detection.features import FEATURES, check_features


class ERDetector(DensityDetector):
    """Tells adversarial images by the density of their code under the class that the classifier predicts.

    See `Detector` for what detectors share.

    Example:
        detector = ERDetector(model, "code").fit(train.images, train.labels)

    Args:
        model: a trained ERClassifier, or any trained Sequential or Functional classifier.
        features: "combined" (ER2: hidden layers' means and code) or "code" (ER1).
        code_layer: as for `Detector`.

    Raises:
        InputError: for other features, or a network whose layers cannot be read: of an ERClassifier with an encoder
            of one's own class "code" can be looked at.
    """

    def __init__(self, model: keras.Model, features: str = "combined", code_layer: str | None = None) -> None:
        check_features(features)
        self.features = features
        # Scaled, or the code drowns the hidden layers' means.
        super().__init__(model, features, scaled=True, code_layer=code_layer)

    @classmethod
    def _of_features(cls, model: keras.Model, features: str, code_layer: str | None) -> Self | None:
        return cls(model, features, code_layer) if features in FEATURES else None
