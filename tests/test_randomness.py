import numpy as np
import pytest
import tensorflow as tf
from scipy import stats

from erkeras import randomness

ROWS, NUMBERS = 64, 4096
WORD = (1 << 64) - 1


@pytest.fixture(scope="module")
def keys():
    """Of one seed and the images 0 to 63."""
    return randomness.row_keys(tf.stack([tf.zeros(ROWS, tf.int64), tf.range(ROWS, dtype=tf.int64)], axis=1))


def splitmix64(state):
    """SplitMix64's finalizer (Stafford's variant 13) in Python's integers."""
    state = (state ^ (state >> 30)) * 0xBF58476D1CE4E5B9 & WORD
    state = (state ^ (state >> 27)) * 0x94D049BB133111EB & WORD
    return state ^ (state >> 31)


def signed(word):
    return word - (1 << 64) if word >> 63 else word


def plain_fold_in(key, number):
    return splitmix64(key + 0x9E3779B97F4A7C15 * (number + 1) & WORD)


def test_is_the_published_generator():
    """The first outputs of SplitMix64 seeded with 1234567, as published with its reference code."""
    published = [6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431]
    found = randomness.fold_in(tf.constant([1234567], tf.int64)[:, tf.newaxis], tf.range(4, dtype=tf.int64)).numpy()
    assert found[0].tolist() == [signed(word) for word in published]


@pytest.mark.parametrize("seed", [0, 1, 2**62, -5, 3 + (7 << 32)])
def test_keys_are_those_of_python_s_integers(seed):
    indices = [0, 1, 59_999, 2**40]
    seeds = tf.constant([[seed, index] for index in indices], tf.int64)
    expected = [plain_fold_in(splitmix64(seed & WORD), index) for index in indices]
    found = randomness.row_keys(seeds)
    assert found.numpy().tolist() == [signed(word) for word in expected]
    folded = randomness.fold_in(found, tf.constant([3, 0, 1, 3]))
    assert folded.numpy().tolist() == [
        signed(plain_fold_in(key, stream)) for key, stream in zip(expected, [3, 0, 1, 3], strict=True)
    ]


def test_uniform_numbers_are_the_highest_bits_of_the_hashed_counters(keys):
    found = randomness.uniform(keys[:2], [2, 3]).numpy()
    for row, key in enumerate(keys[:2].numpy().tolist()):
        expected = [(plain_fold_in(key & WORD, counter) >> 40) / 2**24 for counter in range(6)]
        assert found[row].ravel().tolist() == expected


def test_uniform_numbers_are_uniform(keys):
    found = randomness.uniform(keys, [NUMBERS]).numpy()
    assert found.min() >= 0
    assert found.max() < 1
    assert found.dtype == np.float32
    counts = np.histogram(found, bins=256, range=(0, 1))[0]
    assert stats.chisquare(counts).pvalue > 1e-3
    # Of each image on its own, and of each place over the images.
    assert stats.kstest([stats.kstest(row, "uniform").pvalue for row in found], "uniform").pvalue > 1e-3
    assert stats.kstest([stats.kstest(place, "uniform").pvalue for place in found.T[:200]], "uniform").pvalue > 1e-3


def test_every_bit_of_a_uniform_number_is_a_fair_coin(keys):
    words = (randomness.uniform(keys, [NUMBERS], tf.float64).numpy() * 2**24).astype(np.int64)
    fractions = [np.mean(words >> bit & 1) for bit in range(24)]
    np.testing.assert_allclose(fractions, 0.5, atol=4 * 0.5 / np.sqrt(ROWS * NUMBERS))


def test_normal_numbers_are_normal(keys):
    found = randomness.normal(keys, [NUMBERS]).numpy().ravel()
    assert np.isfinite(found).all()
    assert stats.kstest(found, "norm").pvalue > 1e-3
    error = 1 / np.sqrt(found.size)
    for power, moment, variance in ((1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96)):
        assert np.mean(found.astype(np.float64) ** power) == pytest.approx(moment, abs=4 * error * np.sqrt(variance))


