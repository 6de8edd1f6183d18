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
from pathlib import Path, PurePosixPath
from typing import Any

from erkeras.errors import InputError
from erkeras.files import open_regular, read_regular, write_text
from erkeras.saved.card import CARD, Card, EvaluationEntry, card_text, parse_card
from erkeras.saved.readme import render_card

#: Bytes that a card may have. An archive may unpack to so many, or to so many times its own.
_MOST, _MOST_TIMES = 2**26, 20
MODEL, DETECTOR, README = "model.keras", "detector.npz", "README.md"


def digests(folder: Path) -> dict[str, str]:
    """Takes the SHA-256 of every file below a folder, by its path."""
    return {path.relative_to(folder).as_posix(): _of_file(path) for path in sorted(folder.rglob("*")) if path.is_file()}


def fingerprint(path: Path) -> str:
    """Takes the digest of a model, by which records name it.

    Args:
        path: of a .keras file: the SHA-256 of its weights and its configuration, which two identical trainings share,
            whenever they were saved. Of a SavedModel's folder: that of all files and their names.
    """
    if not path.is_file():
        return hashlib.sha256(json.dumps(digests(path)).encode()).hexdigest()
    try:
        with open_regular(path) as file, zipfile.ZipFile(file) as archive:
            found = hashlib.sha256(_configuration(archive.read("config.json")))
            for name in sorted(archive.namelist()):
                if name not in ("config.json", "metadata.json"):
                    found.update(name.encode(errors="surrogateescape"))
                    with archive.open(name) as member:
                        found.update(hashlib.file_digest(member, "sha256").digest())  # type: ignore[arg-type]
    except Exception:  # no .keras file, or a damaged one
        return _of_file(path)
    return found.hexdigest()


def is_fingerprint(digest: str | None, path: Path) -> bool:
    """Tells whether a digest names a model; older records have the SHA-256 of its .keras file."""
    return digest == fingerprint(path) or (path.is_file() and digest == _of_file(path))


def _of_file(path: Path) -> str:
    try:
        with open_regular(path) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}): give a file that can be.") from error


def _configuration(text: bytes) -> bytes:
    """A configuration as bytes, with Keras' shared_object_ids, which are addresses of memory, numbered."""
    numbers: dict[int, int] = {}

    def numbered(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        return {
            key: numbers.setdefault(value, len(numbers)) if key == "shared_object_id" else value for key, value in pairs
        }

    return json.dumps(json.loads(text, object_pairs_hook=numbered), sort_keys=True).encode()


def read_card(folder: Path) -> Card:
    """Reads the card of a saved model, once every file that it lists is found whole.

    Raises:
        InputError: where the folder is missing, not one of ours, of another format, or truncated.
    """
    if not folder.is_dir():
        raise InputError(f"{folder} does not exist: give the folder of a saved model, as erkeras train writes it.")
    if not (folder / CARD).is_file():
        raise InputError(f"{folder} has no {CARD}: give the folder of a saved model, as erkeras train writes it.")
    try:
        text = read_regular(folder / CARD, _MOST)
    except OSError as error:
        raise InputError(f"{folder / CARD} cannot be read ({error.strerror}): copy its folder again.") from error
    card = parse_card(text, folder / CARD)
    for name, digest in card.files.items():
        if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts or "\0" in name:
            raise InputError(f"{folder / CARD} lists {name!r}, which is not in its folder: copy its folder again.")
        missing = not (folder / name).is_file()
        if missing or _of_file(folder / name) != digest:
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
    versions = _versions(path)
    if versions:
        return "saved_model", versions[max(versions)], None
    state = "has no model" if path.exists() else "does not exist"
    raise InputError(f"{path} {state}: give a folder that erkeras train wrote, a .keras file or a SavedModel.")


def newest_version(folder: Path) -> int:
    """Finds the highest number of a SavedModel in a folder, which a server takes by default; 0 where there is none."""
    return max(_versions(folder), default=0)


def _versions(folder: Path) -> dict[int, Path]:
    """The SavedModels of a folder by number, which may have zeros before it, as in TensorFlow Serving's examples."""
    places = [place.parent for place in sorted(folder.glob("*/saved_model.pb")) if place.is_file()]
    return {int(place.name): place for place in places if place.name.isascii() and place.name.isdecimal()}


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
    """Checks a .keras archive; raises InputError where it is missing, not whole, or unpacks to far more than it has."""
    if not path.is_file():
        state = "is no file" if path.exists() else "does not exist"
        raise InputError(f"{path} {state}: give a .keras file.")
    try:
        with open_regular(path) as file, zipfile.ZipFile(file) as archive:
            members = archive.infolist()
            size = sum(info.file_size for info in members)
            small = size <= max(_MOST, _MOST_TIMES * sum(info.compress_size for info in members))
            whole = small and "config.json" in archive.namelist() and archive.testzip() is None
    except Exception:  # whatever zipfile and its decompressors make of a damaged file
        whole = False
    if not whole:
        raise InputError(f"{path} is not a whole .keras file: save the model again.")
