import numpy as np
import pytest

from erkeras.pixels import as_floats, as_images, as_pixels
from erkeras.stored import StoredPixels


class Numbered:
    """Ten images, each of its number; it remembers which were read."""

    image_shape = (2, 3, 1)

    def __init__(self):
        self.read_rows = []

    def read(self, rows):
        self.read_rows += rows.tolist()
        return np.broadcast_to(rows.astype(np.uint8)[:, None, None, None], (len(rows), 2, 3, 1)).copy()


@pytest.fixture
def source():
    return Numbered()


@pytest.fixture
def stored(source):
    return StoredPixels(source, np.arange(10)[::-1])


def test_it_looks_like_an_array_and_reads_what_is_asked_for(source, stored):
    assert (stored.shape, len(stored), stored.ndim, stored.dtype) == ((10, 2, 3, 1), 10, 4, np.uint8)
    assert source.read_rows == []
    assert stored[2:4][:, 0, 0, 0].tolist() == [7, 6]
    assert stored[[0, -1]][:, 0, 0, 0].tolist() == [9, 0]
    assert stored[np.arange(10) > 8][:, 0, 0, 0].tolist() == [0]
    assert source.read_rows == [7, 6, 9, 0, 0]


def test_a_part_reads_nothing_until_it_is_asked(source, stored):
    part = stored.take(np.array([1, 3])).take(slice(1, None))
    assert part.shape == (1, 2, 3, 1)
    assert source.read_rows == []
    assert np.asarray(part)[:, 0, 0, 0].tolist() == [6]


def test_it_stays_stored_as_pixels_and_is_read_as_floats(source, stored):
    assert as_pixels(stored) is stored
    assert source.read_rows == []
    found = as_images(stored)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, as_floats(np.asarray(stored)))
    np.testing.assert_array_equal(found[:, 1, 2, 0], np.arange(10)[::-1].astype(np.float32) / np.float32(255))


def test_it_keeps_what_went_wrong():
    class Broken(Numbered):
        def read(self, rows):
            raise OSError("gone")

    stored = StoredPixels(Broken(), np.arange(3))
    with pytest.raises(OSError, match="gone"):
        stored.read_in_graph(np.array([0]))
    assert str(stored.failure) == "gone"
