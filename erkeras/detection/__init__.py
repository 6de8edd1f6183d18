"""Detectors of adversarial images (sections 3.3 and 4.5), all on one contract."""

from erkeras.detection.criteria import Criteria
from erkeras.detection.density import ClassDensities
from erkeras.detection.detector import Detection, Detector
from erkeras.detection.er_detector import ERDetector
from erkeras.detection.features import combined_code
from erkeras.detection.kd_detector import KDDetector
from erkeras.detection.lid_detector import LIDDetector
from erkeras.detection.regression import Regression

__all__ = [
    "ClassDensities",
    "Criteria",
    "Detection",
    "Detector",
    "ERDetector",
    "KDDetector",
    "LIDDetector",
    "Regression",
    "combined_code",
]
