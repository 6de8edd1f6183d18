"""Shares machines among workers: each gets one GPU, or a part of the processors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from erkeras.errors import InputError
from erkeras.processors import MOST_STREAMS


class Machine(NamedTuple):
    """Says what Ray may give away of a machine.

    Attributes:
        processors: how many.
        gpus: how many.
    """

    processors: int
    gpus: int


class Share(NamedTuple):
    """Says how machines are shared.

    Attributes:
        workers: how many.
        threads: of each.
        gpus: of each, 0 or 1.
    """

    workers: int
    threads: int
    gpus: int


def share(machines: Sequence[Machine], workers: int | None) -> Share:
    """Shares machines between workers, so that workers x threads is the number of processors where it can be.

    Where there are GPUs, each worker has one. Ray would wait without an end for what is not there.

    Args:
        machines: of the cluster.
        workers: how many; by default one for each GPU, without one for each `MOST_STREAMS` processors of a machine.

    Raises:
        InputError: for more workers than GPUs, or than processors.
    """
    gpus = sum(machine.gpus for machine in machines)
    processors = sum(machine.processors for machine in machines)
    if workers is None:
        each = [max(1, machine.processors // MOST_STREAMS) for machine in machines if machine.processors]
        workers = gpus or sum(each)
    if workers > (gpus or processors) or not workers:
        raise InputError(
            f"{workers} workers were asked for and there are {gpus or processors} {'GPUs' if gpus else 'processors'}, "
            f"one for each: give {gpus or processors} or fewer."
        )

    def fitting(threads: int) -> int:
        return sum(min(of.processors // threads, of.gpus if gpus else of.processors) for of in machines)

    threads = processors // workers
    while threads and fitting(threads) < workers:
        threads -= 1
    if not threads:
        raise InputError(
            f"{workers} workers were asked for, each with a GPU and a processor, and there are {fitting(1)} such "
            f"pairs: give {fitting(1)} or fewer."
        )
    return Share(workers, threads, 1 if gpus else 0)
