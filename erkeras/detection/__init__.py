"""Detectors of adversarial images on the classifier's embedding (section 3.3)."""

from erkeras.detection.density import ClassDensities
from erkeras.detection.er_detector import ERDetector
from erkeras.detection.features import combined_code

__all__ = ["ClassDensities", "ERDetector", "combined_code"]
