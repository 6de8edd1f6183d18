"""What became of each image, joined part by part."""

import dataclasses

import numpy as np
import pytest

from erkeras.evaluation import Examples
from erkeras.evaluation.examples import STANDING, UNANSWERED, WRONG_WHEN_CLEAN

FIELDS = [field.name for field in dataclasses.fields(Examples)]


def part(start, count):
    rows = np.arange(start, start + count)
    return Examples(
        indices=rows + 100,
        labels=(rows % 3).astype(np.int32),
        clean_predictions=(rows % 2).astype(np.int32),
        broken_by=np.where(rows % 2, STANDING, 0).astype(np.int32),
        predictions=(rows % 5).astype(np.int32),
        distance=(rows / 10).astype(np.float32),
        queries=np.stack([rows, 2 * rows], axis=1),
        gradients=np.stack([3 * rows, 4 * rows], axis=1),
        images=np.broadcast_to(rows[:, None, None, None], (count, 2, 2, 1)).astype(np.float32),
    )


def test_what_records_on_disk_call_the_fates_of_images():
    assert (STANDING, WRONG_WHEN_CLEAN, UNANSWERED) == (-1, -2, -3)


def test_joined_parts_are_the_whole_in_their_order():
    whole, joined = part(0, 9), Examples.join([part(0, 4), part(4, 0), part(4, 5)])
    assert len(joined) == 9
    for name in FIELDS:
        np.testing.assert_array_equal(getattr(joined, name), getattr(whole, name), err_msg=name)
        assert getattr(joined, name).dtype == getattr(whole, name).dtype


def test_a_part_joined_with_nothing_is_itself():
    for name in FIELDS:
        np.testing.assert_array_equal(getattr(Examples.join([part(3, 2)]), name), getattr(part(3, 2), name))


def test_the_order_of_parts_is_the_order_of_images():
    assert Examples.join([part(5, 2), part(0, 1)]).indices.tolist() == [105, 106, 100]


def test_it_cannot_be_changed_in_part():
    with pytest.raises(dataclasses.FrozenInstanceError):
        part(0, 2).labels = np.zeros(2)


def test_the_words_for_no_attack_are_no_numbers_of_attacks():
    assert STANDING < 0 > WRONG_WHEN_CLEAN
    assert STANDING != WRONG_WHEN_CLEAN
