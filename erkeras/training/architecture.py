"""Computes a digest of a network's layers. Two networks that one function makes have the same digest."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import keras


def architecture_digest(*networks: keras.Model) -> str:
    """Takes the digest of the layers of networks, how they are connected, and the shapes of their weights.

    The names that Keras numbers (`dense_3`) do not count, nor do the values of weights.

    Args:
        *networks: built; of one that has no configuration the weights' shapes alone count.

    Returns:
        A SHA-256, in hexadecimal.
    """
    found = [
        [_configuration(network), [[list(weight.shape), weight.dtype] for weight in network.weights]]
        for network in networks
    ]
    return hashlib.sha256(json.dumps(found, sort_keys=True).encode()).hexdigest()


def _configuration(network: keras.Model) -> Any:
    try:
        # Through JSON, so that tuples are lists.
        found = json.loads(json.dumps(keras.saving.serialize_keras_object(network)))
    except Exception:  # a class of the user's own may raise anything
        return None
    names: dict[str, str] = {}
    _collect(found, names)
    return _renamed(found, names)


def _collect(node: Any, names: dict[str, str]) -> None:
    """Numbers the names of layers, in the order of appearance."""
    parts = list(node.values()) if isinstance(node, dict) else node
    if isinstance(node, dict) and "DTypePolicy" not in str(node.get("class_name")):
        name = node["config"].get("name") if isinstance(node.get("config"), dict) else None
        if isinstance(name, str):
            names.setdefault(name, f"#{len(names)}")
    for part in parts:
        if isinstance(part, (dict, list)):
            _collect(part, names)


def _renamed(node: Any, names: dict[str, str]) -> Any:
    """The same with the numbers, also where other layers refer to a name, and without Keras' addresses of objects."""
    if isinstance(node, dict):
        return {key: _renamed(value, names) for key, value in node.items() if key != "shared_object_id"}
    if isinstance(node, list):
        return [_renamed(value, names) for value in node]
    return names.get(node, node) if isinstance(node, str) else node
