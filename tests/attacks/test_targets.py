import numpy as np
import pytest
import tensorflow as tf

from erkeras.attacks.contract import Batch
from erkeras.attacks.targets import target_classes


def batch_of(clean_logits, labels, attempt):
    count = len(labels)
    images, seeds = tf.zeros([count, 1, 1, 1]), tf.zeros([count, 2], tf.int64)
    clean_logits = tf.constant(clean_logits, tf.float32)
    return Batch(images, tf.constant(labels, tf.int32), clean_logits, seeds, tf.constant(attempt, tf.int32))


@pytest.fixture
def logits():
    return np.random.default_rng(0).normal(size=(30, 6))


def test_none_without_targets(logits):
    assert target_classes(batch_of(logits, np.zeros(30), np.zeros(30)), 0) is None


@pytest.mark.parametrize("targets", [1, 3, 5])
def test_asks_for_the_next_likely_class_in_each_attempt(logits, targets):
    labels, attempt = np.arange(30) % 6, np.arange(30) * 7 % (2 * targets)
    found = target_classes(batch_of(logits, labels, attempt), targets).numpy()
    for row in range(30):
        others = [number for number in np.argsort(-logits[row]) if number != labels[row]]
        assert found[row] == others[attempt[row] % targets]
    assert found.dtype == np.int32


def test_all_targets_of_an_image_are_all_other_classes(logits):
    found = [target_classes(batch_of(logits, np.full(30, 2), np.full(30, k)), 5).numpy() for k in range(5)]
    np.testing.assert_array_equal(np.sort(found, axis=0)[:, 0], [0, 1, 3, 4, 5])


def test_no_target_of_equal_logits_is_the_label():
    for k in range(3):
        found = target_classes(batch_of([[0.0, 0, 0, 0], [1e6, 1e6, 1e6, -1e6]], [1, 0], np.full(2, k)), 3).numpy()
        assert np.all(found != [1, 0])


def test_of_few_classes_the_last_one_is_asked_for_again():
    found = [target_classes(batch_of([[3.0, 1, 2]], [0], [k]), 9).numpy()[0] for k in range(9)]
    assert found == [2] + [1] * 8
