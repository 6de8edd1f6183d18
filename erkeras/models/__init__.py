"""ERClassifier and the parts it is composed of."""

import keras

from erkeras.errors import InputError
from erkeras.models.callbacks import (
    Checkpoint,
    KeepBest,
    catastrophic_overfitting,
)
from erkeras.models.defense_gan import DefenseGAN, WassersteinGAN
from erkeras.models.er_classifier import ERClassifier
from erkeras.models.objectives import TRADES, CrossEntropy
from erkeras.models.priors import StandardNormal
from erkeras.models.regularizers import MaximumMeanDiscrepancy, Regularizer, WassersteinCritic

if keras.backend.backend() != "tensorflow":
    raise InputError(
        f"Keras runs on the backend {keras.backend.backend()!r} and erkeras needs tensorflow: "
        "set KERAS_BACKEND=tensorflow."
    )

__all__ = [
    "TRADES",
    "Checkpoint",
    "CrossEntropy",
    "DefenseGAN",
    "ERClassifier",
    "KeepBest",
    "MaximumMeanDiscrepancy",
    "Regularizer",
    "StandardNormal",
    "WassersteinCritic",
    "WassersteinGAN",
    "catastrophic_overfitting",
]
