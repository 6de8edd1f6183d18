"""Defines the losses that encoder and classifier descend in line 8 of Algorithm 1.

An objective is a function of int labels `[n]` and logits `[n, classes]` of the adversarial batch to losses `[n]`. A
loss of Keras is one with `reduction=None`. One that also asks for the logits of the clean batch, in training mode, sets
`uses_clean_logits` and takes them third; in validation, where the batch is clean, both are the same.
"""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from erkeras.attacks.losses import kullback_leibler
from erkeras.errors import InputError


def mean_loss(losses: tf.Tensor, sample_weight: tf.Tensor | None) -> tf.Tensor:
    """Takes sum(weight loss) / n of losses and weights `[n]`, the mean that Keras takes too.

    Raises:
        InputError: for losses that are not one for each image.
    """
    if losses.shape.rank != 1:
        raise InputError(
            f"the objective gives losses of shape {losses.shape}: let it give one for each image, [n], as a loss of "
            "Keras does with reduction=None."
        )
    return tf.reduce_mean(losses if sample_weight is None else losses * tf.cast(sample_weight, losses.dtype))


@keras.saving.register_keras_serializable("erkeras")
class CrossEntropy:
    """Computes the softmax cross-entropy of the (adversarial) logits, the paper's l.

    `keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction=None)` gives the same, but casts logits to
    its own dtype: float64 ones would lose half of their digits. It has no label smoothing.

    Example:
        ERClassifier(encoder, classifier, objective=CrossEntropy(label_smoothing=0.1))

    Args:
        label_smoothing: fraction of the target that is shared by all classes (Szegedy et al. 2016, section 7). The
            target of an image is 1 - label_smoothing + label_smoothing / classes for its class, and
            label_smoothing / classes for each other.

    Raises:
        InputError: for a label smoothing outside [0, 1).
    """

    def __init__(self, label_smoothing: float = 0.0) -> None:
        self.label_smoothing = _checked_smoothing(label_smoothing)

    def __call__(self, labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
        """Computes the loss of each example, `[n]`, from int labels `[n]` and logits `[n, classes]`."""
        return _cross_entropy(labels, logits, self.label_smoothing)

    def get_config(self) -> dict[str, Any]:
        return _smoothing_config(self.label_smoothing)

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> CrossEntropy:
        return cls(**config)


@keras.saving.register_keras_serializable("erkeras")
class TRADES:
    """Computes equation 5 of Zhang et al. (2019): clean cross-entropy, and beta KL(p(x) || p(x_adv)).

    Its adversary is `DivergencePGD`.

    Example:
        ERClassifier(encoder, classifier, adversary=DivergencePGD(threat), objective=TRADES(beta=6.0))

    Args:
        beta: what robustness weighs against accuracy (1 / lambda of the paper), 0 or more.
        label_smoothing: of the cross-entropy of the clean logits; see `CrossEntropy`. The divergence has no labels.

    Raises:
        InputError: for a negative beta, or a label smoothing outside [0, 1).
    """

    uses_clean_logits = True

    def __init__(self, beta: float = 6.0, label_smoothing: float = 0.0) -> None:
        if not beta >= 0:
            raise InputError(f"TRADES' beta is {beta}: give 0 or more.")
        self.beta = beta
        self.label_smoothing = _checked_smoothing(label_smoothing)

    def __call__(self, labels: tf.Tensor, logits: tf.Tensor, clean_logits: tf.Tensor) -> tf.Tensor:
        """Computes the loss of each example, `[n]`."""
        natural = _cross_entropy(labels, clean_logits, self.label_smoothing)
        return natural + self.beta * kullback_leibler(clean_logits, logits)

    def get_config(self) -> dict[str, Any]:
        return {"beta": self.beta, **_smoothing_config(self.label_smoothing)}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> TRADES:
        return cls(**config)


def _checked_smoothing(fraction: float) -> float:
    if not 0 <= fraction < 1:
        raise InputError(f"label_smoothing is {fraction}: give a number from 0 up to, not including, 1.")
    return fraction


def _smoothing_config(fraction: float) -> dict[str, float]:
    # Without smoothing nothing, so that a model has the fingerprint that it had before there was any.
    return {"label_smoothing": fraction} if fraction else {}


def _cross_entropy(labels: tf.Tensor, logits: tf.Tensor, label_smoothing: float) -> tf.Tensor:
    """Softmax cross-entropy of each example, `[n]`, with smoothed labels."""
    of_labels = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
    if not label_smoothing:
        return of_labels
    of_all = tf.reduce_logsumexp(logits, axis=-1) - tf.reduce_mean(logits, axis=-1)
    return (1 - label_smoothing) * of_labels + label_smoothing * of_all
