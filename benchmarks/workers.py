"""Processes that a benchmark puts questions to: each has libraries, threads and a peak of memory of its own."""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import json
import multiprocessing
import os
import resource
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any


def add_options(parser: argparse.ArgumentParser, of_a_model: bool = True) -> None:
    """The options that every benchmark has, and those of one that attacks a model."""
    if of_a_model:
        parser.add_argument(
            "--model",
            type=Path,
            default=Path("saved_models/mnist-er-classifier"),
            help="a folder that erkeras train wrote, or a .keras file",
        )
        parser.add_argument("--dataset", help="the model's own, or mnist, by default")
    parser.add_argument("--threads", type=int, default=2, help="of each side")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every number to this file")


def prepare(*packages: str) -> None:
    """Ends the program where a package is missing; says what the workers' libraries read when they load."""
    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    if missing:
        print(f"This measures against what is not installed: pip install {' '.join(missing)}", file=sys.stderr)
        sys.exit(2)
    # By default PyTorch's idle threads spin, on cores that others need.
    os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


def write(results: Any, path: Path | None) -> None:
    if path:
        path.write_text(json.dumps(results, indent=2, default=str) + "\n")


def model_and_images(options: argparse.Namespace, count: int, seed: int) -> tuple[Any, Any]:
    """The Keras model of the options, and so many test images of its data set."""
    from erkeras import load_dataset
    from erkeras.saved import find_model, load_model

    kind, path, card = find_model(options.model)
    name = options.dataset or (card.dataset.name if card else "mnist")
    return load_model(kind, path), load_dataset(name).test.sample(count, seed)


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
