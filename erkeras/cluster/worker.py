"""A worker: a process of Ray's that has loaded a model, and attacks the parts of the images that it is given.

Ray makes an actor of `Worker`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.util
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
import tensorflow as tf

from erkeras import attacks, saved
from erkeras.attacks import Attack, Victim
from erkeras.data import Split
from erkeras.errors import InputError
from erkeras.evaluation.attacker import Finished, Look, attack_part, look_at
from erkeras.evaluation.subject import Subject
from erkeras.processors import threads_of_an_operation
from erkeras.progress import Progress


@dataclass(frozen=True)
class Plan:
    """Holds what a worker has to know. It travels to each worker once.

    Attributes:
        subject: the model, found; its files are below.
        digest: of the model.
        files: path, below the folder that the model's file is in -> bytes.
        sources: path of a module of the user's own -> bytes; others are installed.
        with_detector: attack the detector too.
        attacks, seed, internal_batch: as for an `Attacker`.
        jit_compile: as for a `Victim`.
        first: the images by which the model is looked at.
        threads, gpus: of each worker.
        folder: where it may write; None for the system's own.
    """

    subject: Subject
    digest: str | None
    files: dict[str, bytes]
    sources: dict[str, bytes]
    with_detector: bool
    attacks: tuple[Attack, ...]
    seed: int
    internal_batch: int
    jit_compile: bool | str
    first: Split
    threads: int
    gpus: int
    folder: str | None


class Worker:
    """Attacks parts of the images, by a model that it loads once.

    Its methods take the plan as a list, of a reference to a `Plan`, so that Ray does not fetch it each time, and of the
    folders in which who sent it finds modules.
    """

    def __init__(self) -> None:
        self._at_work = AtWork()
        self._loaded: tuple[Plan, Victim, Look] | None = None
        self._sources: tempfile.TemporaryDirectory[str] | None = None

    def look(self, plan: list[Any]) -> Look:
        """Looks at the model; see `Attacker.begin`."""
        return self._load(plan)[2]

    def attack(self, plan: list[Any], start: int, part: Split) -> Finished:
        """Takes a part of the images through all attacks; see `Attacker.attack`."""
        self._at_work.start, self._at_work.units = start, 0
        known, victim, _ = self._load(plan)
        return attack_part(victim, start, part, known.attacks, known.seed, known.internal_batch, self._at_work)

    def heard(self) -> tuple[int | None, int]:
        """Tells which part it is at, and how many units of work of it are done."""
        return self._at_work.start, self._at_work.units

    def close(self) -> None:
        """Removes what it has written."""
        if self._sources:
            self._sources.cleanup()

    def _load(self, sent: list[Any]) -> tuple[Plan, Victim, Look]:
        """The plan, the model, and what was seen of it."""
        if self._loaded is None:
            reference, paths = sent
            sys.path += [path for path in paths if path not in sys.path]  # on the same machine, or the same disk
            plan: Plan = ray.get(reference)
            _prepare_tensorflow(plan.threads, plan.gpus)
            if plan.sources:
                self._sources = tempfile.TemporaryDirectory(prefix="erkeras-", dir=plan.folder)
                _unpack(plan.sources, Path(self._sources.name))
                sys.path.insert(0, self._sources.name)
            victim = attacks.as_victim(load_model(plan), plan.jit_compile)
            self._loaded = plan, victim, look_at(victim, plan.first, plan.attacks, plan.internal_batch)
        return self._loaded


class AtWork(Progress):
    """Remembers how far the part at hand is.

    Attributes:
        start: position of the part's first image; None before the first part.
        units: of work that are done.
    """

    def __init__(self) -> None:
        self.start: int | None = None
        self.units = 0

    def advance(self, units: int, note: str = "") -> None:
        self.units += units


def pack(subject: Subject) -> dict[str, bytes]:
    """Reads the files that a worker needs of a model: what is loaded, and the detector beside it."""
    assert subject.file is not None
    home = subject.file.parent
    paths = [path for path in sorted(subject.file.rglob("*")) if path.is_file()] or [subject.file]
    detector = home / saved.DETECTOR
    if subject.card and subject.card.detector and detector.is_file():
        paths.append(detector)
    return {path.relative_to(home).as_posix(): path.read_bytes() for path in paths}


def pack_modules(names: Sequence[str]) -> dict[str, bytes]:
    """Reads the modules that lie in the working folder, with the packages that they are in."""
    here, found = Path.cwd(), {}
    for name in names:
        spec = importlib.util.find_spec(name.partition(".")[0])
        origin = Path(spec.origin) if spec and spec.origin else None
        if origin is None or not origin.is_relative_to(here) or "site-packages" in origin.parts:
            continue
        is_package = origin.name == "__init__.py"
        home = origin.parent.parent if is_package else origin.parent
        for path in sorted(origin.parent.rglob("*.py")) if is_package else [origin]:
            found[path.relative_to(home).as_posix()] = path.read_bytes()
    return found


def load_model(plan: Plan) -> Any:
    """Loads the model that a plan brought, once it is known to be the one of the evaluation.

    Raises:
        InputError: where it is another one.
    """
    with _unpacked(plan.files, plan.folder) as folder:
        assert plan.subject.file is not None
        subject = dataclasses.replace(plan.subject, file=folder / plan.subject.file.name)
        if subject.digest != plan.digest:
            raise InputError(f"{subject.name} is not as it was when the evaluation began: begin again.")
        return subject.load(plan.with_detector)


@contextlib.contextmanager
def _unpacked(files: dict[str, bytes], home: str | None) -> Iterator[Path]:
    """Files on disk while they are loaded; a worker that is killed later leaves none."""
    with tempfile.TemporaryDirectory(prefix="erkeras-", dir=home) as folder:
        _unpack(files, Path(folder))
        yield Path(folder)


def _unpack(files: dict[str, bytes], folder: Path) -> None:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def _prepare_tensorflow(threads: int, gpus: int) -> None:
    """Says what TensorFlow reads at its first operation."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if gpus:
        os.environ["TF_FORCE_GPU_ALLOW_GROWTH"] = "true"
    else:
        os.environ["CUDA_VISIBLE_DEVICES"] = ""  # a GPU that Ray gave to nobody
    tf.config.threading.set_intra_op_parallelism_threads(threads_of_an_operation(threads))
    tf.config.threading.set_inter_op_parallelism_threads(threads)
