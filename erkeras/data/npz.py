"""Images and labels of an .npz file."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from erkeras.data.arrays import list_arrays, read_arrays
from erkeras.data.dataset import Split, whole
from erkeras.data.images import to_unit_range
from erkeras.data.splits import SPLIT_NAMES, find_splits
from erkeras.errors import InputError

#: Arrays of a set without splits, and what the arrays of a split begin with.
_WHOLE, _PREFIXES = ("images", "labels"), ("x_", "y_")


def read_splits(path: Path) -> dict[str, Split]:
    """Reads the images of an .npz file and their labels.

    Args:
        path: a file with the arrays `images` and `labels`; or `x_train` and `y_train` and, where they are there,
            `x_validation` (`x_val`, `x_valid`), `x_test` and their labels, as keras.datasets gives them.

    Returns:
        Split -> its images; all of them are "train" in a file without splits.

    Raises:
        InputError: as `read_arrays`, for images or labels that are none, and for splits that do not fit together.
    """
    pairs = _find_pairs(path)
    arrays = read_arrays(path, tuple(name for pair in pairs.values() for name in pair))
    pixels = {
        split: to_unit_range(arrays[images], str(path) if images == "images" else f"{images} of {path}")
        for split, (images, _) in pairs.items()
    }
    labels = {split: _as_labels(arrays[name], name, path, len(pixels[split])) for split, (_, name) in pairs.items()}
    present = np.unique(labels["train"])
    if len(present) < 2 or len(present) <= present[-1]:
        raise InputError(
            f"{path} has {len(present)} classes with {pairs['train'][1]} from {present[0]} to {present[-1]}: give two "
            "classes or more, labelled 0, 1, 2 and so on."
        )
    for split, (images, name) in pairs.items():
        if pixels[split].shape[1:] != pixels["train"].shape[1:]:
            sizes = [" x ".join(map(str, pixels[part].shape[1:])) for part in ("train", split)]
            raise InputError(
                f"{path} has images of {sizes[0]} in {pairs['train'][0]} and of {sizes[1]} in {images}: give images "
                "of one size."
            )
        if labels[split].max() > present[-1]:
            raise InputError(
                f"{path} has the label {labels[split].max()} in {name}, and {pairs['train'][1]} goes to {present[-1]}: "
                "give training images of every class."
            )
    return {split: whole(pixels[split], labels[split]) for split in pairs}


def _find_pairs(path: Path) -> dict[str, tuple[str, str]]:
    """Split -> the names of its images and its labels."""
    names = list_arrays(path, _WHOLE)
    parts = [name[2:] for name in names if name.startswith(_PREFIXES) and name[2:] in SPLIT_NAMES]
    known = [name for name in names if name in _WHOLE]
    if not parts:
        if len(known) < len(_WHOLE):
            listed = ", ".join(names[:10]) or "none"
            raise InputError(
                f"{path} has the arrays {listed[:200]}: give an .npz file with the arrays images, labels, or x_train, "
                "y_train, x_test, y_test."
            )
        return {"train": _WHOLE}
    if known:
        raise InputError(
            f"{path} has {known[0]} and arrays of splits, as {_PREFIXES[0]}{parts[0]}: give images and labels, or "
            "x_train, y_train, x_test, y_test."
        )
    pairs = {}
    for split, part in find_splits(dict.fromkeys(parts), path).items():
        images, labels = (f"{prefix}{part}" for prefix in _PREFIXES)
        for name, partner in ((images, labels), (labels, images)):
            if partner not in names:
                raise InputError(f"{path} has {name} without {partner}: give both, or neither.")
        pairs[split] = images, labels
    return pairs


def _as_labels(labels: np.ndarray, name: str, path: Path, images: int) -> np.ndarray:
    if labels.ndim == 2 and labels.shape[1] == 1:  # as keras.datasets gives them
        labels = labels[:, 0]
    if labels.dtype.kind not in "iu" or labels.shape != (images,) or labels.min() < 0:
        raise InputError(
            f"{path} has {name} of type {labels.dtype} and shape {labels.shape} for {images} images: "
            "give one whole number of 0 or more for each image."
        )
    return labels
