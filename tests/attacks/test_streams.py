import threading

import numpy as np
import pytest
import tensorflow as tf

from erkeras.attacks import Victim, streams
from erkeras.attacks.streams import map_streams
from erkeras.detection.batches import in_batches


def test_processors_are_shared_between_batches_and_operations(monkeypatch):
    monkeypatch.setattr(streams, "available_processors", lambda: 8)
    for each, count in ((0, 1), (8, 1), (4, 2), (1, 4), (16, 1)):
        monkeypatch.setattr(tf.config.threading, "get_intra_op_parallelism_threads", lambda each=each: each)
        assert streams.parallel_streams() == count
    monkeypatch.setattr(tf.config, "list_logical_devices", lambda kind=None: ["a device"])
    assert streams.parallel_streams() == 1


@pytest.mark.parametrize("count", [1, 2, 3])
def test_as_many_calls_run_at_once_as_there_are_streams(monkeypatch, count):
    """Each call waits for the others of its round: fewer at once would never come back."""
    monkeypatch.setattr(streams, "parallel_streams", lambda: count)
    together = threading.Barrier(count, timeout=20)

    def function(number):
        together.wait()
        return number, threading.get_ident()

    found = map_streams(function, range(6))
    assert [number for number, _ in found] == list(range(6))
    assert (threading.get_ident() in {thread for _, thread in found}) == (count == 1)


def test_no_call_is_begun_after_one_that_failed(monkeypatch):
    monkeypatch.setattr(streams, "parallel_streams", lambda: 2)
    begun, failed = [], threading.Event()

    def function(number):
        begun.append(number)
        if number == 0:
            failed.set()
            raise RuntimeError("lost the device")
        failed.wait(20)
        threading.Event().wait(0.05)

    with pytest.raises(RuntimeError, match="lost the device"):
        map_streams(function, range(100))
    assert len(begun) < 50


def test_clean_passes_of_several_streams_give_what_one_gives(monkeypatch):
    kernel = tf.random.stateless_normal((12, 5), (3, 4))
    images = np.random.RandomState(0).uniform(size=(43, 2, 2, 3)).astype(np.float32)

    def model(batch):
        return tf.reshape(batch, (-1, 12)) @ kernel

    found = []
    for count in (1, 3):
        monkeypatch.setattr(streams, "parallel_streams", lambda count=count: count)
        outputs = Victim(model).outputs_for(images, internal_batch=4)
        found.append((outputs, in_batches(tf.function(model), images, 4)))
    for one, three in zip(*found, strict=True):
        assert one.shape == (43, 5)
        np.testing.assert_array_equal(one, three)
