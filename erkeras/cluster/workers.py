"""Workers that attack the images of an evaluation, each in a process of Ray's, on this machine or on many."""

from __future__ import annotations

import contextlib
import math
import sys
import time
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Any, Self

import lazy_loader
import numpy as np

from erkeras.attacks import INTERNAL_BATCH, Attack
from erkeras.attacks.devices import GPU_BATCH
from erkeras.cluster.connection import check_versions, connected, first_line, machines
from erkeras.cluster.shares import Share, share
from erkeras.cluster.worker import Plan, Worker, pack, pack_modules
from erkeras.data import Split
from erkeras.errors import InputError
from erkeras.evaluation.attacker import Attacker, Finished, Look, part_of
from erkeras.evaluation.subject import Subject
from erkeras.processors import streams_of, threads_of_an_operation
from erkeras.progress import Progress

ray: Any = lazy_loader.load("ray")

#: How often Ray starts a worker again that died.
_RESTARTS = 4
#: Seconds between two looks at how far workers are, and after which a part of a silent one is given to another too.
_LOOK, _PATIENCE = 1.0, 20.0
#: The thread of a worker that answers while it attacks.
_HEARING = "hearing"


class Workers:
    """Attacks in processes that Ray starts. The record has the same bytes as that of a single process.

    Example:
        with Workers(2) as workers:
            Evaluation("saved_models/mine", "autoattack", record="RECORD").run(workers=workers)

    Args:
        count: how many; by default see `share`.
        cluster: HOST:PORT of a Ray cluster, or "auto" for the one that this machine belongs to. None starts Ray on
            this machine, on its loopback alone, and ends it with the block.

    Raises:
        InputError: on entering the block: without Ray or a cluster, for one that has other versions, and for more
            workers than it has room for.
    """

    def __init__(self, count: int | None = None, cluster: str | None = None) -> None:
        self._count, self._cluster = count, cluster
        self._open = contextlib.ExitStack()

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            self._folder = stack.enter_context(connected(self._cluster))
            self.share = share(machines(), self._count)
            if self._cluster is not None:
                check_versions()
            self._open = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.__exit__(kind, error, trace)

    def hold(self, subject: Subject, with_detector: bool, jit_compile: bool | str = "auto") -> Attacker:
        """Has the workers load a model when an evaluation begins.

        Args:
            subject: a model on disk.
            with_detector: attack its detector too.
            jit_compile: as for a `Victim`.

        Raises:
            InputError: for a served model, or one in memory.
        """
        if subject.file is None:
            raise InputError(
                f"workers were asked for and {subject.name} is no model on disk: save it, and give its folder."
            )
        return _Held(subject, with_detector, jit_compile, self.share, self._folder)


class _Held(Attacker):
    """A model that workers hold."""

    def __init__(
        self, subject: Subject, with_detector: bool, jit_compile: bool | str, share: Share, folder: str | None
    ) -> None:
        self._subject, self._with_detector, self._share, self._folder = subject, with_detector, share, folder
        self._jit_compile = jit_compile
        self._actors: list[Any] = []

    @property
    def part_size(self) -> int:
        """A whole number of internal batches: as many as a worker has streams, but a part for every worker."""
        streams = 1
        if not self._share.gpus:
            streams = streams_of(self._share.threads, threads_of_an_operation(self._share.threads))
        each = len(self._split) // (self._internal_batch * self._share.workers)
        return self._internal_batch * max(1, min(streams, each))

    def fitting_batch(self, images: np.ndarray) -> int:
        """Gives what suits the workers' devices; none of them is asked whether it fits."""
        return GPU_BATCH if self._share.gpus else INTERNAL_BATCH

    def begin(
        self, split: Split, attacks: tuple[Attack, ...], seed: int, internal_batch: int, progress: Progress
    ) -> Look:
        self._split, self._work = split, sum(attack.work for attack in attacks)
        self._internal_batch = internal_batch
        plan = Plan(
            subject=self._subject,
            digest=self._subject.digest,
            files=pack(self._subject),
            sources=pack_modules(self._subject.modules),
            with_detector=self._with_detector,
            attacks=attacks,
            seed=seed,
            internal_batch=internal_batch,
            jit_compile=self._jit_compile,
            first=part_of(split, 0, internal_batch),
            threads=self._share.threads,
            gpus=self._share.gpus,
            folder=self._folder,
        )
        actor = ray.remote(concurrency_groups={_HEARING: 1})(Worker).options(
            num_cpus=self._share.threads,
            num_gpus=self._share.gpus,
            max_restarts=_RESTARTS,
            max_task_retries=-1,
        )
        self._sent = [ray.put(plan), [path for path in sys.path if path]]
        needed = min(self._share.workers, math.ceil(len(split) / self.part_size))
        self._actors = [actor.remote() for _ in range(needed)]
        self._ear = _Ear(self._actors, progress)
        # All load at once; what one sees, all see.
        looks = [worker.look.remote(self._sent) for worker in self._actors]
        seen: list[Any] = []
        while not seen:
            seen, _ = ray.wait(looks, num_returns=1, timeout=_LOOK)
            self._ear.listen()
        with _told():
            look: Look = ray.get(seen[0])
            return look

    def attack(self, starts: Iterable[int]) -> Iterator[Finished]:
        size, ear = self.part_size, self._ear
        pool = ray.util.ActorPool(self._actors)

        def send(worker: Any, start: int) -> Any:
            ear.expect(start)
            return worker.attack.remote(self._sent, start, part_of(self._split, start, size))

        left = set()
        for start in starts:
            left.add(start)
            pool.submit(send, start)
        while left:
            try:
                with _told():
                    finished: Finished = pool.get_next_unordered(timeout=_LOOK)
            except TimeoutError:
                ear.listen()
                if pool.has_free():
                    for start in left.intersection(ear.unheard()):
                        pool.submit(send, start)
                continue
            if finished.start in left:  # else two workers had it, and this is the second
                left.remove(finished.start)
                ear.finish(finished.start, self._work * len(finished.examples))
                yield finished
            ear.listen()

    def close(self) -> None:
        """Ends the workers."""
        actors, self._actors = self._actors, []
        closing = [worker.close.options(concurrency_group=_HEARING).remote() for worker in actors]
        if closing:
            ray.wait(closing, num_returns=len(closing), timeout=1)
        for worker in actors:
            ray.kill(worker)


