"""The folder of a saved model, found and checked. Nothing here loads TensorFlow before a model is loaded.

NAME/1/             SavedModel, in TF Serving's layout; NAME/2/ and so on, where erkeras export wrote more
NAME/model.keras    the Keras model, to train on or to attack
NAME/detector.npz   the detector's arrays, where there is one
NAME/card.json      what it is, how it was trained, what was measured, the digest of every file of the model
NAME/README.md      the same for people
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import zipfile
from pathlib import Path

from erkeras.errors import InputError
from erkeras.files import write_text
from erkeras.saved.card import CARD, Card, EvaluationEntry, card_text, parse_card
from erkeras.saved.readme import render_card

MODEL, DETECTOR, README = "model.keras", "detector.npz", "README.md"


def digests(folder: Path) -> dict[str, str]:
    """Takes the SHA-256 of every file below a folder, by its path."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def fingerprint(path: Path) -> str:
    """Takes the SHA-256 of a model's file, or of all files of its folder and their names."""
    if path.is_file():
        return hashlib.sha256(path.read_bytes()).hexdigest()
    return hashlib.sha256(json.dumps(digests(path)).encode()).hexdigest()


def read_card(folder: Path) -> Card:
    """Reads the card of a saved model, once every file that it lists is found whole.

    Raises:
        InputError: where the folder is missing, not one of ours, of another format, or truncated.
    """
    if not folder.is_dir():
        raise InputError(f"{folder} does not exist: give the folder of a saved model, as erkeras train writes it.")
    if not (folder / CARD).is_file():
        raise InputError(f"{folder} has no {CARD}: give the folder of a saved model, as erkeras train writes it.")
    card = parse_card((folder / CARD).read_bytes(), folder / CARD)
    for name, digest in card.files.items():
        missing = not (folder / name).is_file()
        if missing or fingerprint(folder / name) != digest:
            state = "is missing" if missing else "is not as it was written"
            raise InputError(f"{folder / name} {state}: train the model again, or copy its folder again.")
    return card


def write_card(folder: Path, card: Card) -> None:
    """Writes a card into a model's folder, for programs and for people."""
    write_text(folder / README, render_card(card))
    write_text(folder / CARD, card_text(card))


def add_evaluation(folder: Path, evaluation: EvaluationEntry) -> None:
    """Writes the figures of a record, which lies inside a model's folder, into its card.

    One of the same record takes the place of the one before it.
    """
    card = read_card(folder)
    others = [found for found in card.evaluations if found.record != evaluation.record]
    write_card(folder, dataclasses.replace(card, evaluations=(*others, evaluation)))


def find_model(path: Path) -> tuple[str, Path, Card | None]:
    """Finds what there is to attack at a path, without TensorFlow.

    Returns:
        ("keras", the .keras file, card or None) or ("saved_model", its folder, None).

    Raises:
        InputError: where there is no model, or a damaged one.
    """
    if path.suffix == ".keras":
        check_keras_file(path)
        return "keras", path, None
    if (path / CARD).is_file():
        return "keras", path / MODEL, read_card(path)
    if (path / "saved_model.pb").is_file():
        return "saved_model", path, None
    newest = newest_version(path)
    if newest:
        return "saved_model", path / str(newest), None
    state = "has no model" if path.exists() else "does not exist"
    raise InputError(f"{path} {state}: give a folder that erkeras train wrote, a .keras file or a SavedModel.")


def newest_version(folder: Path) -> int:
    """Finds the highest number of a SavedModel in a folder, which a server takes by default; 0 where there is none."""
    found = (place.parent.name for place in folder.glob("*/saved_model.pb"))
    return max((int(name) for name in found if name.isdigit()), default=0)


def new_version(folder: Path, version: int | None) -> Path:
    """Tells where a version of a model is to be written; by default one more than the newest.

    Raises:
        InputError: where there is one already.
    """
    following = newest_version(folder) + 1
    place = folder / str(version or following)
    if place.exists():
        raise InputError(f"{place} exists: give another --version, {following} for one.")
    return place


def check_keras_file(path: Path) -> None:
    """Checks a .keras archive; raises InputError where it is missing or not whole."""
    if not path.is_file():
        raise InputError(f"{path} does not exist: give a .keras file.")
    try:
        with zipfile.ZipFile(path) as archive:
            whole = archive.testzip() is None and "config.json" in archive.namelist()
    except (OSError, zipfile.BadZipFile):
        whole = False
    if not whole:
        raise InputError(f"{path} is not a whole .keras file: save the model again.")
