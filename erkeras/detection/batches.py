"""A function of images, over batches of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from erkeras.attacks.streams import map_streams
from erkeras.pixels import as_floats
from erkeras.stored import Pixels


def in_batches(function: Callable[[tf.Tensor], Any], images: Pixels, size: int = 256) -> Any:
    """Calls a function on batches of float32 images, and joins its outputs (any structure) as arrays.

    Args:
        function: of one batch of 1 or more.
        images: as `as_pixels` gives them. Of none, what the function gives for one is looked at.
        size: of a batch.
    """
    if not len(images):  # some operations refuse an empty batch
        one = function(tf.zeros((1, *images.shape[1:])))
        return keras.tree.map_structure(lambda array: np.asarray(array)[:0], one)
    starts = range(0, len(images), size)
    parts = map_streams(lambda start: function(tf.constant(as_floats(images[start : start + size]))), starts)
    return keras.tree.map_structure(lambda *arrays: np.concatenate([np.asarray(a) for a in arrays]), *parts)
