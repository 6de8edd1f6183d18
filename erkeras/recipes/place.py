"""TF_CONFIG: who trains together, as TensorFlow, Kubeflow, Slurm's scripts and Ray Train say it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from erkeras.errors import InputError

_ALLOWED = 'give {"cluster": {"worker": ["HOST:PORT", ...]}, "task": {"type": "worker", "index": 0}}, or unset it.'
_KINDS = ("chief", "worker")


@dataclass(frozen=True)
class Place:
    """Holds the place of a process among those that train together.

    Attributes:
        worker: its number; 0 is the chief.
        addresses: HOST:PORT of each.
    """

    worker: int
    addresses: tuple[str, ...]

    @property
    def workers(self) -> int:
        return len(self.addresses)


def find_place(environment: Mapping[str, str]) -> Place | None:
    """Finds this process' place in TF_CONFIG, without TensorFlow.

    Args:
        environment: as `os.environ`.

    Returns:
        None where TF_CONFIG is not set, or names one worker.

    Raises:
        InputError: where it cannot be read.
    """
    text = environment.get("TF_CONFIG", "")
    if not text.strip():
        return None
    try:
        config = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"TF_CONFIG is no JSON: {_ALLOWED}") from error
    cluster, task = _part(config, "cluster"), _part(config, "task")
    others = set(cluster) - set(_KINDS)
    if others:
        raise InputError(f"TF_CONFIG's cluster has {', '.join(sorted(map(str, others)))} in it: {_ALLOWED}")
    lists = [cluster.get(kind, []) for kind in _KINDS]
    if not all(isinstance(found, list) for found in lists) or len(lists[0]) > 1 or not any(lists):
        raise InputError(f"TF_CONFIG's cluster is no list of workers, with at most one chief: {_ALLOWED}")
    addresses = [address for found in lists for address in found]
    for address in addresses:
        host, _, port = address.rpartition(":") if isinstance(address, str) else ("", "", "")
        if not host or not port.isascii() or not port.isdigit() or not 0 < int(port) < 65536:
            raise InputError(f"TF_CONFIG's cluster has the address {address!r}: {_ALLOWED}")
    if len(set(addresses)) < len(addresses):
        raise InputError(f"TF_CONFIG's cluster has an address twice: {_ALLOWED}")
    kind, index = task.get("type"), task.get("index")
    if kind not in _KINDS or type(index) is not int or not 0 <= index < len(cluster.get(kind, [])):
        raise InputError(f"TF_CONFIG's task is {kind} {index}, which is not in its cluster: {_ALLOWED}")
    if len(addresses) == 1:
        return None
    return Place(index + (len(lists[0]) if kind == "worker" else 0), tuple(addresses))


def _part(config: Any, name: str) -> dict[str, Any]:
    found = config.get(name) if isinstance(config, dict) else None
    if not isinstance(found, dict):
        raise InputError(f"TF_CONFIG has no {name}: {_ALLOWED}")
    return found
