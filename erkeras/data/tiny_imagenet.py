"""The files of Tiny ImageNet, in the layout of the official archive."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from erkeras.data.decoding import SUFFIXES, list_images
from erkeras.errors import InputError
from erkeras.files import read_regular

#: Of a list of names.
_MOST_BYTES = 2**26
_UNPACK = "give tiny_imagenet:PATH of an unpacked tiny-imagenet-200.zip, or set TINY_IMAGENET_DIR to it"


@dataclass(frozen=True)
class TinyImagenet:
    """Lists what there is to read. A label is the rank of its wnid (the WordNet name of a class) among all of them.

    Attributes:
        class_names: one for each label.
        train_paths: class after class, in each sorted by name; position in it is an image's original index.
        train_labels: int32 `[n]`.
        test_paths: official validation images, which are labelled; the official test images are not.
        test_labels: int32 `[m]`.
        test_indices: int64 `[m]`, the row of each in val_annotations.txt, which is the number in its file's name.
    """

    class_names: tuple[str, ...]
    train_paths: list[Path]
    train_labels: np.ndarray
    test_paths: list[Path]
    test_labels: np.ndarray
    test_indices: np.ndarray


def find_tiny_imagenet(place: str) -> TinyImagenet:
    """Finds the images of Tiny ImageNet and their labels, without opening an image.

    Args:
        place: PATH or PATH:CLASSES, the folder and how many of its classes to take, the first by wnid. Without PATH
            it is the folder TINY_IMAGENET_DIR, else ./tiny-imagenet-200.

    Raises:
        InputError: where a part of the archive is missing or damaged.
    """
    path, colon, limit = place.rpartition(":")
    if not (colon and limit.isdecimal() and len(limit) < 10):
        path, limit = place, ""
    folder = expanded(path or os.environ.get("TINY_IMAGENET_DIR") or "tiny-imagenet-200")
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder: {_UNPACK}.")
    wnids = sorted({*_read(folder / "wnids.txt").split()})
    if len(wnids) < 2:
        raise InputError(f"{folder / 'wnids.txt'} names {len(wnids)} classes: {_UNPACK}.")
    classes = int(limit or len(wnids))
    if not 2 <= classes <= len(wnids):
        raise InputError(f"tiny_imagenet:{place} asks for {classes} of {len(wnids)} classes: give 2 to {len(wnids)}.")
    annotations = _read_annotations(folder / "val", set(wnids))
    chosen = wnids[:classes]
    paths = [_list_class(folder / "train" / wnid / "images") for wnid in chosen]
    ranks = {wnid: rank for rank, wnid in enumerate(wnids)}
    labels = np.array([ranks[wnid] for wnid in annotations.values()], np.int32)
    if missing := [wnid for wnid in chosen if ranks[wnid] not in labels]:
        raise InputError(f"{folder / 'val'} has no image of {missing[0]}: {_UNPACK}.")
    rows = np.flatnonzero(labels < classes)
    names = list(annotations)
    return TinyImagenet(
        _class_names(folder, chosen),
        [path for part in paths for path in part],
        np.repeat(np.arange(classes, dtype=np.int32), [len(part) for part in paths]),
        [folder / "val" / "images" / names[row] for row in rows],
        labels[rows],
        rows.astype(np.int64),
    )


def expanded(place: str) -> Path:
    """Makes a path of what a user wrote; `~` is the home folder, which no shell expands behind a colon."""
    return Path(os.path.expanduser(place))


def _read_annotations(folder: Path, wnids: set[str]) -> dict[str, str]:
    """Name of each file in val/images -> its wnid, in the order of val_annotations.txt."""
    place = folder / "val_annotations.txt"
    annotations: dict[str, str] = {}
    for number, line in enumerate(_read(place).splitlines(), start=1):
        name, _, rest = line.partition("\t")
        wnid = rest.partition("\t")[0]
        if wnid not in wnids:
            raise InputError(
                f"{place} has {line[:60]!r} in line {number}, not a file, a wnid of wnids.txt and a box: {_UNPACK}."
            )
        annotations[name] = wnid
    present = {path.name for path in _list_class(folder / "images")}
    if odd := sorted(present ^ annotations.keys()):
        raise InputError(
            f"{place} labels {len(annotations)} images and {folder / 'images'} has {len(present)}, {odd[0]} being in "
            f"only one of them: {_UNPACK}."
        )
    return annotations


def _class_names(folder: Path, wnids: list[str]) -> tuple[str, ...]:
    """The first of the synonyms in words.txt; the wnid itself where the file or its line is missing."""
    words: dict[str, str] = {}
    if (folder / "words.txt").is_file():
        for line in _read(folder / "words.txt").splitlines():
            wnid, _, synonyms = line.partition("\t")
            words[wnid] = synonyms.partition(",")[0].strip()
    return tuple(words.get(wnid) or wnid for wnid in wnids)


def _list_class(folder: Path) -> list[Path]:
    paths = list_images(folder) if folder.is_dir() else []
    if not paths:
        raise InputError(f"{folder} has no images of type {', '.join(SUFFIXES)}: {_UNPACK}.")
    return paths


def _read(path: Path) -> str:
    try:
        return read_regular(path, _MOST_BYTES).decode(errors="replace")
    except OSError as error:
        raise InputError(f"{path} cannot be read ({type(error).__name__}): {_UNPACK}.") from error
