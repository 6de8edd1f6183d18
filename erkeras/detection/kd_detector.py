"""KD-Detection: kernel densities on the last hidden layer."""

from __future__ import annotations

import keras

from erkeras.detection.density_detector import DensityDetector


class KDDetector(DensityDetector):
    """Looks at the last hidden layer, as Feinman et al. (2017, "Detecting Adversarial Samples from Artifacts").

    This is the density estimate of their section 3: as ER-Detector, on what the last hidden layer gives after its
    nonlinearity, not scaled. See `Detector`.

    Example:
        detector = KDDetector(model).fit(train.images, train.labels)

    Args:
        model: a trained ERClassifier, any row of the paper's, or any trained Sequential or Functional classifier.
        code_layer: as for `Detector`; the layer that is looked at.

    Raises:
        InputError: for a network whose layers cannot be read.
    """

    features = "hidden"

    def __init__(self, model: keras.Model, code_layer: str | None = None) -> None:
        super().__init__(model, "hidden", scaled=False, code_layer=code_layer)
