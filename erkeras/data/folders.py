"""Folders of images: one subfolder a class, in the folder itself or in one folder for each split."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from erkeras.data.decoding import SUFFIXES, list_images
from erkeras.data.splits import SPLIT_NAMES, find_splits
from erkeras.errors import InputError


@dataclass(frozen=True)
class ImageFolder:
    """Lists what there is to read.

    Attributes:
        class_names: one for each label; the subfolders of the training images, sorted.
        paths: split -> image files, class after class, in each sorted by name; position in it is an image's original
            index.
        labels: split -> int32 `[n]`.
    """

    class_names: tuple[str, ...]
    paths: dict[str, list[Path]]
    labels: dict[str, np.ndarray]

    @property
    def files(self) -> list[Path]:
        """Lists the image files of all splits, one split after the other."""
        return [path for part in self.paths.values() for path in part]


def find_images(folder: Path) -> ImageFolder:
    """Finds the images of a folder and their labels, without opening an image.

    Args:
        folder: one subfolder of images a class; or train/ of such and, where they are there, validation/ (val/,
            valid/) and test/.

    Returns:
        The images, all of them "train" where the folder has no splits.

    Raises:
        InputError: where there is no such folder, a class without images, or one that train/ lacks.
    """
    splits = _find_split_folders(folder) or {"train": folder}
    train = _list_classes(splits["train"])
    if len(train) < 2:
        raise InputError(f"{splits['train']} has {len(train)} subfolders: give one with a subfolder for each class.")
    names = tuple(train)
    paths, labels = {}, {}
    for split, place in splits.items():
        classes = train if split == "train" else _list_classes(place)
        if unknown := [name for name in classes if name not in train]:
            raise InputError(
                f"{place / unknown[0]} is a class that {splits['train']} lacks: give training images of it, or move "
                "it away."
            )
        if not classes:
            raise InputError(f"{place} has no subfolders: give one for each class, or move {place.name} away.")
        paths[split] = [path for part in classes.values() for path in part]
        ranks = np.array([names.index(name) for name in classes], np.int32)
        labels[split] = np.repeat(ranks, [len(part) for part in classes.values()])
    return ImageFolder(names, paths, labels)


def _find_split_folders(folder: Path) -> dict[str, Path]:
    """Split -> its folder. None where train, validation or test is a class, which has images and no subfolders."""
    places = _subfolders(folder)
    named = [place for place in places if place.name in SPLIT_NAMES]
    if not any(_subfolders(place) for place in named):
        return {}
    if other := [place for place in places if place not in named]:
        raise InputError(
            f"{folder} has the splits {', '.join(place.name for place in named)} and {other[0].name}, which is none: "
            "put it into a split as a class, or move it away."
        )
    for place in named:
        if loose := list_images(place):
            raise InputError(
                f"{loose[0]} is in no class: put the images of {place} into one subfolder for each class, or move "
                "them away."
            )
    found = find_splits([place.name for place in named], folder)
    return {split: folder / name for split, name in found.items()}


def _list_classes(folder: Path) -> dict[str, list[Path]]:
    classes = {place.name: list_images(place) for place in _subfolders(folder)}
    for name, paths in classes.items():
        if not paths:
            raise InputError(f"{folder / name} has no images: put files of type {', '.join(SUFFIXES)} into it.")
    return classes


def _subfolders(folder: Path) -> list[Path]:
    try:
        if not folder.is_dir():
            raise InputError(f"{folder} is not a folder: give one with a subfolder of images for each class.")
        # __MACOSX is what a Mac puts into archives.
        places = [place for place in folder.iterdir() if not place.name.startswith((".", "__MACOSX"))]
        return sorted(place for place in places if place.is_dir())
    except OSError as error:
        raise InputError(f"{folder} cannot be read ({error.strerror}): give a folder of images.") from error