class _Ear:
    """Hears how far workers are, and which parts nobody is known to be at."""

    def __init__(self, actors: list[Any], progress: Progress) -> None:
        self._actors, self._progress = actors, progress
        self._asked: dict[Any, Any] = {}
        #: Start of a part that is out -> units of it that were reported; when it was last heard of.
        self._units: dict[int, int] = {}
        self._heard: dict[int, float] = {}
        self._present = 0
        self._listened = 0.0

    def expect(self, start: int) -> None:
        self._units.setdefault(start, 0)
        self._heard[start] = time.monotonic()

    def finish(self, start: int, units: int) -> None:
        self._report(start, units)
        del self._units[start], self._heard[start]

    def listen(self) -> None:
        """Takes the answers that have come, and asks again; waits for none."""
        now = time.monotonic()
        if now - self._listened < _LOOK:
            return
        self._listened = now
        asked = {answer: worker for worker, answer in self._asked.items()}
        ready = ray.wait(list(asked), num_returns=len(asked), timeout=0)[0] if asked else []
        self._present = 0
        for answer in ready:
            del self._asked[asked[answer]]
            with contextlib.suppress(ray.exceptions.RayError):  # it has just died, and is started again
                start, units = ray.get(answer)
                self._present += 1
                if start in self._units:
                    self._heard[start] = now
                    self._report(start, units)
        for worker in self._actors:
            if worker not in self._asked:
                self._asked[worker] = worker.heard.options(concurrency_group=_HEARING).remote()
        self._progress.advance(0, self._note)

    def unheard(self) -> list[int]:
        """Lists the parts that a worker has which does not answer, as one that waits for a machine."""
        now = time.monotonic()
        silent = [start for start, heard in self._heard.items() if now - heard > _PATIENCE]
        for start in silent:
            self._heard[start] = now
        return silent

    @property
    def _note(self) -> str:
        return f"{self._present} of {len(self._actors)} workers"

    def _report(self, start: int, units: int) -> None:
        # A worker that was started again does again what it had reported.
        more = max(0, units - self._units[start])
        self._units[start] += more
        self._progress.advance(more, self._note)


@contextlib.contextmanager
def _told() -> Iterator[None]:
    """Says in one sentence what ended a worker; an error that the model or an attack raised is raised as it was."""
    remedy = "give fewer workers or larger machines, and go on with the record by --resume"
    try:
        yield
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, InputError):
            raise InputError(str(error.cause)) from error
        if isinstance(error.cause, MemoryError) or type(error.cause).__name__ == "ResourceExhaustedError":
            raise InputError(f"a worker ran out of memory: {remedy}.") from error
        if isinstance(error.cause, ray.exceptions.RaySystemError):
            reason = first_line(error.cause).removeprefix("System error: ")
            raise InputError(
                f"a worker cannot read what was sent to it ({reason}): install the modules of your attacks on all "
                "machines."
            ) from error
        raise
    except ray.exceptions.OutOfMemoryError as error:
        raise InputError(f"a worker ran out of memory: {remedy}.") from error
    except ray.exceptions.RayActorError as error:
        raise InputError(f"a worker died {_RESTARTS + 1} times, as for lack of memory: {remedy}.") from error
