"""BatchNorm's statistics, taken again for weights that no step of training had."""

from __future__ import annotations

from collections.abc import Iterable

import tensorflow as tf

from erkeras.models.er_classifier import ERClassifier
from erkeras.models.steps import batch_normalizations


def has_statistics(model: ERClassifier) -> bool:
    """Tells whether encoder or classifier normalise by statistics of their batches."""
    return bool(batch_normalizations(model.encoder, model.classifier))


def refresh_statistics(model: ERClassifier, batches: Iterable[tuple[tf.Tensor, tf.Tensor]], step: int) -> None:
    """Takes BatchNorm's mean and variance anew, each as the average over some adversarial batches.

    An average of weights over steps (Izmailov et al. 2018, section 3.2) has statistics that no step has seen. The
    weights stay as they are, and the seeds of dropout and noise go on.

    Args:
        model: an ERClassifier.
        batches: of images, float `[n, height, width, channels]` in [0, 1], and int labels `[n]`.
        step: whose random numbers the first batch has, and so on, and whose epsilon.
    """
    layers = batch_normalizations(model.encoder, model.classifier)
    momenta = [layer.momentum for layer in layers]

    @tf.function(reduce_retracing=True)
    def look(images: tf.Tensor, labels: tf.Tensor, step: tf.Tensor, momentum: tf.Tensor) -> None:
        for layer in layers:  # while it is traced
            layer.momentum = tf.cast(momentum, layer.moving_mean.dtype)
        adversarial, _ = model.attack_batch(images, labels, step)
        model(adversarial, training=True)

    try:
        for number, (images, labels) in enumerate(batches):
            # The first replaces what was there, the k-th weighs 1 / k.
            look(images, labels, tf.constant(step + number, tf.int64), tf.constant(number / (number + 1), tf.float64))
    finally:
        for layer, momentum in zip(layers, momenta, strict=True):
            layer.momentum = momentum
