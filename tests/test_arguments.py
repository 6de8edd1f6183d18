import numpy as np
import pytest

from erkeras.arguments import check_counts
from erkeras.errors import InputError


@pytest.mark.parametrize("value", [1, 40, np.int64(3), np.uint8(1), 10**30])
def test_whole_numbers_of_1_or_more_are_counts(value):
    check_counts("X", steps=value)


@pytest.mark.parametrize("value", [0, -1, 1.0, 2.5, True, False, None, "3", float("nan"), np.float32(2), np.int64(0)])
def test_anything_else_is_none_and_is_quoted(value):
    with pytest.raises(InputError) as refused:
        check_counts("X", steps=value)
    assert str(refused.value) == f"X's steps is {value!r}: give a whole number of 1 or more."


def test_the_first_that_is_none_is_named():
    with pytest.raises(InputError, match="PGD's restarts is 0"):
        check_counts("PGD", steps=3, restarts=0, targets=-1)


def test_nothing_to_check_is_no_error():
    check_counts("X")
