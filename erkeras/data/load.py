"""Loading a data set by name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from erkeras.data.dataset import Dataset, Split, whole
from erkeras.data.decoding import count_channels, decode_image
from erkeras.data.folders import find_images
from erkeras.data.images import read_images
from erkeras.data.npz import read_splits
from erkeras.data.splits import complete
from erkeras.data.tensorflow_sets import load_tensorflow_dataset, read_image_shape
from erkeras.data.tiny_imagenet import expanded, find_tiny_imagenet
from erkeras.errors import InputError
from erkeras.stored import StoredPixels

DATASET_HELP = (
    "digits, mnist, cifar10, stl10, tiny_imagenet, tiny_imagenet:PATH or tiny_imagenet:PATH:CLASSES (an unpacked "
    "tiny-imagenet-200, its first CLASSES classes by wnid), folder:PATH (one subfolder of images a class, or train, "
    "validation and test of such), npz:PATH (images and labels, or x_train, y_train, x_test and y_test) or tfds:NAME "
    "(of tensorflow-datasets; tfds:NAME/CONFIG)"
)

_SHAPES = {"digits": (8, 8, 1), "mnist": (28, 28, 1), "cifar10": (32, 32, 3), "stl10": (96, 96, 3)}


def check_dataset(name: str) -> tuple[int, ...]:
    """Finds, without TensorFlow, what is wrong with the name of a data set.

    Returns:
        (height, width, channels) of its images.

    Raises:
        InputError: where there is no such set, or its folder or file is not as it must be.
    """
    kind, _, place = name.partition(":")
    if name in _SHAPES:
        return _SHAPES[name]
    if kind == "tiny_imagenet":
        return decode_image(find_tiny_imagenet(place).train_paths[0], channels=3).shape
    if kind == "folder" and place:
        files = find_images(expanded(place)).files
        return decode_image(files[0], count_channels(files)).shape
    if kind == "npz" and place:
        return read_splits(expanded(place))["train"].pixels.shape[1:]
    if kind == "tfds" and place:
        return read_image_shape(name)
    raise InputError(f"there is no data set {name!r}: give {DATASET_HELP}.")


def load_dataset(name: str) -> Dataset:
    """Loads a data set; images that do not fit into memory stay on disk (docs/data.md).

    Example:
        digits = load_dataset("digits")
        digits.train.images.shape  # (1149, 8, 8, 1)

    Args:
        name: `digits` (scikit-learn's 1,797 digits of 8 x 8, no network needed), `mnist`, `cifar10` or `stl10`
            (through tensorflow-datasets, from the folder TFDS_DATA_DIR or ~/tensorflow_datasets),
            `tiny_imagenet:PATH` (an unpacked tiny-imagenet-200; without PATH the folder TINY_IMAGENET_DIR or
            ./tiny-imagenet-200), `tiny_imagenet:PATH:CLASSES` (its first classes, by wnid),
            `folder:PATH` (images of one size, one subfolder a class; grey where all files are; or the folders `train`,
            `validation` and `test` of such), `npz:PATH` (arrays `images`, `labels`, or `x_train`, `y_train`,
            `x_test`, `y_test`), or `tfds:NAME` (any set of tensorflow-datasets with the features `image`, of one size,
            and `label`; `tfds:NAME/CONFIG` where it has configurations).

    Returns:
        The data set, with the splits that the source has. Missing ones are carved; see docs/data.md. 5,000 training
        images of MNIST validate, and a tenth of those of any other source with test images. Without test images the
        source's validation images become the test images, as do those of Tiny ImageNet. A source without both gives
        a fifth of its images to test, and a fifth of the rest to validation. Of STL-10 only labelled images are read.

    Raises:
        InputError: as `check_dataset`, and where a set is not prepared and cannot be downloaded.
    """
    kind, _, place = name.partition(":")
    if kind == "tfds" and place:  # which checks the same, with the TensorFlow that it loads
        return load_tensorflow_dataset(name)
    check_dataset(name)
    loaders: dict[str, Callable[[], Dataset]] = {
        "digits": _load_digits,
        "tiny_imagenet": lambda: _load_tiny_imagenet(name, place),
        "folder": lambda: _load_folder(name, expanded(place)),
        "npz": lambda: _load_npz(name, expanded(place)),
    }
    return loaders[kind]() if kind in loaders else load_tensorflow_dataset(name)


def _load_digits() -> Dataset:
    from sklearn.datasets import load_digits

    digits = load_digits()
    pixels = (digits.images / 16).astype(np.float32)[..., np.newaxis]
    return complete("digits", {"train": whole(pixels, digits.target)}, tuple("0123456789"))


def _load_tiny_imagenet(name: str, place: str) -> Dataset:
    found = find_tiny_imagenet(place)
    # Some of the files are grey.
    train = whole(read_images(found.train_paths, channels=3), found.train_labels)
    test = Split(read_images(found.test_paths, channels=3), found.test_labels, found.test_indices)
    return complete(name, {"train": train, "test": test}, found.class_names)


def _load_folder(name: str, folder: Path) -> Dataset:
    found = find_images(folder)
    pixels = read_images(found.files, count_channels(found.files))
    parts, first = {}, 0
    for split, labels in found.labels.items():
        part = slice(first, first + len(labels))
        parts[split] = whole(pixels.take(part) if isinstance(pixels, StoredPixels) else pixels[part], labels)
        first += len(labels)
    return complete(name, parts, found.class_names)


def _load_npz(name: str, path: Path) -> Dataset:
    parts = read_splits(path)
    return complete(name, parts, tuple(str(label) for label in range(parts["train"].labels.max() + 1)))
