import types

import numpy as np
import tensorflow as tf

from erkeras.data import Split, training_batches
from erkeras.recipes import Place
from erkeras.training import Devices
from erkeras.training.loop import validation_parts


def devices(replicas, worker, workers):
    strategy = types.SimpleNamespace(num_replicas_in_sync=replicas)
    return Devices(strategy, Place(worker, tuple(f"host:{number}" for number in range(1, workers + 1))))


def rows_of(replicas, workers, updates=1):
    rows = tf.range(24)
    return [devices(replicas, worker, workers).own_rows(rows, updates).numpy().tolist() for worker in range(workers)]


def test_each_device_has_its_part_of_the_batch_in_order():
    assert rows_of(4, 2) == [list(range(12)), list(range(12, 24))]
    assert rows_of(1, 1) == [list(range(24))]


def test_each_update_of_a_step_is_shared_by_all_devices():
    first, second = rows_of(4, 2, updates=2)
    assert first == [0, 1, 2, 12, 13, 14, 3, 4, 5, 15, 16, 17]
    assert second == [6, 7, 8, 18, 19, 20, 9, 10, 11, 21, 22, 23]


def test_parts_of_a_batch_are_those_of_the_whole_one():
    pixels = np.random.default_rng(0).integers(0, 256, (30, 8, 8, 1), np.uint8)
    split = Split(pixels, np.arange(30, dtype=np.int32) % 3, np.arange(30))
    whole = next(iter(training_batches(split, 24, 5, 1, augment=True)))
    parts = []
    for worker in range(2):
        found = devices(4, worker, 2)
        batches = found.parts(training_batches(split, 24, 5, 1, augment=True, own_rows=found.own_rows))
        parts += list(batches.take(2))
    for place in range(2):
        np.testing.assert_array_equal(tf.concat([part[place] for part in parts], axis=0), whole[place])


def test_no_device_validates_without_images():
    seen = []

    def hear(function):
        contexts = [types.SimpleNamespace(replica_id_in_sync_group=number) for number in range(4)]
        return [function(context) for context in contexts]

    strategy = types.SimpleNamespace(num_replicas_in_sync=4, experimental_distribute_values_from_function=hear)
    images = np.arange(23, dtype=np.float32)
    for batch in validation_parts((images, images), 10, strategy):
        seen.append([len(part) for part, _ in batch])
        assert all(len(part) for part, _ in batch)
    assert seen == [[3, 3, 2, 2], [4, 3, 3, 3]]
