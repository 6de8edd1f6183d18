"""Shows long work: a status line while TensorFlow loads, bars, tables."""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import sys
import tempfile
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import lazy_loader
import rich_click as click
from rich.console import Console
from rich.table import Table

from erkeras.processors import available_processors, threads_of_an_operation
from erkeras.progress_bar import ProgressBar

if TYPE_CHECKING:
    import tensorflow as tf
else:
    tf = lazy_loader.load("tensorflow")

output = Console(highlight=False, soft_wrap=True, markup=False)
messages = Console(stderr=True, highlight=False, markup=False)

#: What Keras imports where it finds it, a third of its and TensorFlow's loading time, and no command has Keras use.
_UNUSED = ("matplotlib", "pandas", "sklearn")


def load_tensorflow(for_attacks: bool = False) -> None:
    """Imports TensorFlow, which takes seconds, under a status line and without its log noise.

    Args:
        for_attacks: leave processors for several internal batches at once; see `erkeras.attacks.streams`.
    """
    if "tensorflow.python" in sys.modules:
        return
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    status = contextlib.nullcontext() if _is_quiet() else messages.status("Loading TensorFlow")
    with status, _without_native_noise(), _hidden(_UNUSED):
        tf.get_logger().setLevel("ERROR")
        logging.getLogger("absl").setLevel("ERROR")
        importlib.import_module("keras")
        # The first look at the devices is what reports missing GPU drivers.
        if not tf.config.list_physical_devices("GPU") and for_attacks:
            tf.config.threading.set_intra_op_parallelism_threads(threads_of_an_operation(available_processors()))


@contextlib.contextmanager
def _hidden(names: tuple[str, ...]) -> Iterator[None]:
    """Lets an import of these modules fail, as if they were not installed; those that are loaded stay."""
    absent: dict[str, Any] = dict.fromkeys(name for name in names if name not in sys.modules)
    sys.modules.update(absent)
    try:
        yield
    finally:
        for name in absent:
            del sys.modules[name]


@contextlib.contextmanager
def _without_native_noise() -> Iterator[None]:
    """Keeps what C++ libraries print on standard error while they load; shows it where loading fails."""
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as noise:
        # The status line goes on: rich writes to a file object of its own.
        messages.file = os.fdopen(os.dup(kept), "w")
        os.dup2(noise.fileno(), 2)
        try:
            yield
        except BaseException:
            noise.seek(0)
            os.write(kept, noise.read())
            raise
        finally:
            os.dup2(kept, 2)
            os.close(kept)
            messages.file = sys.stderr


def progress() -> ProgressBar:
    """Gives bars for long work; none after `erkeras --quiet`."""
    return ProgressBar(messages, disable=_is_quiet())


def _is_quiet() -> bool:
    context = click.get_current_context(silent=True)
    return bool(context and context.find_root().params.get("quiet"))


def print_table(title: str, columns: list[str], rows: list[list[str]]) -> None:
    """Prints a table on standard output, numbers to the right."""
    table = Table(title=title, title_justify="left")
    for number, column in enumerate(columns):
        table.add_column(column, justify="left" if number == 0 else "right")
    for row in rows:
        table.add_row(*row)
    output.print(table)
