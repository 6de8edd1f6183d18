import numpy as np
import pytest

from erkeras.data import load_dataset
from erkeras.evaluation import Sample
from erkeras.evaluation.sample import fitting_and_test_sets


@pytest.fixture(scope="module")
def dataset():
    return load_dataset("digits")


@pytest.mark.parametrize("seed", [0, 1])
def test_sets_are_disjoint_and_whole(dataset, seed):
    fitting, testing = fitting_and_test_sets(dataset.test, seed)
    assert (len(fitting), len(testing)) == (72, 288)
    assert not set(fitting.indices) & set(testing.indices)
    assert set(fitting.indices) | set(testing.indices) == set(dataset.test.indices)
    other = fitting_and_test_sets(dataset.test, seed + 1)[0]
    assert set(other.indices) != set(fitting.indices)


def test_a_sample_is_drawn_by_its_seed(dataset):
    first, again, other = (Sample("digits", "validation", 50, seed).load() for seed in (3, 3, 4))
    np.testing.assert_array_equal(first.indices, again.indices)
    assert set(first.indices) <= set(dataset.validation.indices)
    assert set(first.indices) != set(other.indices)
    assert len(Sample("digits", limit=None).load(dataset)) == 360


def test_a_part_is_the_beginning_of_set_i_or_ii(dataset):
    for part, whole in zip(("I", "II"), fitting_and_test_sets(dataset.test, 5), strict=True):
        found = Sample("digits", limit=20, seed=5, part=part).load(dataset)
        np.testing.assert_array_equal(found.indices, whole.indices[:20])
        assert len(Sample("digits", limit=None, seed=5, part=part).load(dataset)) == len(whole)
