"""What both sides of train_step.py take: numbers, images, and the networks before training."""

from __future__ import annotations

import argparse
from typing import NamedTuple

import numpy as np
from networks import Layer

#: name -> (image shape, code size)
NETWORKS = {
    "mnist": ((28, 28, 1), 16),
    "mnist-large": ((28, 28, 1), 4),
    "digits": ((8, 8, 1), 16),
    "colour": ((32, 32, 3), 16),
    "preact-resnet18": ((32, 32, 3), 16),
    "wide-resnet28-10": ((32, 32, 3), 16),
}
CLASSES, EPSILON, COEFFICIENT, CLIP, LEARNING_RATE = 10, 0.3, 0.1, 0.01, 1e-3
BATCHES = 8


class Networks(NamedTuple):
    """The three networks before training, and the logits they give for the first batch."""

    encoder: list[Layer]
    classifier: list[Layer]
    critic: list[Layer]
    logits: np.ndarray


def training_data(options: argparse.Namespace) -> tuple[np.ndarray, np.ndarray]:
    """Random images `[batches, n, height, width, channels]` in [0, 1] and labels `[batches, n]`."""
    random = np.random.default_rng(options.seed)
    size = (BATCHES, options.batch)
    return random.random((*size, *NETWORKS[options.network][0]), np.float32), random.integers(0, CLASSES, size)
