"""Images and labels of every kind that somebody may have."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from erkeras.errors import InputError
from erkeras.pixels import as_floats, as_images, as_images_in_graph, as_labels, as_pixels

FLOATS = np.random.default_rng(0).uniform(size=(5, 4, 4, 1)).astype(np.float32)
BYTES = np.arange(80).reshape(5, 4, 4, 1).astype(np.uint8) * 3


def test_floats_within_the_bounds_are_the_same_array():
    assert as_images(FLOATS) is FLOATS


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int64])
def test_whole_numbers_are_0_to_255(dtype):
    found = as_images(BYTES.astype(dtype))
    np.testing.assert_array_equal(found, BYTES / np.float32(255))
    assert found.dtype == np.float32


def test_bytes_stay_bytes_until_they_are_cast():
    pixels = as_pixels(BYTES)
    assert pixels is BYTES
    np.testing.assert_array_equal(as_floats(pixels[:2]), as_images(BYTES[:2]))


@pytest.mark.parametrize("highest", [1.0001, 1.003, 1.01])
def test_floats_that_overshoot_a_little_are_clipped_and_not_divided(highest):
    images = FLOATS.copy()
    images[0, 0, 0, 0], images[0, 1, 0, 0] = highest, 1 - highest
    found = as_images(images)
    np.testing.assert_array_equal(found, np.clip(images, 0, 1))
    np.testing.assert_array_equal(as_images_in_graph(tf.constant(images)), found)
    assert images.max() > 1  # what was given is not written to


def test_a_bicubic_resize_may_overshoot():
    images = (FLOATS > 0.5).astype(np.float32) * 0.9 + 0.05
    large = keras.ops.convert_to_numpy(keras.ops.image.resize(images, (8, 8), interpolation="bicubic"))
    large = 0.5 + (large - 0.5) * 0.505 / np.abs(large - 0.5).max()  # to 1.005
    assert large.max() > 1 or large.min() < 0
    assert as_images(large).std() > 0.05


@pytest.mark.parametrize(
    "values", [FLOATS.astype(np.float64), FLOATS.astype(np.float16), FLOATS > 0.5, FLOATS.tolist(), tf.constant(FLOATS)]
)
def test_other_arrays_of_numbers_are_taken(values):
    found = as_images(values)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, np.asarray(values, np.float32))


def test_bfloat16_is_taken():
    found = as_images(tf.cast(FLOATS, tf.bfloat16))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, FLOATS, atol=0.01)


def test_no_image_is_an_array_too():
    assert as_images(FLOATS[:0]).shape == (0, 4, 4, 1)
    assert as_images(np.zeros((0, 4, 4, 1), int)).shape == (0, 4, 4, 1)


def with_value(value):
    images = FLOATS.copy()
    images[1, 2, 3, 0] = value
    return images


@pytest.mark.parametrize(
    ("pixels", "message"),
    [
        (with_value(np.nan), r"\(float32, shape \(5, 4, 4, 1\)\) have 1 values that are not numbers .* leave"),
        (with_value(np.inf), "not numbers"),
        (with_value(1.02), r"to 1\.02, outside \[0, 1\]: scale"),
        (FLOATS * 255, r"outside \[0, 1\]: divide the images by 255, or give them as uint8"),
        (FLOATS * 2 - 1, r"outside \[0, 1\]: scale the images as \(images \+ 1\) / 2"),
        (BYTES.astype(int) * 2, "go from 0 to 474: give whole numbers in 0..255"),
        (BYTES.astype(int) - 1, "go from -1 to 236"),
        ((FLOATS > 0.5).astype(int), "black and white or nearly black"),
        (FLOATS[0], r"shape \(4, 4, 1\): give \[n, height, width, channels\]"),
        (FLOATS[..., 0], r"shape \(5, 4, 4\)"),
        ([[1.0], [1.0, 2.0]], "are no array"),
        (np.array(["a"]), "of type <U1: give an array of numbers"),
        (None, "of type object"),
    ],
)
def test_what_is_no_image_is_refused_in_one_sentence(pixels, message):
    with pytest.raises(InputError, match=message) as caught:
        as_images(pixels, "file.npz")
    assert "file.npz" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert str(caught.value).endswith(".")


def test_other_bounds_take_numbers_as_they_are():
    np.testing.assert_array_equal(as_images(BYTES, upper=255), BYTES.astype(np.float32))
    assert as_images(FLOATS * 2 - 1, lower=-1).min() < 0
    assert as_images(FLOATS * 0 + 256, upper=255).max() == 255
    with pytest.raises(InputError, match=r"outside \[0, 255\]: scale the images"):
        as_images(FLOATS * 0 + 300, upper=255)


def test_a_graph_checks_when_it_runs():
    function = tf.function(as_images_in_graph, autograph=False)
    np.testing.assert_array_equal(function(tf.constant(FLOATS)), FLOATS)
    np.testing.assert_allclose(function(tf.constant(BYTES)), as_images(BYTES), rtol=1e-6)
    for images in (with_value(np.nan), with_value(np.inf), FLOATS * 255):
        with pytest.raises(tf.errors.InvalidArgumentError, match=r"outside \[0, 1\] or not numbers"):
            function(tf.constant(images))
    with pytest.raises(InputError, match="are int32"):
        as_images_in_graph(tf.constant(BYTES.astype(np.int32)))
    with pytest.raises(InputError, match="shape"):
        as_images_in_graph(tf.constant(FLOATS[0]))


@pytest.mark.parametrize("labels", [[0, 1, 2], [[0], [1], [2]], np.array([0.0, 1.0, 2.0]), np.array([0, 1, 2], "u1")])
def test_labels_are_whole_numbers(labels):
    found = as_labels(labels)
    np.testing.assert_array_equal(found, [0, 1, 2])
    assert found.dtype == np.int32


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.eye(3), r"shape \(3, 3\): give one integer for each image, \[n\], as labels.argmax\(axis=1\)"),
        ([0.5, 1.0], "not whole"),
        ([np.nan], "not whole"),
        (["cat"], "^the labels are of type <U3: give an array of numbers"),
        (None, "^the labels are of type object: give an array of numbers"),
        ([[0], [1, 2]], "^the labels are no array"),
    ],
)
def test_other_labels_are_refused(labels, message):
    with pytest.raises(InputError, match=message):
        as_labels(labels)
