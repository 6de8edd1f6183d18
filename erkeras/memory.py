"""Memory that runs out, of a device or of the machine, as one sentence."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator

from erkeras.errors import OutOfMemoryError

#: What TensorFlow's errors of other names say where memory ran out: CUDA, cuBLAS and cuDNN, XLA, C++.
_WORDS = ("out of memory", "OUT_OF_MEMORY", "ALLOC_FAILED", "std::bad_alloc")
#: It also says so of a disk.
_OF_DISKS = ("No space left", "Disk quota", "File too large")


def is_out_of_memory(error: BaseException) -> bool:
    """Tells whether an error of Python, NumPy or TensorFlow says that memory ran out."""
    if isinstance(error, MemoryError):
        return True
    if not type(error).__module__.startswith("tensorflow") or any(words in str(error) for words in _OF_DISKS):
        return False
    return type(error).__name__ == "ResourceExhaustedError" or any(words in str(error) for words in _WORDS)


@contextlib.contextmanager
def within_memory(work: str, remedy: str) -> Iterator[None]:
    """Says what to make smaller where memory runs out in the block.

    Example:
        with within_memory("in training", "give a smaller batch size"):
            model.fit(images, labels)

    Args:
        work: where, as "in training".
        remedy: what to do, as the end of the sentence.

    Raises:
        OutOfMemoryError: for an error as `is_out_of_memory` tells; the error is its cause.
    """
    try:
        yield
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        device = re.search(r"device:(GPU:\d+)", str(error))
        place = f" of {device[1]}" if device else ""
        raise OutOfMemoryError(f"the memory{place} ran out {work}: {remedy}.") from error