def test_signs_are_fair_and_of_two_kinds(keys):
    found = randomness.signs(keys, [NUMBERS]).numpy()
    assert set(np.unique(found)) == {-1, 1}
    assert abs(found.mean()) < 4 / np.sqrt(found.size)


def uncorrelated(first, second):
    first, second = (part.astype(np.float64).ravel() for part in (first, second))
    return abs(np.corrcoef(first, second)[0, 1]) < 4 / np.sqrt(first.size)


def test_neighbours_know_nothing_of_each_other(keys):
    found = randomness.uniform(keys, [NUMBERS]).numpy()
    for lag in (1, 2, 3, 28, 64, 784):
        assert uncorrelated(found[:, lag:], found[:, :-lag])
    for lag in (1, 2, 16):
        assert uncorrelated(found[lag:], found[:-lag])
    pairs = np.histogram2d(found[:, :-1].ravel(), found[:, 1:].ravel(), bins=16, range=[[0, 1]] * 2)[0]
    assert stats.chisquare(pairs.ravel()).pvalue > 1e-3


def test_streams_seeds_and_attempts_know_nothing_of_each_other(keys):
    indices = np.arange(ROWS)

    def of(seed, attempt=0, stream=0):
        seeds = np.stack([np.full(ROWS, seed + (attempt << 32)), indices], axis=1)
        return randomness.uniform(randomness.fold_in(randomness.row_keys(seeds), stream), [NUMBERS]).numpy()

    parts = [of(0), of(1), of(0, attempt=1), of(1, attempt=1), of(0, stream=1), of(0, stream=2), of(1, stream=1)]
    for number, first in enumerate(parts):
        for second in parts[:number]:
            assert not np.any(np.all(first == second, axis=1))
            assert uncorrelated(first, second)
            # Not even shifted, as overlapping counters would be.
            assert uncorrelated(first[:, 1:], second[:, :-1])
            assert uncorrelated(first[1:], second[:-1])


def test_keys_of_many_seeds_and_images_are_all_different():
    seeds = np.stack(np.meshgrid(np.r_[:50, np.arange(1, 9) << 32], np.arange(2000)), axis=-1).reshape(-1, 2)
    keys = randomness.row_keys(seeds).numpy()
    assert len(np.unique(keys)) == len(seeds)


@pytest.mark.parametrize("limit", [1, 2, 7, 784, 2**24 - 1])
def test_integers_are_below_their_limit_and_reach_it(keys, limit):
    found = randomness.integers(keys, [NUMBERS], limit).numpy()
    assert found.dtype == np.int32
    assert found.min() >= 0
    assert found.max() < limit
    if limit < 1000:
        counts = np.bincount(found.ravel(), minlength=limit)
        assert limit == 1 or stats.chisquare(counts).pvalue > 1e-3
    else:
        assert found.max() > 0.999 * limit


def test_integers_take_a_limit_for_each_row(keys):
    limits = tf.constant([3, 5, 900, 1] * 16)[:, tf.newaxis]
    found = randomness.integers(keys, [NUMBERS], limits).numpy()
    np.testing.assert_array_equal(found.max(axis=1), limits.numpy().ravel() - 1)


def test_a_row_s_numbers_do_not_depend_on_the_rows_beside_it(keys):
    for draw in (randomness.uniform, randomness.normal, randomness.signs):
        everything = draw(keys, [3, 4, 2]).numpy()
        assert everything.shape == (ROWS, 3, 4, 2)
        np.testing.assert_array_equal(draw(keys[5:6], [3, 4, 2])[0], everything[5])
        np.testing.assert_array_equal(draw(keys[::-1], [3, 4, 2])[::-1], everything)


def test_is_the_same_in_a_graph(keys):
    draw = tf.function(lambda keys: randomness.normal(keys, [10]), autograph=False)
    np.testing.assert_allclose(draw(keys), randomness.normal(keys, [10]), rtol=1e-6)
