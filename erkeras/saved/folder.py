"""The folder of a saved model, checked and opened. Nothing here imports TensorFlow before a model is loaded.

NAME/1/             SavedModel, in TF Serving's layout; NAME/2/ and so on, where erkeras export wrote more
NAME/model.keras    the ERClassifier, to train on or to attack; or a DefenseGAN
NAME/detector.npz   the detector's arrays; a DefenseGAN has none
NAME/card.json      what it is, how it was trained, what was measured, the digest of every file of the model
NAME/README.md      the same for people
"""

from __future__ import annotations

import hashlib
import json
import re
import zipfile
from pathlib import Path
from typing import Any

from erkeras.errors import InputError
from erkeras.files import write_text

CARD = "card.json"
FORMAT = 2


def digests(folder: Path) -> dict[str, str]:
    """SHA-256 of every file below a folder, by its path."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def fingerprint(path: Path) -> str:
    """SHA-256 of a model's file, or of all files of its folder and their names."""
    if path.is_file():
        return hashlib.sha256(path.read_bytes()).hexdigest()
    return hashlib.sha256(json.dumps(digests(path)).encode()).hexdigest()


def read_card(folder: Path) -> dict[str, Any]:
    """The card of a saved model, once every file that it lists is found whole.

    Raises:
        InputError: where the folder is missing, not one of ours, of another format, or truncated.
    """
    if not folder.is_dir():
        raise InputError(f"{folder} does not exist: give the folder of a saved model, as erkeras train writes it.")
    if not (folder / CARD).is_file():
        raise InputError(f"{folder} has no {CARD}: give the folder of a saved model, as erkeras train writes it.")
    try:
        card = json.loads((folder / CARD).read_text())
        number, files = card["format"], card["files"]
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{folder / CARD} cannot be read: train the model again, or copy its folder again.") from error
    if number != FORMAT:
        raise InputError(f"{folder} has format {number} and this erkeras reads {FORMAT}: train the model again.")
    for name, digest in files.items():
        missing = not (folder / name).is_file()
        if missing or fingerprint(folder / name) != digest:
            state = "is missing" if missing else "is not as it was written"
            raise InputError(f"{folder / name} {state}: train the model again, or copy its folder again.")
    return card


def add_evaluation(folder: Path, evaluation: dict[str, Any]) -> None:
    """Writes the figures of a record, which lies inside a model's folder, into its card.

    Args:
        folder: of the model.
        evaluation: `title`, `dataset`, `split`, `seed`, `threat`, `summary` and `record` (its path in the folder). One
            of the same record takes the place of the one before it.
    """
    from erkeras.serving.card import render_card

    card = read_card(folder)
    others = [found for found in card.get("evaluations", []) if found["record"] != evaluation["record"]]
    card["evaluations"] = [*others, evaluation]
    write_text(folder / "README.md", render_card(card))
    write_text(folder / CARD, json.dumps(card, indent=1))


def find_model(path: Path) -> tuple[str, Path, dict[str, Any] | None]:
    """What there is to attack at a path, found without TensorFlow.

    Returns:
        ("keras", the .keras file, card or None) or ("saved_model", its folder, None).

    Raises:
        InputError: where there is no model, or a damaged one.
    """
    if path.suffix == ".keras":
        check_keras_file(path)
        return "keras", path, None
    if (path / CARD).is_file():
        return "keras", path / "model.keras", read_card(path)
    if (path / "saved_model.pb").is_file():
        return "saved_model", path, None
    newest = newest_version(path)
    if newest:
        return "saved_model", path / str(newest), None
    state = "has no model" if path.exists() else "does not exist"
    raise InputError(f"{path} {state}: give a folder that erkeras train wrote, a .keras file or a SavedModel.")


def newest_version(folder: Path) -> int:
    """The highest number of a SavedModel in a folder, which a server takes by default; 0 where there is none."""
    found = (place.parent.name for place in folder.glob("*/saved_model.pb"))
    return max((int(name) for name in found if name.isdigit()), default=0)


def new_version(folder: Path, version: int | None) -> Path:
    """Where a version of a model is to be written; by default one more than the newest.

    Raises:
        InputError: where there is one already.
    """
    following = newest_version(folder) + 1
    place = folder / str(version or following)
    if place.exists():
        raise InputError(f"{place} exists: give another --version, {following} for one.")
    return place


def check_keras_file(path: Path) -> None:
    """Raises InputError where a file is missing or not a whole .keras archive."""
    if not path.is_file():
        raise InputError(f"{path} does not exist: give a .keras file.")
    try:
        with zipfile.ZipFile(path) as archive:
            whole = archive.testzip() is None and "config.json" in archive.namelist()
    except (OSError, zipfile.BadZipFile):
        whole = False
    if not whole:
        raise InputError(f"{path} is not a whole .keras file: save the model again.")


def load_model(kind: str, path: Path) -> Any:
    """Loads what `find_model` found; a .keras file in Keras' safe mode.

    Raises:
        InputError: where Keras or TensorFlow cannot load it.
    """
    import keras
    import tensorflow as tf

    import erkeras.models  # registers ERClassifier and its parts  # noqa: F401

    try:
        if kind == "keras":
            return keras.saving.load_model(path, compile=False, safe_mode=True)
        return tf.saved_model.load(str(path))
    except (ValueError, TypeError, OSError, KeyError) as error:
        missing = re.search(r"Could not locate (?:class|function) '(\w+)'", str(error))
        if missing:
            raise InputError(
                f"{path} is made of {missing[1]}, which is not registered: --import the module that defines it."
            ) from error
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise InputError(f"{path} cannot be loaded ({reason[:200]}): give a model that this Keras can read.") from error
