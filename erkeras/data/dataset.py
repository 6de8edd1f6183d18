"""Defines a data set: three splits of images and labels. Each image is known by its original index."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np

from erkeras.errors import InputError
from erkeras.pixels import as_floats
from erkeras.stored import Pixels, StoredPixels

#: Seed of every carved split. Fixed, so that "the validation images" means the same ones everywhere.
SPLIT_SEED = 20220
#: Images of which a digest is taken at once.
_PART = 1024


@dataclass(frozen=True)
class Split:
    """Holds images and their labels.

    Attributes:
        pixels: uint8 0..255 or float32 in [0, 1], `[n, height, width, channels]`; see `images`. Where they do not fit
            into memory, `StoredPixels`.
        labels: int32 `[n]`.
        indices: int64 `[n]`, the position of each image in its source, or in the source's split where it has splits,
            by which results name it.
    """

    pixels: Pixels
    labels: np.ndarray
    indices: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def images(self) -> np.ndarray:
        """Gives all images as float32 `[n, height, width, channels]` in [0, 1]. Images on disk are read too."""
        return as_floats(self.pixels)

    @property
    def digest(self) -> str:
        """Takes the SHA-256 of the images, their shape and their labels."""
        found = hashlib.sha256(repr((self.pixels.dtype.name, self.pixels.shape)).encode())
        for start in range(0, len(self), _PART):
            found.update(np.ascontiguousarray(self.pixels[start : start + _PART]).tobytes())
        found.update(np.ascontiguousarray(self.labels).tobytes())
        return found.hexdigest()

    def take(self, rows: np.ndarray) -> Split:
        """Takes the images at some positions of this split. Images on disk stay there."""
        pixels = self.pixels.take(rows) if isinstance(self.pixels, StoredPixels) else self.pixels[rows]
        return Split(pixels, self.labels[rows], self.indices[rows])

    def sample(self, limit: int | None, seed: int) -> Split:
        """Draws `limit` images without replacement, or all. A smaller limit draws a part of a larger one's.

        Those that are drawn are read into memory.
        """
        if limit is None or limit >= len(self):
            return self
        found = self.take(np.random.RandomState(seed).permutation(len(self))[:limit])
        return Split(np.asarray(found.pixels), found.labels, found.indices)


@dataclass(frozen=True)
class Dataset:
    """Holds the training, validation and test images of a data set.

    Every choice is made on validation images, and test images are for reporting. Splits that a source lacks are carved
    from its training images by a fixed stratified seed; see `erkeras.data.splits.complete`.

    Attributes:
        name: as `load_dataset` takes it.
        class_names: one for each label.
    """

    name: str
    train: Split
    validation: Split
    test: Split
    class_names: tuple[str, ...]

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Gives (height, width, channels)."""
        height, width, channels = self.train.pixels.shape[1:]
        return height, width, channels

    @property
    def classes(self) -> int:
        return len(self.class_names)


def whole(pixels: Pixels, labels: np.ndarray) -> Split:
    return Split(pixels, np.asarray(labels, np.int32), np.arange(len(labels), dtype=np.int64))


def carve(split: Split, fraction: float, name: str) -> tuple[Split, Split]:
    """Splits off a fraction with the same mix of classes: (the rest, the fraction), both in their original order.

    Raises:
        InputError: where a class has too few images to be in both.
    """
    from sklearn.model_selection import train_test_split

    try:
        rest, carved = train_test_split(
            np.arange(len(split)), test_size=fraction, stratify=split.labels, random_state=SPLIT_SEED
        )
    except ValueError as error:
        fewest = np.bincount(split.labels)
        raise InputError(
            f"{name} has {len(split)} images in {len(fewest)} classes, the smallest of {fewest.min()}: "
            "give enough to split, at least ten of every class."
        ) from error
    return split.take(np.sort(rest)), split.take(np.sort(carved))
