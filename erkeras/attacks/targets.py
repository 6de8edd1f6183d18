"""Which class each attempt of a targeted attack asks for."""

from __future__ import annotations

import tensorflow as tf

from erkeras.attacks.contract import Batch


def target_classes(batch: Batch, targets: int) -> tf.Tensor | None:
    """Chooses each slot's target, int32 `[n]`: the k-th highest other clean logit, k = attempt mod `targets`.

    None without targets. A model of fewer than `targets` + 1 classes gets its last class again.
    """
    if not targets:
        return None
    classes = tf.shape(batch.clean_logits)[1]
    own = tf.one_hot(batch.labels, classes, on_value=True, off_value=False, dtype=tf.bool)
    others = tf.where(own, tf.constant(float("-inf")), batch.clean_logits)
    order = tf.argsort(others, axis=1, direction="DESCENDING", stable=True)
    # Nor a class that is masked out, by -infinity: no image is ever of it.
    possible = tf.reduce_sum(tf.cast(tf.math.is_finite(others), tf.int32), axis=1)
    rank = tf.minimum(batch.attempt % targets, tf.maximum(possible - 1, 0))
    return tf.gather(order, rank, batch_dims=1)
