"""Loading a data set by name."""

from __future__ import annotations

import os
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

import numpy as np

from erkeras.data.arrays import read_arrays
from erkeras.data.dataset import Dataset, Split, carve, whole
from erkeras.data.decoding import SUFFIXES, count_channels, decode_image, list_images
from erkeras.data.images import read_images, to_unit_range
from erkeras.data.tiny_imagenet import expanded, find_tiny_imagenet
from erkeras.errors import InputError

DATASET_HELP = (
    "digits, mnist, cifar10, stl10, tiny_imagenet, tiny_imagenet:PATH or tiny_imagenet:PATH:CLASSES (an unpacked "
    "tiny-imagenet-200, its first CLASSES classes by wnid), folder:PATH (one subfolder of images a class) or npz:PATH "
    "(images, labels)"
)

#: Sets of tensorflow-datasets, with the fraction of their training images that validates.
_TENSORFLOW_DATASETS = {"mnist": 1 / 12, "cifar10": 1 / 10, "stl10": 1 / 10}
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
        paths = [path for part in _class_folders(expanded(place)) for path in list_images(part)]
        return decode_image(paths[0], count_channels(paths)).shape
    if kind == "npz" and place:
        return _read_npz(expanded(place))[0].shape[1:]
    raise InputError(f"there is no data set {name!r}: give {DATASET_HELP}.")


def load_dataset(name: str) -> Dataset:
    """Loads a data set into memory.

    Args:
        name: `digits` (scikit-learn's 1,797 digits of 8 x 8, no network needed), `mnist`, `cifar10` or `stl10`
            (through tensorflow-datasets, from the folder TFDS_DATA_DIR or ~/tensorflow_datasets),
            `tiny_imagenet:PATH` (an unpacked tiny-imagenet-200; without PATH the folder TINY_IMAGENET_DIR or
            ./tiny-imagenet-200), `tiny_imagenet:PATH:CLASSES` (its first classes, by wnid),
            `folder:PATH` (images of one size, one subfolder a class; grey where all files are) or `npz:PATH` (arrays
            `images`, `labels`).

    Returns:
        The data set. 5,000 training images of MNIST validate, and a tenth of those of CIFAR-10, STL-10 (of its
        labelled ones, which alone are read) and Tiny ImageNet (whose official validation images are the test
        images here). A source without test images of its own gives a fifth of its images to them, and a fifth of
        the rest to validation.

    Raises:
        InputError: as `check_dataset`, and where a set is not prepared and cannot be downloaded.
    """
    check_dataset(name)
    kind, _, place = name.partition(":")
    loaders: dict[str, Callable[[], Dataset]] = {
        "digits": _load_digits,
        "tiny_imagenet": lambda: _load_tiny_imagenet(name, place),
        "folder": lambda: _load_folder(name, expanded(place)),
        "npz": lambda: _load_npz(name, expanded(place)),
    }
    return loaders[kind]() if kind in loaders else _load_tensorflow_dataset(name)


def _load_digits() -> Dataset:
    from sklearn.datasets import load_digits

    digits = load_digits()
    pixels = (digits.images / 16).astype(np.float32)[..., np.newaxis]
    return _split_all("digits", pixels, digits.target, tuple("0123456789"))


def _load_tiny_imagenet(name: str, place: str) -> Dataset:
    found = find_tiny_imagenet(place)
    # Some of the files are grey.
    train, validation = carve(whole(read_images(found.train_paths, channels=3), found.train_labels), 1 / 10, name)
    test = Split(read_images(found.test_paths, channels=3), found.test_labels, found.test_indices)
    return Dataset(name, train, validation, test, found.class_names)


def _load_folder(name: str, folder: Path) -> Dataset:
    folders = _class_folders(folder)
    paths = [list_images(place) for place in folders]
    labels = np.repeat(np.arange(len(folders)), [len(part) for part in paths])
    files = [path for part in paths for path in part]
    pixels = read_images(files, count_channels(files))
    return _split_all(name, pixels, labels, tuple(place.name for place in folders))


def _load_npz(name: str, path: Path) -> Dataset:
    pixels, labels = _read_npz(path)
    return _split_all(name, pixels, labels, tuple(str(label) for label in range(labels.max() + 1)))


def _split_all(name: str, pixels: np.ndarray, labels: np.ndarray, class_names: tuple[str, ...]) -> Dataset:
    training, test = carve(whole(pixels, labels), 1 / 5, name)
    train, validation = carve(training, 1 / 5, name)
    return Dataset(name, train, validation, test, class_names)


def _load_tensorflow_dataset(name: str) -> Dataset:
    os.environ.setdefault("NO_GCE_CHECK", "true")
    import tensorflow_datasets as tfds

    builder = tfds.builder(name)
    if not builder.is_prepared():
        try:
            _check_network(next(iter(builder.url_infos)))
            builder.download_and_prepare()
        except Exception as error:  # tensorflow-datasets raises whatever the network gave it
            raise InputError(
                f"the data set {name} is not prepared in {builder.data_path.parent.parent} and could not be "
                f"downloaded ({type(error).__name__}): on a machine with a network run "
                f"python -c \"import tensorflow_datasets as tfds; tfds.load('{name}')\", copy the folder it makes "
                "and set TFDS_DATA_DIR to it."
            ) from error
    arrays = {
        split: {key: np.asarray(value) for key, value in part.items()}
        for split, part in tfds.as_numpy(
            {split: builder.as_dataset(split=split, batch_size=-1) for split in ("train", "test")}
        ).items()
    }
    train, validation = carve(
        whole(arrays["train"]["image"], arrays["train"]["label"]), _TENSORFLOW_DATASETS[name], name
    )
    test = whole(arrays["test"]["image"], arrays["test"]["label"])
    return Dataset(name, train, validation, test, tuple(builder.info.features["label"].names))


def _check_network(url: str) -> None:
    """Raises OSError where the host does not answer; tensorflow-datasets would go on trying for minutes."""
    try:
        urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=20).close()
    except urllib.error.HTTPError:
        return  # an answer


def _class_folders(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder: give one with a subfolder of images for each class.")
    try:
        places = sorted(folder.iterdir())
    except OSError as error:
        raise InputError(f"{folder} cannot be read ({error.strerror}): give a folder of images.") from error
    # __MACOSX is what a Mac puts into archives.
    folders = [place for place in places if place.is_dir() and not place.name.startswith((".", "__MACOSX"))]
    if len(folders) < 2:
        raise InputError(f"{folder} has {len(folders)} subfolders: give one with a subfolder for each class.")
    for place in folders:
        if not list_images(place):
            raise InputError(f"{place} has no images: put files of type {', '.join(SUFFIXES)} into it.")
    return folders


def _read_npz(path: Path) -> tuple[np.ndarray, np.ndarray]:
    arrays = read_arrays(path, ("images", "labels"))
    pixels = to_unit_range(arrays["images"], str(path))
    labels = arrays["labels"]
    if labels.ndim == 2 and labels.shape[1] == 1:  # as keras.datasets gives them
        labels = labels[:, 0]
    if labels.dtype.kind not in "iu" or labels.shape != (len(pixels),) or labels.min() < 0:
        raise InputError(
            f"{path} has labels of type {labels.dtype} and shape {labels.shape} for {len(pixels)} images: "
            "give one whole number of 0 or more for each image."
        )
    present = np.unique(labels)
    if len(present) < 2 or len(present) <= present[-1]:
        raise InputError(
            f"{path} has {len(present)} classes with labels from {present[0]} to {present[-1]}: give two classes or "
            "more, labelled 0, 1, 2 and so on."
        )
    return pixels, labels.astype(np.int32)
