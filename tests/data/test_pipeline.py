import numpy as np
import pytest
import tensorflow as tf

from erkeras.data import Split, load_dataset, training_batches
from erkeras.data.pipeline import crop_and_flip, cut_out, draw_augmentation, draw_cutout


def batches(split, count, **arguments):
    return [labels.numpy().tolist() for _, labels in training_batches(split, 64, **arguments).take(count)]


def test_resuming_at_an_epoch_gives_the_batches_of_that_epoch():
    train = load_dataset("digits").train
    steps = len(train) // 64
    straight = batches(train, 3 * steps, seed=1)
    assert batches(train, steps, seed=1, first_epoch=2) == straight[2 * steps :]
    assert straight[:steps] != straight[steps : 2 * steps]
    assert batches(train, steps, seed=2) != straight[:steps]


def test_an_epoch_has_every_image_at_most_once():
    train = load_dataset("digits").train
    seen = np.concatenate([images.numpy() for images, _ in training_batches(train, 64, seed=0).take(17)])
    assert len(seen) == 1088
    # The last, smaller batch of 61 is dropped.
    assert len(np.unique(seen.reshape(1088, -1), axis=0)) >= len(np.unique(train.images.reshape(-1, 64), axis=0)) - 61


def test_bytes_become_floats():
    train = load_dataset("digits").train
    split = type(train)((train.images * 255).astype(np.uint8), train.labels, train.indices)
    images, labels = next(iter(training_batches(split, 8, seed=0)))
    assert images.dtype == np.float32
    assert 0.9 < images.numpy().max() <= 1
    assert labels.dtype == np.int32


def slow_crop_and_flip(image, down, right, mirrored):
    """A crop of the image in a frame of zeros."""
    height, width, channels = image.shape
    top, left = height // 8, width // 8
    frame = np.zeros((height + 2 * top, width + 2 * left, channels), image.dtype)
    frame[top : top + height, left : left + width] = image
    crop = frame[top - down : top - down + height, left - right : left - right + width]
    return crop[:, ::-1] if mirrored else crop


def numbered_split(count, shape, dtype=np.uint8, first=0):
    """Random images, each labelled by its row; original indices from `first`, in another order."""
    random = np.random.RandomState(0)
    pixels = random.randint(1, 256, (count, *shape)).astype(np.uint8)
    if dtype == np.float32:
        pixels = pixels.astype(np.float32) / 255
    indices = first + np.random.RandomState(1).permutation(count)
    return Split(pixels, np.arange(count, dtype=np.int32), indices.astype(np.int64))


