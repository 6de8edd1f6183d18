"""Processes that a benchmark puts questions to: each has libraries, threads and a peak of memory of its own."""

from __future__ import annotations

import contextlib
import multiprocessing
import resource
import sys
from collections.abc import Callable
from typing import Any


def tensorflow_on(threads: int, intra_op: int | None = None) -> Any:
    """TensorFlow, on so many threads; so many of them (by default all) for one operation."""
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(intra_op or threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads)
    return tf


def serve(pipe: Any, make: Callable[..., tuple[Callable[..., Any], Any]], *arguments: Any) -> None:
    """In the process: `make(*arguments)` gives what answers questions, and a message that is sent first."""
    answer, message = make(*arguments)
    pipe.send(message)
    unit = 1 if sys.platform == "darwin" else 1024
    with contextlib.suppress(EOFError):  # the parent has what it wanted
        while True:
            result = answer(*pipe.recv())
            pipe.send((result, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20))


class Worker:
    """The parent's end of a process that runs `serve`.

    Attributes:
        message: what came with the answering function.
        peak_mib: the most memory that the process has held.
    """

    def __init__(self, make: Callable[..., tuple[Callable[..., Any], Any]], *arguments: Any) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, end = context.Pipe()
        self._process = context.Process(target=serve, args=(end, make, *arguments), daemon=True)
        self._process.start()
        end.close()
        self.message = self._receive()  # and so the worker is ready
        self.peak_mib = 0.0

    def ask(self, *question: Any) -> Any:
        self._pipe.send(question)
        result, self.peak_mib = self._receive()
        return result

    def close(self) -> None:
        """Ends the process."""
        self._pipe.close()
        self._process.join()

    def _receive(self) -> Any:
        try:
            return self._pipe.recv()
        except EOFError:
            sys.exit("A worker has ended too early: its own message is above.")
