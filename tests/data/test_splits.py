"""Which splits a source has, and what is carved where it lacks them."""

import numpy as np
import pytest

from erkeras.data.dataset import carve, whole
from erkeras.data.splits import complete, find_splits
from erkeras.errors import InputError

CLASSES = ("a", "b")


def part(count, value):
    return whole(np.full((count, 2, 2, 1), value, np.uint8), np.arange(count) % 2)


@pytest.mark.parametrize("validation", ["validation", "val", "valid"])
def test_a_split_has_one_of_its_names(validation):
    found = find_splits(["test", "extra", validation, "train"], "some")
    assert list(found.items()) == [("train", "train"), ("validation", validation), ("test", "test")]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["train", "val", "validation"], "some has the splits validation and val: keep one"),
        (["train", "valid", "val"], "some has the splits val and valid: keep one"),
        (["test", "extra"], "some has the splits test, extra: give a set with a split train"),
        ([], "some has the splits none: give"),
    ],
)
def test_splits_that_do_not_tell_what_to_train_on(names, message):
    with pytest.raises(InputError, match=message):
        find_splits(names, "some")


def test_what_the_source_has_is_kept():
    parts = {"train": part(6, 1), "validation": part(4, 2), "test": part(2, 3)}
    dataset = complete("some", parts, CLASSES)
    assert (dataset.train, dataset.validation, dataset.test) == tuple(parts.values())


def test_a_tenth_of_the_training_images_validates_where_test_images_are_there():
    dataset = complete("some", {"train": part(60, 1), "test": part(2, 3)}, CLASSES)
    assert len(dataset.validation) == 6
    assert dataset.validation.digest == carve(part(60, 1), 1 / 10, "some")[1].digest
    assert complete("some", {"train": part(60, 1), "test": part(2, 3)}, CLASSES, 1 / 5).validation.labels.size == 12


def test_validation_images_are_test_images_where_there_are_no_others():
    """Nothing may be chosen on the images that are reported."""
    dataset = complete("some", {"train": part(60, 1), "validation": part(4, 2)}, CLASSES)
    assert dataset.test.pixels.max() == dataset.test.pixels.min() == 2
    assert dataset.validation.pixels.max() == 1
    assert [len(dataset.train), len(dataset.validation), len(dataset.test)] == [54, 6, 4]


def test_training_images_alone_give_a_fifth_and_a_fifth_of_the_rest():
    dataset = complete("some", {"train": part(100, 1)}, CLASSES)
    assert [len(dataset.train), len(dataset.validation), len(dataset.test)] == [64, 16, 20]
    indices = np.concatenate([dataset.train.indices, dataset.validation.indices, dataset.test.indices])
    assert sorted(indices) == list(range(100))


def test_too_few_images_to_carve_from():
    with pytest.raises(InputError, match="some has 6 images in 2 classes, the smallest of 3: give enough to split"):
        complete("some", {"train": part(6, 1), "test": part(2, 3)}, CLASSES)
