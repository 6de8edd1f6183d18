"""The way to Ray: one of this machine's own, which ends with its user, or a cluster that runs already."""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import os
import re
import tempfile
from collections.abc import Iterator
from importlib.metadata import version
from typing import Any

import grpc
import lazy_loader

from erkeras.cluster.shares import Machine
from erkeras.errors import InputError
from erkeras.processors import available_processors

ray: Any = lazy_loader.load("ray")

#: Packages that must be the same everywhere: the record says which made it.
_PACKAGES = ("erkeras", "tensorflow", "keras", "numpy")
#: Nobody is told of its use; what it prints about GPUs is of no use.
_QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}
#: Seconds in which an address, and then each machine of a cluster, must answer.
_ANSWER, _START = 5, 120
#: Bytes of a folder in which Ray's own has room: the path of a socket may have 107, and 88 of them are added.
_LONGEST_FOLDER = 19


@contextlib.contextmanager
def connected(cluster: str | None) -> Iterator[str | None]:
    """Connects this process to Ray while the block runs.

    Gives the folder in which workers may write, which goes with the block; None for the system's own.

    Args:
        cluster: HOST:PORT, or "auto" for the cluster that this machine belongs to. None starts Ray on this machine, on
            its loopback alone, and ends it with the block. A program that is connected already stays so.

    Raises:
        InputError: without Ray, where there is no cluster, or it has another version of Ray or Python.
    """
    if importlib.util.find_spec("ray") is None:
        raise InputError("workers were asked for and Ray is not installed: pip install 'erkeras[cluster]'.")
    address = None if cluster is None else _address(cluster)
    with _environment(_QUIET):
        if ray.is_initialized():
            yield None
            return
        # It would print the death of every worker on standard output.
        quiet = _replaced(ray._private.worker, "print_to_stdstream", lambda *_, **__: None)
        with quiet, _started_here() if address is None else _joined(address) as folder:
            yield folder


def machines() -> list[Machine]:
    """Lists the machines of the cluster with what workers may take of each."""
    found = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    return [Machine(int(resources.get("CPU", 0)), int(resources.get("GPU", 0))) for resources in found]


def check_versions() -> None:
    """Checks that every machine of the cluster has the packages that this one has, in the same versions.

    Raises:
        InputError: for the first that has not, or does not answer.
    """
    here = {name: version(name) for name in _PACKAGES}

    def look(names: tuple[str, ...]) -> dict[str, str]:
        # Travels by value, to machines without erkeras too.
        import importlib.metadata as metadata

        found = {}
        for name in names:
            try:
                found[name] = metadata.version(name)
            except metadata.PackageNotFoundError:
                found[name] = "none"
        return found

    task = ray.remote(num_cpus=0)(look)
    strategy = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy
    nodes = [node for node in ray.nodes() if node["Alive"]]
    answers = [
        task.options(scheduling_strategy=strategy(node["NodeID"], soft=False)).remote(_PACKAGES) for node in nodes
    ]
    for node, answer in zip(nodes, answers, strict=True):
        machine = node["NodeManagerHostname"]
        try:
            there = ray.get(answer, timeout=_START)
        except ray.exceptions.RayError as error:
            raise InputError(
                f"the machine {machine} of the cluster does not answer ({first_line(error)}): repair it, or remove it "
                "from the cluster."
            ) from error
        differing = [f"{name} {there[name]} (here {here[name]})" for name in _PACKAGES if there[name] != here[name]]
        if differing:
            raise InputError(
                f"the machine {machine} of the cluster has {', '.join(differing)}: install the same on all machines."
            )


def _address(cluster: str) -> str:
    if cluster != "auto" and not re.fullmatch(r"[^\s:/]+:\d{1,5}|\[[0-9a-fA-F:]+\]:\d{1,5}", cluster):
        raise InputError(
            f"{cluster!r} is no address of a Ray cluster: give HOST:PORT as ray start --head prints it, or auto."
        )
    return cluster


@contextlib.contextmanager
def _started_here() -> Iterator[str]:
    with contextlib.ExitStack() as stack:
        folder = tempfile.gettempdir() if len(tempfile.gettempdir()) < _LONGEST_FOLDER - 20 else "/tmp"
        folder = stack.enter_context(
            tempfile.TemporaryDirectory(prefix="erkeras-", dir=folder, ignore_cleanup_errors=True)
        )
        stack.callback(ray.shutdown)
        with _loopback_alone():
            _init(
                "Ray cannot be started on this machine",
                "make room, or leave the workers out",
                address="local",
                num_cpus=available_processors(),
                include_dashboard=False,
                _node_ip_address="127.0.0.1",
                _temp_dir=folder,
            )
        yield folder


@contextlib.contextmanager
def _joined(address: str) -> Iterator[None]:
    address = _found(address)
    _check_listening(address)
    with contextlib.ExitStack() as stack:
        stack.callback(ray.shutdown)
        _init(
            f"the Ray cluster {address} cannot be joined from this machine",
            "see that it runs, that ray start --address was run here, that both have the same Ray and Python, and that "
            "RAY_AUTH_MODE and its token are the cluster's",
            address=address,
        )
        yield


def _init(failure: str, remedy: str, **options: Any) -> None:
    try:
        ray.init(logging_level=logging.ERROR, log_to_driver=False, **options)
    except Exception as error:  # Ray raises what it likes
        raise InputError(f"{failure} ({first_line(error)}): {remedy}.") from error


def _found(address: str) -> str:
    """Finds the address that stands behind "auto"."""
    if address != "auto":
        return address
    try:
        found: str | None = ray._private.services.canonicalize_bootstrap_address(address)
    except (ConnectionError, ValueError):
        found = None
    if found is None:
        raise InputError("this machine is in no Ray cluster: run ray start on it, or give --cluster HOST:PORT.")
    return found


def _check_listening(address: str) -> None:
    """Asks, for seconds, what Ray itself would ask for minutes."""
    with grpc.insecure_channel(address, options=[("grpc.enable_http_proxy", 0)]) as channel:
        try:
            grpc.channel_ready_future(channel).result(timeout=_ANSWER)
        except grpc.FutureTimeoutError as error:
            raise InputError(
                f"no Ray cluster answers at {address}: give HOST:PORT as ray start --head prints it, or auto."
            ) from error


@contextlib.contextmanager
def _loopback_alone() -> Iterator[None]:
    """Has Ray listen on the loopback, as it does by itself on macOS and Windows."""
    with (
        _environment({"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}),
        _replaced(ray._private.ray_constants, "ENABLE_RAY_CLUSTER", False),
    ):
        yield


@contextlib.contextmanager
def _replaced(module: Any, name: str, value: Any) -> Iterator[None]:
    before = getattr(module, name, None)
    setattr(module, name, value)
    try:
        yield
    finally:
        setattr(module, name, before)


@contextlib.contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def first_line(error: BaseException) -> str:
    """Gives the first line of what an error of Ray says, which has many."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0].rstrip(".")[:200]
