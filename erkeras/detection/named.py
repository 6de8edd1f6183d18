"""Detectors by their names in the paper's tables. Nothing here loads TensorFlow before one is fitted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from erkeras import detection

if TYPE_CHECKING:
    import keras

    from erkeras.data import Split
    from erkeras.detection.detector import Detector

DETECTORS = ("kd", "lid", "er1", "er2")


def fit_named_detector(name: str, model: keras.Model, train: Split, seed: int) -> Detector:
    """Fits a detector on clean training images; a density stands on all of them.

    Args:
        name: in `DETECTORS`.
        model: a trained one, as for `Detector`.
        train: its training images.
        seed: of whatever the detector draws.
    """
    made: dict[str, Any] = {
        "kd": lambda: detection.KDDetector(model),
        "lid": lambda: detection.LIDDetector(model),
        "er1": lambda: detection.ERDetector(model, "code"),
        "er2": lambda: detection.ERDetector(model, "combined"),
    }
    whole = {} if name == "lid" else {"limit": None}
    return made[name]().fit(train.pixels, train.labels, seed=seed, **whole)