def augmented_epoch(split, batch_size, seed=0, epoch=0, augment=True, cutout=0.0):
    """label -> image, of the whole batches of an epoch."""
    found = training_batches(split, batch_size, seed, epoch, augment, cutout).take(len(split) // batch_size)
    return {int(label): image.numpy() for images, labels in found for image, label in zip(images, labels, strict=True)}


@pytest.mark.parametrize(
    ("shape", "dtype"), [((32, 32, 3), np.uint8), ((16, 27, 1), np.float32), ((96, 96, 3), np.uint8)]
)
def test_augmentation_is_a_slow_crop_and_flip_by_the_drawn_numbers(shape, dtype):
    split = numbered_split(24, shape, dtype)
    found = augmented_epoch(split, 8, seed=5, epoch=3)
    draws = [drawn.numpy() for drawn in draw_augmentation((24, *shape), 5, 3, split.indices)]
    assert sorted(found) == list(range(24))
    for label, image in found.items():
        expected = slow_crop_and_flip(split.images[label], *(drawn[label] for drawn in draws))
        assert image.dtype == np.float32
        np.testing.assert_allclose(image, expected, atol=1e-6)


def test_augmentation_ignores_batch_size_and_neighbours():
    split = numbered_split(24, (16, 16, 3), first=1000)
    large, small = augmented_epoch(split, 12, seed=1), augmented_epoch(split, 3, seed=1)
    part = augmented_epoch(split.take(np.arange(5, 17)), 4, seed=1)
    for label, image in {**small, **part}.items():
        np.testing.assert_array_equal(image, large[label])


def test_augmentation_differs_between_epochs_and_seeds():
    split = numbered_split(24, (16, 16, 3))
    first = augmented_epoch(split, 8)
    for other in (augmented_epoch(split, 8, epoch=1), augmented_epoch(split, 8, seed=1)):
        # Two draws of 5 x 5 shifts and two sides agree by chance once in fifty.
        assert sum(np.array_equal(first[label], other[label]) for label in first) < 6


def test_resumed_augmentation_is_that_of_its_epoch():
    split = numbered_split(12, (16, 16, 3))
    straight = [images.numpy() for images, _ in training_batches(split, 4, 2, augment=True).take(9)]
    resumed = [images.numpy() for images, _ in training_batches(split, 4, 2, 2, augment=True).take(3)]
    np.testing.assert_array_equal(resumed, straight[6:])
    again = [images.numpy() for images, _ in training_batches(split, 4, 2, augment=True).take(9)]
    np.testing.assert_array_equal(again, straight)


def test_shifts_and_flips_are_uniform_and_independent():
    """The counts of 20,000 draws, against five standard errors."""
    count = 20_000
    down, right, mirrored = (
        drawn.numpy() for drawn in draw_augmentation((count, 32, 64, 3), 0, 7, np.arange(count, dtype=np.int64))
    )
    assert (down.min(), down.max(), right.min(), right.max()) == (-4, 4, -8, 8)
    cells = np.zeros((9, 17, 2))
    np.add.at(cells, (down + 4, right + 8, mirrored.astype(int)), 1)
    for axes, fraction in (((1, 2), 1 / 9), ((0, 2), 1 / 17), ((0, 1), 1 / 2), ((), 1 / cells.size)):
        error = np.sqrt(count * fraction * (1 - fraction))
        np.testing.assert_allclose(cells.sum(axis=axes), count * fraction, atol=5 * error)


def test_shift_goes_down_and_to_the_right():
    image = np.zeros((1, 16, 16, 1), np.uint8)
    image[0, 8, 8] = 200
    for mirrored, column in ((False, 9), (True, 6)):
        moved = crop_and_flip(tf.constant(image), *(tf.constant([value]) for value in (-2, 1, mirrored))).numpy()
        assert moved.dtype == np.uint8
        assert np.argwhere(moved[0, ..., 0]).tolist() == [[6, column]]


def slow_cut_out(image, row, column, height, width):
    """A grey rectangle about a centre, pixel by pixel."""
    found = image.copy()
    for place in np.ndindex(image.shape[:2]):
        down, right = place[0] - (row - height // 2), place[1] - (column - width // 2)
        if 0 <= down < height and 0 <= right < width:
            found[place] = 0.5
    return found


@pytest.mark.parametrize(
    ("shape", "dtype", "fraction", "sides"),
    [
        ((32, 32, 3), np.uint8, 0.5, (16, 16)),
        ((16, 27, 1), np.float32, 0.2, (3, 5)),
        ((8, 8, 1), np.uint8, 0.01, (1, 1)),
    ],
)
def test_cutout_is_a_slow_one_by_the_drawn_numbers(shape, dtype, fraction, sides):
    split = numbered_split(24, shape, dtype)
    found = augmented_epoch(split, 8, seed=5, epoch=3, augment=False, cutout=fraction)
    rows, columns = (drawn.numpy() for drawn in draw_cutout((24, *shape), 5, 3, split.indices))
    assert sorted(found) == list(range(24))
    for label, image in found.items():
        assert image.dtype == np.float32
        expected = slow_cut_out(split.images[label], rows[label], columns[label], *sides)
        np.testing.assert_allclose(image, expected, atol=1e-6)


def test_cutout_comes_behind_the_crop_and_changes_none_of_its_numbers():
    split = numbered_split(24, (16, 16, 3))
    plain, cut = augmented_epoch(split, 8), augmented_epoch(split, 8, cutout=0.25)
    for label, image in cut.items():
        grey = np.isclose(image, 0.5).all(axis=-1)
        assert 4 <= grey.sum() <= 16  # a part of 4 x 4 may lie outside
        np.testing.assert_array_equal(image[~grey], plain[label][~grey])


def test_cutout_ignores_batches_and_differs_between_epochs_and_seeds():
    split = numbered_split(24, (16, 16, 3), first=1000)
    large, small = (augmented_epoch(split, size, 1, cutout=0.5) for size in (12, 3))
    for label, image in small.items():
        np.testing.assert_array_equal(image, large[label])
    draws = [
        np.stack([drawn.numpy() for drawn in draw_cutout((24, 16, 16, 3), seed, epoch, split.indices)])
        for seed, epoch in ((1, 0), (1, 1), (2, 0))
    ]
    for other in draws[1:]:
        assert np.all(draws[0] == other, axis=0).sum() < 4


def test_centres_are_uniform_over_the_image():
    """The counts of 20,000 draws, against five standard errors."""
    count = 20_000
    row, column = draw_cutout((count, 8, 16, 3), 0, 7, np.arange(count, dtype=np.int64))
    cells = np.zeros((8, 16))
    np.add.at(cells, (row.numpy(), column.numpy()), 1)
    for axis, fraction in ((1, 1 / 8), (0, 1 / 16), ((), 1 / 128)):
        error = np.sqrt(count * fraction * (1 - fraction))
        np.testing.assert_allclose(cells.sum(axis=axis), count * fraction, atol=5 * error)


def test_a_rectangle_at_a_corner_is_cut_short():
    image = tf.ones([1, 8, 8, 2])
    found = cut_out(image, tf.constant([0]), tf.constant([7]), fraction=0.5).numpy()
    assert np.argwhere(found[0, ..., 0] == 0.5).tolist() == [[row, column] for row in (0, 1) for column in (5, 6, 7)]
