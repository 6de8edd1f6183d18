"""erkeras: adversarially robust image classifiers for Keras 3 and TensorFlow 2.

The names below load on first use, so `import erkeras` costs milliseconds and no TensorFlow.
"""

from erkeras.lazy import lazy_names

__version__ = "0.1.0"

_HOMES = {
    "ThreatModel": "erkeras.threat",
    "ERClassifier": "erkeras.models",
    "WassersteinCritic": "erkeras.models",
    "PGD": "erkeras.attacks",
    "APGD": "erkeras.attacks",
    "FGSM": "erkeras.attacks",
    "FAB": "erkeras.attacks",
    "CarliniWagner": "erkeras.attacks",
    "Square": "erkeras.attacks",
    "RayS": "erkeras.attacks",
    "ERDetector": "erkeras.detection",
    "evaluate_robustness": "erkeras.evaluation",
    "load_dataset": "erkeras.data",
    "export_saved_model": "erkeras.serving.export",
}
__all__ = ["__version__", *_HOMES]
__getattr__ = lazy_names(__name__, _HOMES)


def __dir__() -> list[str]:
    return sorted(__all__)
