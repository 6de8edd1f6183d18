"""Chooses how many internal batches run at once, and runs batches that need one call each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import tensorflow as tf

from erkeras.processors import available_processors, streams_of


def has_gpu() -> bool:
    """Tells whether TensorFlow computes on a GPU."""
    return bool(tf.config.list_logical_devices("GPU"))


def parallel_streams() -> int:
    """Tells how many internal batches are worked on at once, each in a thread of its own.

    On a GPU one; on a CPU as many as there are processors for beside those that TensorFlow lets one operation use,
    all by default. Two operations with one thread each are done sooner than one after the other with two
    (docs/attacks.md), so `erkeras attack` sets `tf.config.threading.set_intra_op_parallelism_threads`. A process that
    has some of the processors says so by `tf.config.threading.set_inter_op_parallelism_threads`.
    """
    if has_gpu():
        return 1
    processors = tf.config.threading.get_inter_op_parallelism_threads() or available_processors()
    return streams_of(processors, tf.config.threading.get_intra_op_parallelism_threads() or processors)


def map_streams(function: Callable[[Any], Any], batches: Sequence[Any]) -> list[Any]:
    """Calls a function for each batch, as many at once as `parallel_streams` says.

    Args:
        function: of one batch; what it gives may not depend on the calls before it.
        batches: in any form.

    Returns:
        What it gave, in the order of the batches.

    Raises:
        Exception: the first that the function raised; no further call is begun then.
    """
    streams = min(parallel_streams(), len(batches))
    if streams < 2:  # in the thread, and under the devices and strategies, of who called
        return [function(batch) for batch in batches]
    with ThreadPoolExecutor(streams) as pool:
        futures = [pool.submit(function, batch) for batch in batches]
        try:
            return [future.result() for future in futures]
        finally:  # also where Ctrl-C was pressed
            for future in futures:
                future.cancel()
