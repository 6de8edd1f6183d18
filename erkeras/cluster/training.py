"""Training on the machines of a Ray cluster, by Ray Train: it starts the workers, and starts them again."""

from __future__ import annotations

import os
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import lazy_loader

from erkeras import saved, training
from erkeras.cluster.connection import check_versions, connected, first_line
from erkeras.errors import InputError, UnavailableError
from erkeras.files import make_folder
from erkeras.progress import Progress
from erkeras.recipes import Job
from erkeras.saved import Card

ray: Any = lazy_loader.load("ray")

#: How often the workers are started again after one has died.
_RESTARTS = 8
#: Seconds between two looks at what the chief reports, and between two of its reports.
_LOOKS = 0.5


def train_on_cluster(
    job: Job, output: Path, cluster: str | None, resume: bool = False, progress: Progress | None = None
) -> Card:
    """Does a whole job as `train` does, by `job.workers` workers that Ray Train starts.

    When a worker dies, Ray Train starts all again, and they go on from the last checkpoint.

    Args:
        job: what is asked for. Each worker has as many GPUs as `job.devices` says, where the cluster has any.
        output: the model's folder; in a folder that all machines of the cluster share.
        cluster: as for `connected`: HOST:PORT, "auto", or None for workers on this machine.
        resume, progress: as for `train`.

    Returns:
        The card of the saved model.

    Raises:
        InputError: as `train`; without Ray, where there is no cluster, or it has too few processors or GPUs.
        UnavailableError: where workers die too often.
    """
    job, output = training.pinned(job), output.absolute()
    if training.check_output(output, job, resume):
        return saved.read_card(output)
    with connected(cluster), tempfile.TemporaryDirectory(prefix="erkeras-") as folder:
        check_versions()
        gpus = _gpus(job)
        make_folder(output.parent)
        messages = ray.remote(num_cpus=0)(_Messages).remote()
        over = threading.Event()
        listener = threading.Thread(target=_listen, args=(messages, progress or Progress(), over), daemon=True)
        listener.start()
        try:
            _run(job, output, messages, gpus, folder)
        finally:
            over.set()
            listener.join(10)
        refusal = ray.get(messages.refusal.remote())
    if refusal:
        raise InputError(refusal)
    if not output.exists():
        raise InputError(f"{output} is on another machine of the cluster: give an --output that all machines share.")
    return saved.read_card(output)


def _run(job: Job, output: Path, messages: Any, gpus: int, folder: str) -> None:
    try:
        from ray import train  # takes seconds
        from ray.train.tensorflow import TensorflowTrainer
    except ImportError as error:
        raise InputError(
            f"Ray Train cannot be loaded ({first_line(error)}): pip install 'erkeras[cluster]'."
        ) from error
    resources = {"CPU": 1.0, **({"GPU": float(gpus)} if gpus else {})}
    trainer = TensorflowTrainer(
        _work,
        train_loop_config={
            "job": job,
            "output": str(output),
            "messages": messages,
            "folder": os.getcwd(),
            "path": [entry for entry in sys.path if entry],
        },
        scaling_config=train.ScalingConfig(num_workers=job.workers, use_gpu=gpus > 0, resources_per_worker=resources),
        run_config=train.RunConfig(
            name="erkeras", storage_path=folder, failure_config=train.FailureConfig(max_failures=_RESTARTS)
        ),
    )
    try:
        trainer.fit()
    except Exception as error:  # Ray Train raises what it likes
        raise UnavailableError(
            f"the workers ended {_RESTARTS + 1} times, or could not be started ({first_line(error)}): look at the "
            "machines of the cluster, and go on with --resume."
        ) from error


def _gpus(job: Job) -> int:
    """Says how many GPUs each worker gets.

    Raises:
        InputError: for a cluster that has too little.
    """
    has = ray.cluster_resources()
    cores, found = int(has.get("CPU", 0)), int(has.get("GPU", 0))
    if job.workers > cores:
        raise InputError(f"{job.workers} workers were asked for and the cluster has {cores} cores: give fewer workers.")
    if not found:
        return 0
    each = found // job.workers if job.devices is None else job.devices
    if not each or each * job.workers > found:
        raise InputError(
            f"{job.workers} workers of {each or 1} GPUs were asked for and the cluster has {found}: give fewer workers."
        )
    return each


def _work(config: dict[str, Any]) -> None:
    """Trains as one worker of Ray Train, which has set TF_CONFIG."""
    os.environ.pop("TF_USE_LEGACY_KERAS", None)  # Ray Train sets it for tf.keras, which nothing here uses
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    messages = config["messages"]
    if ray.get(messages.refusal.remote()):
        return
    for entry in config["path"]:
        if entry not in sys.path:
            sys.path.append(entry)
    if os.path.isdir(config["folder"]):
        os.chdir(config["folder"])  # where modules and files of the user's own are
    chief = train_context().get_world_rank() == 0
    reporter = _Reporter(messages) if chief else None
    try:
        if chief and not Path(config["output"]).parent.is_dir():
            raise InputError(f"{config['output']} is in a folder that the workers do not see: give one that all share.")
        training.train(config["job"], Path(config["output"]), resume=True, progress=reporter)
    except UnavailableError:
        raise  # another worker is gone: Ray Train starts all again
    except InputError as error:
        ray.get(messages.refuse.remote(str(error)))
    finally:
        if reporter:
            reporter.send()


def train_context() -> Any:
    """Gives what Ray Train tells a worker about itself."""
    from ray import train

    return train.get_context()


class _Messages:
    """An actor beside the command: what the chief reports, and why nothing can be trained."""

    def __init__(self) -> None:
        self._reports: list[tuple[Any, ...]] = []
        self._refusal = ""

    def report(self, reports: list[tuple[Any, ...]]) -> None:
        self._reports += reports

    def reports(self) -> list[tuple[Any, ...]]:
        found, self._reports = self._reports, []
        return found

    def refuse(self, sentence: str) -> None:
        self._refusal = self._refusal or sentence

    def refusal(self) -> str:
        return self._refusal


class _Reporter(Progress):
    """Sends what the chief hears to the command, twice a second at most."""

    def __init__(self, messages: Any) -> None:
        self._messages, self._sent = messages, 0.0
        self._waiting: list[tuple[Any, ...]] = []

    def stage(self, name: str, total: int) -> None:
        self._waiting.append(("stage", name, total))
        self.send()

    def advance(self, units: int, note: str = "") -> None:
        self._waiting.append(("advance", units, note))
        if time.monotonic() > self._sent + _LOOKS:
            self.send()

    def send(self) -> None:
        self._messages.report.remote(self._waiting)
        self._waiting, self._sent = [], time.monotonic()


def _listen(messages: Any, progress: Progress, over: threading.Event) -> None:
    """Tells the command's progress what the chief reports, until all is over."""
    while True:
        last = over.wait(_LOOKS)
        for what, *arguments in ray.get(messages.reports.remote()):
            getattr(progress, what)(*arguments)
        if last:
            return
