"""Splits: those that a source has, and those that are carved where it lacks them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from erkeras.data.dataset import Dataset, Split, carve
from erkeras.errors import InputError

#: What a source may call a split -> the split.
SPLIT_NAMES = {
    "train": "train",
    "validation": "validation",
    "val": "validation",
    "valid": "validation",
    "test": "test",
}


def find_splits(names: Iterable[str], source: object) -> dict[str, str]:
    """Finds which part of a source is which split; parts of other names are none.

    Args:
        names: of the parts.
        source: what the source is called in an error.

    Returns:
        Split -> what the source calls it: "train" and, where they are there, "validation" and "test", in this order.

    Raises:
        InputError: for two validation splits, and for none to train on.
    """
    names = list(names)
    found: dict[str, str] = {}
    for name, split in SPLIT_NAMES.items():
        if name not in names:
            continue
        if split in found:
            raise InputError(f"{source} has the splits {found[split]} and {name}: keep one of them for validation.")
        found[split] = name
    if "train" not in found:
        listed = ", ".join(names[:10]) or "none"
        raise InputError(f"{source} has the splits {listed[:200]}: give a set with a split train, to train on.")
    return found


def complete(
    name: str, parts: Mapping[str, Split], class_names: tuple[str, ...], validation_fraction: float = 1 / 10
) -> Dataset:
    """Makes a data set of the splits that a source has, and carves the missing ones from its training images.

    Without test images the source's validation images become the test images, as they do for Tiny ImageNet: test
    images are for reporting, and nothing is chosen on them. Without both, a fifth of the images are test images.

    Args:
        name: as `load_dataset` takes it.
        parts: "train" and, where they are there, "validation" and "test".
        class_names: one for each label.
        validation_fraction: of the training images, carved where the source has test images and no others to
            validate on. Where the test images are carved, it is a fifth.

    Raises:
        InputError: where there are too few images to carve from.
    """
    train, validation, test = parts["train"], parts.get("validation"), parts.get("test")
    if test is None:
        test, validation = validation, None
    if test is None:
        validation_fraction = 1 / 5
        train, test = carve(train, 1 / 5, name)
    if validation is None:
        train, validation = carve(train, validation_fraction, name)
    return Dataset(name, train, validation, test, class_names)
