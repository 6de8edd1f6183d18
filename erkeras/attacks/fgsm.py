"""The fast gradient sign method (Goodfellow et al. 2015), by cleverhans."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf
from cleverhans.tf2.attacks.fast_gradient_method import fast_gradient_method

from erkeras.attacks.attack import Attack, serializable
from erkeras.attacks.contract import Batch, Logits
from erkeras.attacks.losses import cross_entropy


@serializable
@dataclass(frozen=True)
class FGSM(Attack):
    """Takes one step of length epsilon from the image along the gradient of the cross-entropy.

    Example:
        FGSM(ThreatModel("l_inf", 0.3))(model, images, labels).robust_accuracy

    Args:
        threat: norm, epsilon, pixel bounds.
    """

    name = "fgsm"

    # One pass, with its gradient, to make the image; one to classify it.
    passes = (2, 1)

    def clean_loss(self, batch: Batch, outputs: tf.Tensor) -> tf.Tensor:
        return cross_entropy(batch.labels, outputs)

    def perturb(
        self, logits: Logits, images: tf.Tensor, labels: tf.Tensor, seeds: tf.Tensor, scale: Any = 1.0
    ) -> tf.Tensor:
        norm = np.inf if self.threat.norm == "l_inf" else 2
        # cleverhans casts images to float32.
        adversarial = fast_gradient_method(
            lambda images_32: logits(tf.cast(images_32, images.dtype)),
            images,
            tf.cast(scale, tf.float32) * self.threat.epsilon,
            norm,
            loss_fn=cross_entropy,
            clip_min=self.threat.lower,
            clip_max=self.threat.upper,
            y=labels,
        )
        return tf.stop_gradient(tf.cast(adversarial, images.dtype))
