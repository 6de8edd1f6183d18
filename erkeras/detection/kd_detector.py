"""KD-Detection: kernel densities on the last hidden layer."""

from __future__ import annotations

from erkeras.detection.density_detector import DensityDetector
from erkeras.detection.features import last_hidden_layer
from erkeras.models import ERClassifier


class KDDetector(DensityDetector):
    """Feinman et al. (2017, "Detecting Adversarial Samples from Artifacts"), the density estimate of section 3.

    As ER-Detector, on what the last hidden layer gives after its nonlinearity, not scaled. See `Detector`.

    Args:
        model: a trained ERClassifier, any row of the paper's.

    Raises:
        InputError: for a network whose layers cannot be read.
    """

    features = "hidden"

    def __init__(self, model: ERClassifier) -> None:
        super().__init__(model, last_hidden_layer(model.encoder, model.classifier), scaled=False)
