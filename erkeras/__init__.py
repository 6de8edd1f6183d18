"""erkeras: adversarially robust image classifiers for Keras 3 and TensorFlow 2.

The names below load on first use, so `import erkeras` costs milliseconds and no TensorFlow.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_HOMES = {
    "ThreatModel": "erkeras.threat",
    "ERClassifier": "erkeras.models",
    "WassersteinCritic": "erkeras.models",
    "PGD": "erkeras.attacks",
    "FGSM": "erkeras.attacks",
    "ERDetector": "erkeras.detection",
    "evaluate_robustness": "erkeras.evaluation",
    "load_dataset": "erkeras.data",
    "export_saved_model": "erkeras.serving",
}
__all__ = ["__version__", *_HOMES]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'erkeras' has no attribute {name!r}; it has {', '.join(sorted(_HOMES))}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
