"""Batches for training, in an order that depends on (seed, epoch) alone."""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

from erkeras.data.dataset import Split
from erkeras.randomness import AugmentationStream, fold_in, integers, row_keys, uniform


def training_batches(
    split: Split,
    batch_size: int,
    seed: int,
    first_epoch: int = 0,
    augment: bool = False,
    own_rows: Callable[[tf.Tensor], tf.Tensor] | None = None,
) -> tf.data.Dataset:
    """Endless batches of (float32 images in [0, 1], int32 labels), epoch after epoch.

    Each epoch is a shuffle of its own and drops the last, smaller batch, so that every step has one shape. Give
    `fit` `steps_per_epoch=len(split) // batch_size`, and on resuming `first_epoch` as its `initial_epoch`.

    Args:
        augment: shift each image and mirror it or not, as `crop_and_flip` does, anew in each epoch.
        own_rows: which rows of each batch are made here, and in which order: a function of all rows `[batch_size]`.
            None for all.
    """
    pixels, labels, indices = (tf.constant(array) for array in (split.pixels, split.labels, split.indices))

    def epoch_rows(epoch: tf.Tensor) -> tf.data.Dataset:
        order = tf.random.experimental.stateless_shuffle(tf.range(len(split)), [seed, epoch], alg="philox")
        rows = tf.data.Dataset.from_tensor_slices(order).batch(batch_size, drop_remainder=True)
        rows = rows.map(own_rows) if own_rows else rows
        return rows.map(lambda rows: (rows, epoch))

    def batch(rows: tf.Tensor, epoch: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        images = tf.gather(pixels, rows)
        if augment:
            images = crop_and_flip(images, *draw_augmentation(images.shape, seed, epoch, tf.gather(indices, rows)))
        if images.dtype == tf.uint8:
            images = tf.cast(images, tf.float32) / 255
        return images, tf.gather(labels, rows)

    epochs = tf.data.Dataset.counter(first_epoch, dtype=tf.int32)
    return epochs.flat_map(epoch_rows).map(batch).prefetch(tf.data.AUTOTUNE)


def draw_augmentation(
    shape: tuple[int, ...], seed: int, epoch: tf.Tensor, indices: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Draws how each image is shifted and whether it is mirrored: a function of (seed, epoch, original index) alone.

    The authors pad the 32 pixels of CIFAR-10 by 4; here it is an eighth of any side.

    Args:
        shape: of the images, `[n, height, width, channels]`.
        indices: int64 `[n]`, the original index of each image.

    Returns:
        Shifts down and to the right, int32 `[n]`, uniform in -side // 8 .. side // 8, and bool `[n]`, half of them
        true: mirrored.
    """
    keys = fold_in(row_keys(tf.stack([tf.fill(tf.shape(indices), tf.cast(seed, tf.int64)), indices], axis=1)), epoch)
    down, right = (
        integers(fold_in(keys, stream), [], 2 * (side // 8) + 1) - side // 8
        for stream, side in ((AugmentationStream.DOWN, shape[1]), (AugmentationStream.RIGHT, shape[2]))
    )
    return down, right, uniform(fold_in(keys, AugmentationStream.MIRRORED), []) < 0.5


def crop_and_flip(images: tf.Tensor, down: tf.Tensor, right: tf.Tensor, mirrored: tf.Tensor) -> tf.Tensor:
    """Shifts every image of a batch, zeros coming in from outside (a crop of the padded image), then mirrors it.

    Args:
        images: `[n, height, width, channels]` of any dtype.
        down, right: int32 `[n]`, in pixels, at most an eighth of the side either way.
        mirrored: bool `[n]`, left to right.

    Returns:
        Images of the same shape and dtype.
    """
    _, height, width, _ = images.shape
    margins = height // 8, width // 8
    padded = tf.pad(images, [[0, 0], [margins[0]] * 2, [margins[1]] * 2, [0, 0]])
    columns = tf.where(mirrored[:, tf.newaxis], tf.range(width)[::-1], tf.range(width))
    cropped = tf.gather(padded, tf.range(height) + (margins[0] - down)[:, tf.newaxis], axis=1, batch_dims=1)
    return tf.gather(cropped, columns + (margins[1] - right)[:, tf.newaxis], axis=2, batch_dims=1)
