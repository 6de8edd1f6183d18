"""The smallest attack, whose every try is known from its seeds alone; a model and points to run it on."""

from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from erkeras.attacks import Attack

MATRIX = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)


@dataclass(frozen=True)
class RandomNoise(Attack):
    """Tries random points of the ball."""

    tries: int = 6

    name = "random_noise"
    passes = (1, 0)

    @property
    def attempts(self):
        return self.tries

    def perturb(self, logits, images, labels, seeds, scale=1.0):
        return self.threat.random_start(images, seeds, scale)


def model(images):
    """Logits of three classes for images of 2 x 2 pixels."""
    return tf.reshape(images - 0.5, [tf.shape(images)[0], 4]) @ MATRIX


def noise_points():
    """Forty images with the model's own labels, but for the first four, whose label is wrong."""
    images = np.random.default_rng(1).uniform(size=(40, 2, 2, 1)).astype(np.float32)
    labels = model(images).numpy().argmax(axis=1)
    labels[:4] = (labels[:4] + 1) % 3
    return images, labels
