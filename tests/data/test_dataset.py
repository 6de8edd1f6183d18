import subprocess
import sys

import numpy as np
import pytest

from erkeras.data import Dataset, Split
from erkeras.data.dataset import carve, whole
from erkeras.errors import InputError


def split_of(count, dtype=np.uint8):
    """Grey images of 2 x 3 pixels that tell their own place, of three classes in turn."""
    pixels = np.arange(count * 6).reshape(count, 2, 3, 1)
    return Split(pixels.astype(dtype), np.arange(count, dtype=np.int32) % 3, 100 + np.arange(count, dtype=np.int64))


def same(first, second):
    for name in ("pixels", "labels", "indices"):
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name))


def test_images_are_floats_from_0_to_1_whatever_the_pixels_are():
    of_bytes = split_of(40)
    np.testing.assert_allclose(of_bytes.images, of_bytes.pixels / 255, rtol=1e-6)
    floats = np.random.default_rng(0).uniform(size=(3, 2, 2, 1)).astype(np.float32)
    of_floats = Split(floats, np.zeros(3, np.int32), np.arange(3))
    np.testing.assert_array_equal(of_floats.images, floats)
    assert {of_bytes.images.dtype, of_floats.images.dtype} == {np.dtype(np.float32)}


def test_taken_images_keep_their_labels_and_original_indices():
    split, rows = split_of(10), np.array([7, 2, 2])
    taken = split.take(rows)
    assert len(taken) == 3
    same(taken, Split(split.pixels[rows], np.array([1, 2, 2]), np.array([107, 102, 102])))


def test_a_smaller_sample_is_part_of_a_larger_one():
    split = split_of(40)
    small, large = split.sample(10, seed=3), split.sample(30, seed=3)
    same(large.take(np.arange(10)), small)
    assert len(set(large.indices.tolist())) == 30
    np.testing.assert_array_equal(small.pixels, split.pixels[small.indices - 100])
    same(split.sample(10, seed=3), small)
    assert split.sample(10, seed=4).indices.tolist() != small.indices.tolist()


@pytest.mark.parametrize("limit", [None, 40, 41])
def test_a_sample_of_all_is_the_split_as_it_is(limit):
    split = split_of(40)
    same(split.sample(limit, seed=3), split)


def test_a_sample_is_the_same_on_every_machine_and_for_good():
    """Results of long ago are on these images."""
    assert split_of(40).sample(6, seed=0).indices.tolist() == [122, 120, 125, 104, 110, 115]


def test_a_data_set_knows_its_images_and_classes():
    dataset = Dataset("some", split_of(9), split_of(3), split_of(3), ("a", "b", "c"))
    assert dataset.image_shape == (2, 3, 1)
    assert dataset.classes == 3


def test_the_whole_of_a_source_is_numbered_in_its_order():
    found = whole(np.zeros((4, 2, 2, 1), np.uint8), [3, 1, 2, 0])
    assert found.labels.dtype == np.int32
    assert found.labels.tolist() == [3, 1, 2, 0]
    assert found.indices.dtype == np.int64
    assert found.indices.tolist() == [0, 1, 2, 3]


def test_a_carved_fraction_has_the_same_mix_of_classes_and_both_keep_their_order():
    split = split_of(90)
    rest, carved = carve(split, 0.2, "some")
    assert (len(rest), len(carved)) == (72, 18)
    for part in (rest, carved):
        assert np.all(np.diff(part.indices) > 0)
        assert np.bincount(part.labels).tolist() == [len(part) // 3] * 3
        same(part, split.take(part.indices - 100))
    assert sorted([*rest.indices, *carved.indices]) == split.indices.tolist()
    same(carve(split, 0.2, "some")[1], carved)


def test_too_few_images_of_a_class_are_refused():
    with pytest.raises(InputError, match="some has 4 images in 3 classes, the smallest of 1: give enough to split"):
        carve(split_of(4), 0.5, "some")


def test_data_sets_need_nothing_of_the_package_but_its_ground_floor():
    program = """
import sys
from erkeras.data import check_dataset, load_dataset
import erkeras.data.tiny_imagenet
load_dataset("digits")
ground = ("errors", "files", "pixels", "processors", "randomness", "registration", "stored", "versions")
known = {"erkeras", "erkeras.data", *(f"erkeras.{name}" for name in ground)}
loaded = {name for name in sys.modules if name.startswith("erkeras")}
print(sorted(name for name in loaded - known if not name.startswith("erkeras.data.")))
print("tensorflow.python" in sys.modules)
"""
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert found.stdout.splitlines() == ["[]", "False"]
