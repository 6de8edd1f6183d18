"""Files of arrays that have splits of their own, as keras.datasets has them."""

import numpy as np
import pytest

from erkeras.data import check_dataset, load_dataset
from erkeras.errors import InputError
from helpers.prepared import numbered


def saved(tmp_path, **arrays):
    np.savez(tmp_path / "set.npz", **arrays)
    return f"npz:{tmp_path / 'set.npz'}"


def pair(split, count, first=0, classes=3, shape=(6, 5)):
    """Arrays of one split, as MNIST's: without an axis of channels."""
    images, labels = numbered(count, classes, (*shape, 1), first)
    return {f"x_{split}": images[..., 0], f"y_{split}": labels.astype(np.uint8)}


def values(split):
    return split.pixels[:, 0, 0, 0].tolist()


def test_training_and_test_images_as_mnist_has_them(tmp_path):
    name = saved(tmp_path, **pair("train", 60), **pair("test", 12, 200))
    assert check_dataset(name) == (6, 5, 1)
    dataset = load_dataset(name)
    assert values(dataset.test) == list(range(200, 212))
    assert dataset.test.indices.tolist() == list(range(12))
    assert np.bincount(dataset.validation.labels).tolist() == [2, 2, 2]
    assert sorted(values(dataset.train) + values(dataset.validation)) == list(range(60))
    assert values(dataset.validation) == dataset.validation.indices.tolist()
    assert dataset.class_names == ("0", "1", "2")
    assert dataset.train.pixels.dtype == np.uint8


def test_training_and_test_images_as_cifar10_has_them(tmp_path):
    images, labels = numbered(40, 2, (6, 5, 3))
    arrays = {"x_train": images, "y_train": labels[:, None], "x_test": images[:4], "y_test": labels[:4, None]}
    dataset = load_dataset(saved(tmp_path, **arrays))
    assert dataset.image_shape == (6, 5, 3)
    assert dataset.test.labels.tolist() == [0, 1, 0, 1]


@pytest.mark.parametrize("called", ["val", "valid", "validation"])
def test_validation_images_are_kept(tmp_path, called):
    arrays = {**pair("train", 9), **pair(called, 6, 100), **pair("test", 3, 200)}
    dataset = load_dataset(saved(tmp_path, **arrays))
    assert values(dataset.train) == list(range(9))
    assert values(dataset.validation) == list(range(100, 106))
    assert values(dataset.test) == list(range(200, 203))


def test_without_test_images_the_validation_images_are_for_reporting(tmp_path):
    dataset = load_dataset(saved(tmp_path, **pair("train", 60), **pair("val", 6, 100)))
    assert values(dataset.test) == list(range(100, 106))
    assert [len(dataset.train), len(dataset.validation)] == [54, 6]


def test_training_images_alone_are_split_as_images_are(tmp_path):
    arrays = pair("train", 60)
    alone = load_dataset(saved(tmp_path, **arrays))
    images = load_dataset(saved(tmp_path, images=arrays["x_train"], labels=arrays["y_train"]))
    for split in ("train", "validation", "test"):
        assert getattr(alone, split).digest == getattr(images, split).digest


def test_splits_may_be_of_different_types(tmp_path):
    train, test = pair("train", 60), pair("test", 6)
    test["x_test"] = (test["x_test"] / 255).astype(np.float32)[..., None]
    dataset = load_dataset(saved(tmp_path, **train, **test))
    np.testing.assert_allclose(
        dataset.test.images, np.broadcast_to(np.arange(6)[:, None, None, None] / 255, (6, 6, 5, 1))
    )


def test_a_class_may_lack_images_to_report_on(tmp_path):
    dataset = load_dataset(saved(tmp_path, **pair("train", 60), **pair("test", 2)))
    assert dataset.test.labels.tolist() == [0, 1]
    assert dataset.classes == 3


TRAIN, TEST = pair("train", 60), pair("test", 12)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({**TRAIN, "images": TRAIN["x_train"]}, r"has images and arrays of splits, as x_train: give images and labels"),
        ({**TEST, "labels": TRAIN["y_train"]}, r"has labels and arrays of splits, as x_test: give"),
        ({"x_train": TRAIN["x_train"]}, "has x_train without y_train: give both, or neither"),
        ({**TRAIN, "y_test": TEST["y_test"]}, "has y_test without x_test: give both"),
        ({**TRAIN, **TEST, "x_val": TEST["x_test"]}, "has x_val without y_val: give both"),
        (TEST, "has the splits test: give a set with a split train"),
        ({**TRAIN, **pair("val", 3), **pair("validation", 3)}, "has the splits validation and val: keep one"),
        (
            {**TRAIN, **pair("test", 6, shape=(6, 6))},
            "has images of 6 x 5 x 1 in x_train and of 6 x 6 x 1 in x_test: give images of one size",
        ),
        ({**TRAIN, **pair("test", 6, classes=5)}, "has the label 4 in y_test, and y_train goes to 2: give training"),
        ({**pair("train", 60), "y_train": TRAIN["y_train"] + 1}, "has 3 classes with y_train from 1 to 3: give two"),
        ({**TRAIN, **TEST, "y_test": TEST["y_test"][:4]}, r"y_test of type uint8 and shape \(4,\) for 12 images"),
        ({**TRAIN, **TEST, "y_test": TEST["y_test"] - 1.0}, "y_test of type float64"),
        ({**TRAIN, **TEST, "y_test": TEST["y_test"].astype(int) - 1}, "y_test of type int64 .* 0 or more"),
        (
            {**TRAIN, **TEST, "x_test": TEST["x_test"] * 1.0},
            r"the pixels of x_test of .* from 0 to 11, outside \[0, 1\]",
        ),
        ({**TRAIN, "x_test": TEST["x_test"][:0], "y_test": TEST["y_test"][:0]}, r"x_test of .* shape \(0, 6, 5, 1\)"),
        ({"x_more": TRAIN["x_train"]}, "has the arrays x_more: give .* images, labels, or x_train, y_train, x_test"),
    ],
)
def test_arrays_that_do_not_fit_together(tmp_path, arrays, message):
    name = saved(tmp_path, **arrays)
    for look in (check_dataset, load_dataset):
        with pytest.raises(InputError, match=message) as caught:
            look(name)
        assert len(str(caught.value).splitlines()) == 1


def test_no_array_of_a_split_asks_for_more_memory_than_its_file_may(tmp_path):
    images = np.zeros((300_000, 16, 16), np.uint8)
    np.savez_compressed(tmp_path / "set.npz", **TRAIN, x_test=images, y_test=np.zeros(len(images), np.uint8))
    with pytest.raises(InputError, match="says that its array x_test has 76,800,128 bytes, packed into"):
        check_dataset(f"npz:{tmp_path / 'set.npz'}")
