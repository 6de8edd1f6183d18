"""Options of commands that attack by workers."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import rich_click as click

from erkeras import cluster

from . import console
from .options import COUNT, WHERE

WORKERS = click.option(
    "--workers",
    type=COUNT,
    panel=WHERE,
    help="Attack with this many workers on this machine, or on --cluster.  [default: this process alone; on --cluster "
    "one for each GPU, or for each 4 processors]",
)
CLUSTER = click.option(
    "--cluster",
    metavar="ADDRESS",
    panel=WHERE,
    help="Attack with workers on this Ray cluster: HOST:PORT, or auto for the one that this machine belongs to.",
)


@contextlib.contextmanager
def started(workers: int | None, address: str | None) -> Iterator[cluster.Workers | None]:
    """Starts the workers that --workers and --cluster ask for, and ends them; none where neither was given.

    Raises:
        InputError: as `erkeras.cluster.Workers`.
    """
    if workers is None and address is None:
        yield None
        return
    with contextlib.ExitStack() as stack:
        with console.messages.status("Starting workers"):
            found = stack.enter_context(cluster.Workers(workers, address))
        yield found
