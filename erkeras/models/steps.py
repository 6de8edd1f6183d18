"""Does what the steps of training and evaluation do beside Algorithm 1."""

from __future__ import annotations

import dataclasses
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from erkeras.attacks.divergence_pgd import DivergencePGD
from erkeras.attacks.fgsm import FGSM
from erkeras.attacks.pgd import PGD
from erkeras.errors import InputError
from erkeras.models.precision import at_least_float32
from erkeras.pixels import as_images, as_images_in_graph


def unpack(data: Any) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor | None]:
    """Unpacks a batch into images, int32 labels `[n]`, and weights `[n]` where there are any.

    As Keras' losses and metrics do, it takes labels and weights of shape `[n, 1]` for `[n]`.

    Raises:
        InputError: for images that `as_images_in_graph` refuses, and labels or weights of another shape.
    """
    images, labels, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
    images = at_least_float32(as_images_in_graph(images))
    if labels is None or ((labels.shape.rank or 1) > 1 and labels.shape[-1] != 1):
        shape = None if labels is None else labels.shape
        raise InputError(f"the labels have shape {shape}: give one integer for each image, not one-hot vectors.")
    labels = tf.reshape(tf.cast(labels, tf.int32), [-1])
    if sample_weight is not None:
        shape = sample_weight.shape
        if shape.rank not in (None, 1) and not (shape.rank == 2 and shape[-1] == 1):
            raise InputError(f"sample_weight has shape {shape}: give one weight for each image, [n] or [n, 1].")
        sample_weight = tf.reshape(tf.cast(sample_weight, images.dtype), [tf.shape(images)[0]])
    return images, labels, sample_weight


def checked(images: Any, source: str = "the images") -> Any:
    """Checks images that `fit` is given as arrays, before it begins; data sets are checked batch by batch."""
    return as_images(images, source) if isinstance(images, (np.ndarray, tf.Tensor)) else images


def codes_keeping_statistics(encoder: keras.Model, images: tf.Tensor) -> tf.Tensor:
    """Takes codes in training mode and leaves BatchNorm's statistics, which line 6 has moved, where they are."""
    statistics = encoder.non_trainable_weights  # the states of random numbers are none
    before = [tf.identity(variable) for variable in statistics]
    codes = at_least_float32(encoder(images, training=True))
    for variable, value in zip(statistics, before, strict=True):
        variable.assign(value)
    return codes


def batch_normalizations(*networks: keras.Model) -> list[keras.layers.BatchNormalization]:
    """Finds the layers of networks that normalise by statistics of their batches."""
    found = (layer for network in networks for layer in network._flatten_layers())
    return [layer for layer in found if isinstance(layer, keras.layers.BatchNormalization)]


def merge_statistics(*networks: keras.Model) -> None:
    """Gives BatchNorm's moving statistics of each replica their mean over replicas.

    Keras lets those of each replica go their own way. Then no checkpoint could hold them all.
    """
    variables = [
        variable for layer in batch_normalizations(*networks) for variable in (layer.moving_mean, layer.moving_variance)
    ]
    if variables:
        context = tf.distribute.get_replica_context()
        means = context.all_reduce(tf.distribute.ReduceOp.MEAN, [variable.value for variable in variables])
        for variable, mean in zip(variables, means, strict=True):
            variable.assign(mean)


def share_of_clean(clean_fraction: float, images: tf.Tensor) -> tuple[Any, tuple[Any, Any] | None]:
    """Tells which rows of this replica's part of a batch are attacked, where the first of the whole batch stay clean.

    Args:
        clean_fraction: of the whole batch, rounded to whole images.
        images: this replica's part.

    Returns:
        The first row here that is attacked; and its place among all attacked ones, with their number. None for that
        where there is one replica, or no clean row.
    """
    if not clean_fraction:
        return 0, None
    context = tf.distribute.get_replica_context()
    rows = tf.shape(images)[0]
    batch = rows * context.num_replicas_in_sync if context.num_replicas_in_sync > 1 else rows
    clean = tf.cast(tf.round(clean_fraction * tf.cast(batch, tf.float32)), tf.int32)
    if context.num_replicas_in_sync == 1:
        return clean, None
    here = rows * context.replica_id_in_sync_group
    first = tf.clip_by_value(clean - here, 0, rows)
    return first, (here + first - clean, batch - clean)


def not_cheap(adversary: Any) -> Any:
    """Takes FGSM, and PGD of fewer than five steps, as PGD of ten; others as they are."""
    if isinstance(adversary, FGSM):
        adversary = PGD(adversary.threat, steps=1)
    if not isinstance(adversary, (PGD, DivergencePGD)) or adversary.steps >= 5:
        return adversary
    return dataclasses.replace(adversary, steps=10, step_size=None)
