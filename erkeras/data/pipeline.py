"""Batches for training, in an order that depends on (seed, epoch) alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from erkeras.data.dataset import Split

if TYPE_CHECKING:
    import tensorflow as tf


def training_batches(split: Split, batch_size: int, seed: int, first_epoch: int = 0) -> tf.data.Dataset:
    """Endless batches of (float32 images in [0, 1], int32 labels), epoch after epoch.

    Each epoch is a shuffle of its own and drops the last, smaller batch, so that every step has one shape. Give
    `fit` `steps_per_epoch=len(split) // batch_size`, and on resuming `first_epoch` as its `initial_epoch`.
    """
    import tensorflow as tf

    pixels, labels = tf.constant(split.pixels), tf.constant(split.labels)

    def epoch_order(epoch: tf.Tensor) -> tf.data.Dataset:
        order = tf.random.experimental.stateless_shuffle(tf.range(len(split)), [seed, epoch], alg="philox")
        return tf.data.Dataset.from_tensor_slices(order).batch(batch_size, drop_remainder=True)

    def batch(rows: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        images = tf.gather(pixels, rows)
        if images.dtype == tf.uint8:
            images = tf.cast(images, tf.float32) / 255
        return images, tf.gather(labels, rows)

    epochs = tf.data.Dataset.counter(first_epoch, dtype=tf.int32)
    return epochs.flat_map(epoch_order).map(batch).prefetch(tf.data.AUTOTUNE)
