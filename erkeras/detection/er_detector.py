"""ER-Detector (section 3.3, Algorithm 2): a density for each class on the embedding."""

from __future__ import annotations

from typing import Self

from erkeras.detection.density_detector import DensityDetector
from erkeras.detection.features import FEATURES, feature_function
from erkeras.models import ERClassifier


class ERDetector(DensityDetector):
    """Tells adversarial images by the density of their code under the class that the classifier predicts.

    See `Detector` for what detectors share.

    Args:
        model: a trained ERClassifier.
        features: "combined" (ER2: hidden layers' means and code) or "code" (ER1).

    Raises:
        InputError: for other features, or an encoder whose layers cannot be read.
    """

    def __init__(self, model: ERClassifier, features: str = "combined") -> None:
        self.features = features
        # Scaled, or the code drowns the hidden layers' means.
        super().__init__(model, feature_function(model.encoder, features), scaled=True)

    @classmethod
    def _of_features(cls, model: ERClassifier, features: str) -> Self | None:
        return cls(model, features) if features in FEATURES else None
