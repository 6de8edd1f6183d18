"""A model from its file."""

from __future__ import annotations

import importlib
import json
import re
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from erkeras.errors import InputError
from erkeras.memory import is_out_of_memory


def load_model(kind: str, path: Path) -> Any:
    """Loads what `find_model` found; a .keras file in Keras' safe mode.

    Raises:
        InputError: where Keras or TensorFlow cannot load it.
    """
    try:
        if kind == "keras":
            _check_sizes(path)
            return keras.saving.load_model(path, compile=False, safe_mode=True)
        return tf.saved_model.load(str(path))
    except Exception as error:  # whatever Keras, HDF5, protobuf and TensorFlow make of a damaged or hostile file
        if is_out_of_memory(error):
            raise
        if "Lambda" in str(error) and "safe" in str(error):
            raise InputError(
                f"{path} has a Lambda layer, which would run code of the file: save the model with a layer class in "
                "its place, and --import the module that registers it."
            ) from error
        missing = re.search(r"Could not locate (?:class|function) '(\w+)'", str(error))
        if missing:
            raise InputError(
                f"{path} is made of {missing[1]}, which is not registered: --import the module that defines it."
            ) from error
        reason = next(iter(str(error).strip().splitlines()), "") or type(error).__name__
        raise InputError(f"{path} cannot be loaded ({reason[:200]}): give a model that this Keras can read.") from error


def import_modules(names: Iterable[str]) -> None:
    """Imports modules of the user's own, which register the Keras classes that a model is made of.

    Raises:
        InputError: for the first that cannot be imported.
    """
    for name in names:
        try:
            importlib.import_module(name)
        except Exception as error:  # a module may raise anything
            reason = next(iter(str(error).strip().splitlines()), "")
            raise InputError(
                f"the module {name!r} cannot be imported ({type(error).__name__}: {reason[:200]}): correct it."
            ) from error


def _check_sizes(path: Path) -> None:
    """Refuses a file whose layers have more numbers than its weights have bytes, before memory is spent on them.

    Raises:
        ValueError: for the first such layer.
    """
    with zipfile.ZipFile(path) as archive:
        most = sum(info.file_size for info in archive.infolist() if info.filename.startswith("model.weights"))
        nodes = [json.loads(archive.read("config.json")).get("config")]
    while nodes:
        node = nodes.pop()
        if isinstance(node, dict):
            for name in ("units", "filters", "output_dim"):
                size = node.get(name)
                if isinstance(size, int) and size > most:
                    raise ValueError(f"it says {name} {size:.3g} and has {most:,} bytes of weights")
            nodes += node.values()
        elif isinstance(node, list):
            nodes += node
