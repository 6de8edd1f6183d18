"""Our Keras classes by the names in saved models, so that `import erkeras` is enough to load one.

Keras finds a class of ours in its registry, which a class enters when its module is imported. `import erkeras` loads
no module that needs Keras. So it puts, once somebody loads Keras, a stand-in for each class there, which imports the
class when a saved model asks for it.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

import wrapt

#: Class -> module.
HOMES = {
    **dict.fromkeys(
        (
            "AdaptiveAttack",
            "APGD",
            "AutoAttack",
            "CarliniWagner",
            "DivergencePGD",
            "FAB",
            "FGSM",
            "PGD",
            "RayS",
            "Square",
        ),
        "erkeras.attacks",
    ),
    **dict.fromkeys(
        (
            "CrossEntropy",
            "DefenseGAN",
            "ERClassifier",
            "GaussianCode",
            "MaximumMeanDiscrepancy",
            "NoiseLayer",
            "StandardNormal",
            "TRADES",
            "WassersteinCritic",
        ),
        "erkeras.models",
    ),
}


class _StandIn:
    """Takes the place of a class in Keras' registry until the class is imported."""

    def __init__(self, name: str) -> None:
        self._name = name

    def from_config(self, config: dict[str, Any], **options: Any) -> Any:
        return getattr(import_module(HOMES[self._name]), self._name).from_config(config, **options)


def register_with(keras: Any) -> None:
    """Puts stand-ins for the classes that are not imported yet into Keras' registry."""
    registry = keras.saving.get_custom_objects()
    for name in HOMES:
        registry.setdefault(f"erkeras>{name}", _StandIn(name))


def register_when_keras_loads() -> None:
    """Registers the classes with Keras, now or when it is imported."""
    wrapt.register_post_import_hook(register_with, "keras")
