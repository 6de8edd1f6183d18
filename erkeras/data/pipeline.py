"""Batches for training, in an order that depends on (seed, epoch) alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import tensorflow as tf

from erkeras.data.dataset import Split
from erkeras.processors import available_processors
from erkeras.randomness import AugmentationStream, fold_in, integers, row_keys, uniform
from erkeras.stored import StoredPixels


def training_batches(
    split: Split,
    batch_size: int,
    seed: int,
    first_epoch: int = 0,
    augment: bool = False,
    cutout: float = 0.0,
    first_step: int = 0,
    own_rows: Callable[[tf.Tensor], tf.Tensor] | None = None,
) -> tf.data.Dataset:
    """Makes endless batches of (float32 images in [0, 1], int32 labels), epoch after epoch.

    Each epoch is a shuffle of its own and drops the last, smaller batch, so that every step has one shape. Give
    `fit` `steps_per_epoch=len(split) // batch_size`, and on resuming `first_epoch` as its `initial_epoch`.

    Images that are stored are read when their batch is due: as many batches at once as there are processors, and two
    lie ready. The batches are the same as of images in memory.

    Args:
        augment: shift each image and mirror it or not, as `crop_and_flip` does, anew in each epoch.
        cutout: cut a rectangle out of each image, as `cut_out` does, anew in each epoch: its sides, as a fraction of
            the image's.
        first_step: of the first epoch; the batches before it are not made.
        own_rows: which rows of each batch are made here, and in which order: a function of all rows `[batch_size]`.
            None for all.
    """
    stored = isinstance(split.pixels, StoredPixels)
    labels, indices = tf.constant(split.labels), tf.constant(split.indices)
    images_at = _read_in_graph(split.pixels) if isinstance(split.pixels, StoredPixels) else _gather_from(split.pixels)

    def epoch_rows(epoch: tf.Tensor) -> tf.data.Dataset:
        order = tf.random.experimental.stateless_shuffle(tf.range(len(split)), [seed, epoch], alg="philox")
        rows = tf.data.Dataset.from_tensor_slices(order).batch(batch_size, drop_remainder=True)
        rows = rows.map(own_rows) if own_rows else rows
        return rows.map(lambda rows: (rows, epoch))

    def batch(rows: tf.Tensor, epoch: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        images = images_at(rows)
        shape, numbers = images.shape, tf.gather(indices, rows)
        if augment:
            images = crop_and_flip(images, *draw_augmentation(shape, seed, epoch, numbers))
        if images.dtype == tf.uint8:
            images = tf.cast(images, tf.float32) / 255
        if cutout:
            images = cut_out(images, *draw_cutout(shape, seed, epoch, numbers), fraction=cutout)
        return images, tf.gather(labels, rows)

    epochs = tf.data.Dataset.counter(first_epoch, dtype=tf.int32)
    rows = epochs.flat_map(epoch_rows).skip(first_step)
    if stored:
        return rows.map(batch, num_parallel_calls=available_processors(), deterministic=True).prefetch(2)
    return rows.map(batch).prefetch(tf.data.AUTOTUNE)


@contextmanager
def failures(split: Split) -> Iterator[None]:
    """Raises what went wrong while stored images were read as it was, and not as TensorFlow tells of it."""
    try:
        yield
    except Exception as error:
        failure = split.pixels.failure if isinstance(split.pixels, StoredPixels) else None
        if failure is None:
            raise
        raise failure from error


def _gather_from(pixels: np.ndarray) -> Callable[[tf.Tensor], tf.Tensor]:
    kept = tf.constant(pixels)
    return lambda rows: tf.gather(kept, rows)


def _read_in_graph(pixels: StoredPixels) -> Callable[[tf.Tensor], tf.Tensor]:
    def images_at(rows: tf.Tensor) -> tf.Tensor:
        images = tf.numpy_function(pixels.read_in_graph, [rows], tf.uint8, stateful=False)
        return tf.ensure_shape(images, (rows.shape[0], *pixels.shape[1:]))

    return images_at


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
    keys = _keys(seed, epoch, indices)
    down, right = (
        integers(fold_in(keys, stream), [], 2 * (side // 8) + 1) - side // 8
        for stream, side in ((AugmentationStream.DOWN, shape[1]), (AugmentationStream.RIGHT, shape[2]))
    )
    return down, right, uniform(fold_in(keys, AugmentationStream.MIRRORED), []) < 0.5


def draw_cutout(shape: tuple[int, ...], seed: int, epoch: tf.Tensor, indices: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Draws the centre of what each image loses: a function of (seed, epoch, original index) alone.

    Args:
        shape: of the images, `[n, height, width, channels]`.
        indices: int64 `[n]`, the original index of each image.

    Returns:
        Rows and columns, int32 `[n]`, uniform over the image.
    """
    keys = _keys(seed, epoch, indices)
    row, column = (
        integers(fold_in(keys, stream), [], side)
        for stream, side in ((AugmentationStream.CUT_DOWN, shape[1]), (AugmentationStream.CUT_RIGHT, shape[2]))
    )
    return row, column


def _keys(seed: int, epoch: tf.Tensor, indices: tf.Tensor) -> tf.Tensor:
    return fold_in(row_keys(tf.stack([tf.fill(tf.shape(indices), tf.cast(seed, tf.int64)), indices], axis=1)), epoch)


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


def cut_out(images: tf.Tensor, row: tf.Tensor, column: tf.Tensor, fraction: float) -> tf.Tensor:
    """Cuts a rectangle out of every image of a batch: Cutout of DeVries and Taylor (2017).

    It becomes grey, 0.5, which is 0 behind the first layer of our networks. A part of it may lie outside the image, as
    in their section 3.

    Args:
        images: float `[n, height, width, channels]` in [0, 1].
        row, column: int32 `[n]`, the centre of each rectangle.
        fraction: its sides, as a fraction of the image's: rounded to whole pixels, at least one.

    Returns:
        Images of the same shape and dtype.
    """
    _, height, width, _ = images.shape
    inside = [_span(centre, side, max(1, round(fraction * side))) for centre, side in ((row, height), (column, width))]
    cut = inside[0][:, :, tf.newaxis, tf.newaxis] & inside[1][:, tf.newaxis, :, tf.newaxis]
    return tf.where(cut, tf.constant(0.5, images.dtype), images)


def _span(centre: tf.Tensor, side: int, length: int) -> tf.Tensor:
    """Which of the places 0 to side - 1 are among `length` ones about each centre, bool `[n, side]`."""
    first = centre[:, tf.newaxis] - length // 2
    places = tf.range(side)
    return (places >= first) & (places < first + length)
