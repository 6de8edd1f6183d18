"""What encoder and classifier descend in line 8 of Algorithm 1."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf


@keras.saving.register_keras_serializable("erkeras")
class CrossEntropy:
    """Softmax cross-entropy of the (adversarial) logits, the paper's l."""

    def __call__(self, labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
        """Loss of each example, `[n]`, from int labels `[n]` and logits `[n, classes]`."""
        return tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)

    def get_config(self) -> dict[str, Any]:
        return {}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> CrossEntropy:
        return cls(**config)
