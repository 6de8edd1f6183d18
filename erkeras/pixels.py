"""Images and labels as arrays: the one check of whatever takes images."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import lazy_loader
import numpy as np

from erkeras.errors import InputError
from erkeras.stored import Pixels, StoredPixels

if TYPE_CHECKING:
    import tensorflow as tf
else:
    tf = lazy_loader.load("tensorflow")

#: How far floats may overshoot their bounds, as a fraction of the range: a bicubic resize does, and is clipped.
OVERSHOOT = 0.01


def as_images(pixels: Any, source: str = "the images", lower: float = 0.0, upper: float = 1.0) -> np.ndarray:
    """Gives images as float32 `[n, height, width, channels]` within the bounds of a pixel.

    Example:
        as_images(np.full((1, 8, 8, 1), 255, np.uint8)).max()  # 1.0

    Args:
        pixels: `[n, height, width, channels]`: whole numbers in 0..255, or floats within the bounds. Floats that
            overshoot by at most `OVERSHOOT` are clipped. All others are taken as they are.
        source: what the array is called in an error.
        lower, upper: bounds of a pixel. Where they are not 0 and 1, whole numbers are taken as they are too.

    Raises:
        InputError: for another shape, what is no number, NaN, or values farther outside the bounds.
    """
    return as_floats(as_pixels(pixels, source, lower, upper))


def as_pixels(pixels: Any, source: str = "the images", lower: float = 0.0, upper: float = 1.0) -> Pixels:
    """Checks as `as_images` does, and leaves bytes uint8, so that one batch at a time can be cast by `as_floats`.

    Stored ones stay where they are.
    """
    if isinstance(pixels, StoredPixels) and (lower, upper) == (0, 1):
        return pixels
    array = _as_array(pixels, f"the pixels of {source}")
    if array.ndim != 4:
        raise InputError(
            f"the pixels of {source} have shape {array.shape}: give [n, height, width, channels], with channels 1 for "
            "grey and n 1 for one image."
        )
    bytes_allowed = (lower, upper) == (0, 1)
    if array.dtype == np.uint8 and bytes_allowed:
        return array
    if array.dtype.kind in "iu" and bytes_allowed:
        return _as_bytes(array, source)
    return _within(array, source, lower, upper)


def as_floats(pixels: Pixels) -> np.ndarray:
    """Casts what `as_pixels` gave, or a part of it, to float32: bytes are divided by 255. Stored ones are read."""
    pixels = np.asarray(pixels)
    images = pixels.astype(np.float32, copy=False)
    return images / np.float32(255) if pixels.dtype == np.uint8 else images


def as_images_in_graph(images: tf.Tensor, source: str = "the images") -> tf.Tensor:
    """Gives a tensor of images as floats in [0, 1], by operations that a graph may hold.

    Args:
        images: `[n, height, width, channels]`, uint8 or floats, as for `as_images`.
        source: what they are called in an error.

    Raises:
        InputError: for another dtype or rank.
        tf.errors.InvalidArgumentError: when it runs, for NaN and for values farther outside [0, 1].
    """
    images = tf.convert_to_tensor(images)
    if images.shape.rank not in (4, None):
        raise InputError(f"the pixels of {source} have shape {images.shape}: give [n, height, width, channels].")
    if images.dtype == tf.uint8:
        return tf.cast(images, tf.float32) / 255
    if not images.dtype.is_floating:
        raise InputError(f"the pixels of {source} are {images.dtype.name}: give floats in [0, 1] or uint8.")
    message = f"some pixels of {source} are outside [0, 1] or not numbers: scale the images to [0, 1], or give uint8."
    inside = (images >= -OVERSHOOT) & (images <= 1 + OVERSHOOT)  # false for NaN too
    with tf.control_dependencies([tf.debugging.Assert(tf.reduce_all(inside), [message])]):
        return tf.clip_by_value(images, 0, 1)


def as_labels(labels: Any, source: str = "the labels") -> np.ndarray:
    """Gives labels as int32 `[n]`.

    Args:
        labels: whole numbers, `[n]` or `[n, 1]`.
        source: what they are called in an error.

    Raises:
        InputError: for one-hot vectors, another shape, or what is no whole number.
    """
    array = _as_array(labels, source)
    if array.ndim > 2 or (array.ndim == 2 and array.shape[1] != 1):
        raise InputError(
            f"{source} have shape {array.shape}: give one integer for each image, [n], as labels.argmax(axis=1) of "
            "one-hot vectors."
        )
    array = array.reshape(-1)
    if array.dtype.kind == "f" and not np.array_equal(array, np.round(array)):  # NaN is not equal to itself
        raise InputError(f"{source} are {array.dtype} with values that are not whole: give one integer for each image.")
    return array.astype(np.int32)


def _as_array(values: Any, source: str) -> np.ndarray:
    try:
        array = np.asarray(values)
    except (ValueError, TypeError) as error:  # lists of unequal length
        raise InputError(f"{source} are no array ({str(error)[:100]}): give an array of numbers.") from error
    if array.dtype.name == "bfloat16":  # NumPy does not count it among its floats
        array = array.astype(np.float32)
    if array.dtype.kind not in "fiub":
        raise InputError(f"{source} are of type {array.dtype}: give an array of numbers.")
    return array


def _as_bytes(array: np.ndarray, source: str) -> np.ndarray:
    low, high = (int(array.min()), int(array.max())) if array.size else (0, 0)
    if low < 0 or high > 255:
        raise InputError(
            f"{_described(array, source)} go from {low} to {high}: give whole numbers in 0..255, or floats in [0, 1]."
        )
    if high == 1:
        raise InputError(
            f"{_described(array, source)} are all 0 or 1, which may be black and white or nearly black: give floats "
            "in [0, 1], or uint8 in 0..255."
        )
    return array.astype(np.uint8)


def _within(array: np.ndarray, source: str, lower: float, upper: float) -> np.ndarray:
    images = array.astype(np.float32, copy=False)
    if not array.size:
        return images
    low, high = float(array.min()), float(array.max())
    if not np.isfinite([low, high]).all():
        count = int((~np.isfinite(array)).sum())
        raise InputError(
            f"{_described(array, source)} have {count} values that are not numbers (NaN or infinity): leave those "
            "images out, or replace the values."
        )
    slack = OVERSHOOT * (upper - lower) * (1 + 1e-5)
    if low < lower - slack or high > upper + slack:
        raise InputError(
            f"{_described(array, source)} go from {low:.6g} to {high:.6g}, outside [{lower:g}, {upper:g}]: "
            f"{_remedy(low, high, lower, upper)}."
        )
    return np.clip(images, lower, upper) if low < lower or high > upper else images


def _remedy(low: float, high: float, lower: float, upper: float) -> str:
    if (lower, upper) != (0, 1):
        return "scale the images"
    if low >= 0 and 2 < high <= 256:
        return "divide the images by 255, or give them as uint8"
    if low >= -1.01 and high <= 1.01:
        return "scale the images as (images + 1) / 2 where they are in [-1, 1]"
    return "scale the images to [0, 1]"


def _described(array: np.ndarray, source: str) -> str:
    return f"the pixels of {source} ({array.dtype}, shape {array.shape})"
