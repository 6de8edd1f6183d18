"""Shares the processors of a machine among attacks."""

from __future__ import annotations

import os

#: Internal batches that are worked on at once, at most.
MOST_STREAMS = 4


def available_processors() -> int:
    """Counts the processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def threads_of_an_operation(processors: int) -> int:
    """Tells how many threads one operation takes, so that `MOST_STREAMS` internal batches go on at once."""
    return max(1, processors // MOST_STREAMS)


def streams_of(processors: int, threads: int) -> int:
    """Tells how many internal batches go on at once, with so many threads for an operation of each."""
    return max(1, min(processors // threads, MOST_STREAMS))
