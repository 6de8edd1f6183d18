"""What encoder and classifier descend in line 8 of Algorithm 1.

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
    """Softmax cross-entropy of the (adversarial) logits, the paper's l.

    `keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction=None)` gives the same, but casts logits to
    its own dtype: float64 ones would lose half of their digits.
    """

    def __call__(self, labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
        """Loss of each example, `[n]`, from int labels `[n]` and logits `[n, classes]`."""
        return tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)

    def get_config(self) -> dict[str, Any]:
        return {}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> CrossEntropy:
        return cls(**config)


@keras.saving.register_keras_serializable("erkeras")
class TRADES:
    """Zhang et al. (2019), equation 5: cross-entropy of the clean logits, and beta KL(p(x) || p(x_adv)).

    Its adversary is `DivergencePGD`.

    Args:
        beta: what robustness weighs against accuracy (1 / lambda of the paper), 0 or more.

    Raises:
        InputError: for a negative beta.
    """

    uses_clean_logits = True

    def __init__(self, beta: float = 6.0) -> None:
        if not beta >= 0:
            raise InputError(f"TRADES' beta is {beta}: give 0 or more.")
        self.beta = beta

    def __call__(self, labels: tf.Tensor, logits: tf.Tensor, clean_logits: tf.Tensor) -> tf.Tensor:
        """Loss of each example, `[n]`."""
        natural = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, clean_logits)
        return natural + self.beta * kullback_leibler(clean_logits, logits)

    def get_config(self) -> dict[str, Any]:
        return {"beta": self.beta}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> TRADES:
        return cls(**config)
