import warnings

import numpy as np
import pytest
import tensorflow as tf

from erkeras.attacks import PGD, Victim, devices
from erkeras.attacks.slots import compile_attack
from erkeras.threat import ThreatModel
from helpers.random_noise import model, noise_points


@pytest.fixture
def points():
    return noise_points()


@pytest.fixture
def on_gpu(monkeypatch):
    monkeypatch.setattr(tf.config, "list_logical_devices", lambda kind=None: ["a device"])


class Limited:
    """A model that has room for so many images."""

    def __init__(self, room):
        self.room, self.seen = room, []

    def __call__(self, images):
        self.seen.append(images.shape[0])
        if images.shape[0] > self.room:
            raise tf.errors.ResourceExhaustedError(None, None, "out of memory")
        return model(images)


@pytest.mark.parametrize(("room", "size"), [(1000, 256), (511, 128), (130, 64)])
def test_a_gpu_sees_the_largest_batch_of_which_two_fit(points, on_gpu, room, size):
    limited = Limited(room)
    victim = Victim(limited)
    assert devices.fitting_batch(victim, points[0]) == size
    asked = len(limited.seen)
    assert devices.fitting_batch(victim, points[0]) == size
    assert len(limited.seen) == asked


def test_no_room_for_two_images_leaves_one(points):
    assert devices.largest_batch(Victim(Limited(1)), points[0][:1]) == 1


def test_a_processor_and_a_function_of_arrays_see_128(points, on_gpu, monkeypatch):
    assert devices.fitting_batch(Victim(lambda images: model(images).numpy()), points[0]) == 128
    monkeypatch.setattr(tf.config, "list_logical_devices", lambda kind=None: [])
    limited = Limited(1000)
    assert devices.fitting_batch(Victim(limited), points[0]) == 128
    assert limited.seen == []


def test_an_attack_takes_the_batch_that_fits(points, on_gpu):
    limited = Limited(256)
    attack = PGD(ThreatModel("l_inf", 0.1), steps=2)
    result = attack(Victim(limited, jit_compile=False), *points)
    assert limited.seen[-1] == 128
    np.testing.assert_array_equal(result.success, attack(Victim(model), *points, internal_batch=128).success)


def test_a_gpu_compiles_the_loop_and_a_processor_does_not(on_gpu, points, monkeypatch):
    made = []
    monkeypatch.setattr("erkeras.attacks.slots.WholeLoop", lambda function, by_xla: made.append(by_xla) or tf.identity)
    attack = PGD(ThreatModel("l_inf", 0.1), steps=2)
    for victim in (Victim(model), Victim(model, False), Victim(model, True)):
        devices.fitting_batch(victim, points[0])
        _functions(victim, attack)
    monkeypatch.setattr(tf.config, "list_logical_devices", lambda kind=None: [])
    for victim in (Victim(model), Victim(model, True)):
        _functions(victim, attack)
    of_arrays = Victim(lambda images: model(images).numpy(), True)
    of_arrays.outputs_for(points[0])
    _functions(of_arrays, attack)
    assert made == [True, False, True, False, True, False]


def _functions(victim, attack):
    victim.functions(attack, compile_attack)


def test_what_xla_cannot_compile_runs_operation_by_operation():
    def function(numbers):
        return tf.numpy_function(lambda array: 2 * array, [numbers], tf.float32)

    loop = devices.WholeLoop(function, by_xla=True)
    with pytest.warns(RuntimeWarning, match=r"XLA does not compile the attack on this model \(.+\): it runs operation"):
        assert loop(tf.constant([1.0, 2.0])).numpy().tolist() == [2, 4]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert loop(tf.constant([3.0])).numpy().tolist() == [6]


def test_what_fails_after_it_has_worked_is_raised():
    def function(numbers):
        if numbers.shape[0] == 2:
            raise tf.errors.InternalError(None, None, "lost the device")
        return 2 * numbers

    loop = devices.WholeLoop(function, by_xla=True)
    assert loop(tf.constant([1.0])).numpy().tolist() == [2]
    with pytest.raises(tf.errors.InternalError, match="lost the device"):
        loop(tf.constant([1.0, 2.0]))


def test_out_of_memory_is_no_reason_to_go_without_xla():
    def function(numbers):
        raise tf.errors.ResourceExhaustedError(None, None, "out of memory")

    with pytest.raises(tf.errors.ResourceExhaustedError, match="out of memory"):
        devices.WholeLoop(function, by_xla=True)(tf.constant([1.0]))
