"""Memory that runs out: told from other errors, and one sentence."""

import numpy as np
import pytest
import tensorflow as tf

from erkeras.errors import InputError, OutOfMemoryError
from erkeras.memory import is_out_of_memory, within_memory


def raised(function):
    with pytest.raises(BaseException) as caught:  # noqa: PT011
        function()
    return caught.value


def of_tensorflow(kind, message):
    return getattr(tf.errors, kind)(None, None, message)


@pytest.mark.parametrize(
    "function",
    [
        lambda: tf.function(lambda size: tf.random.uniform([size, size]))(tf.constant(10**7)),
        lambda: np.ones(2**50),
    ],
)
def test_what_no_machine_can_hold_is_out_of_memory(function):
    assert is_out_of_memory(raised(function))


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        of_tensorflow("ResourceExhaustedError", "failed to allocate memory"),
        of_tensorflow("InternalError", "cuMemAlloc failed: CUDA_ERROR_OUT_OF_MEMORY"),
        of_tensorflow("InternalError", "Blas GEMM launch failed: CUBLAS_STATUS_ALLOC_FAILED"),
        of_tensorflow("UnknownError", "std::bad_alloc"),
        of_tensorflow("UnknownError", "Out of memory while trying to allocate 4096 bytes: out of memory"),
    ],
    ids=str,
)
def test_the_words_of_devices_are_out_of_memory(error):
    assert is_out_of_memory(error)


@pytest.mark.parametrize(
    "error",
    [
        ValueError("out of memory"),
        KeyboardInterrupt(),
        of_tensorflow("ResourceExhaustedError", "model.index; No space left on device"),
        of_tensorflow("ResourceExhaustedError", "Disk quota exceeded"),
        of_tensorflow("InvalidArgumentError", "Incompatible shapes: [2] vs. [3]"),
    ],
    ids=str,
)
def test_others_are_not(error):
    assert not is_out_of_memory(error)
    with pytest.raises(type(error)), within_memory("in training", "give less"):
        raise error


def test_the_sentence_says_where_and_what_to_do():
    assert issubclass(OutOfMemoryError, InputError)
    error = MemoryError("numbers")
    sentence = r"^the memory ran out in training: give less\.$"
    with pytest.raises(OutOfMemoryError, match=sentence) as caught, within_memory("in training", "give less"):
        raise error
    assert caught.value.__cause__ is error
    message = "OOM when allocating tensor with shape[9] on /job:localhost/replica:0/task:0/device:GPU:1 by allocator"
    sentence = r"^the memory of GPU:1 ran out in attacking: give less\.$"
    with pytest.raises(OutOfMemoryError, match=sentence), within_memory("in attacking", "give less"):
        raise of_tensorflow("ResourceExhaustedError", message)


def test_where_there_is_enough_nothing_happens():
    with within_memory("in training", "give less"):
        assert tf.zeros([3]).shape == (3,)
