"""Keeps a job's files until it is done, and checks that it may begin."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

from erkeras.errors import InputError
from erkeras.files import check_folder, lock, make_folder, read_regular, unlock, write_text
from erkeras.recipes import Job, Recipe, network_kind
from erkeras.saved import find_model, fingerprint, read_card
from erkeras.versions import __version__

#: Bytes that job.json may have, and its key for the digest of the network.
_MOST, _ARCHITECTURE = 2**20, "architecture"


def training_folder(output: Path) -> Path:
    """Names where the checkpoints of an unfinished job live: beside the output, hidden."""
    return output.parent / f".{output.name}.training"


def pinned(job: Job) -> Job:
    """Notes in a job whose network is a file which weights it starts from, by their fingerprint.

    Raises:
        InputError: where there is no whole file, or it is not the one whose fingerprint the job has.
    """
    recipe = job.recipe
    if network_kind(recipe.network) != "file":
        return job
    _, path, _ = find_model(Path(recipe.network))
    found = fingerprint(path)
    if recipe.network_fingerprint not in (None, found):
        raise InputError(
            f"{path} has the fingerprint {found} and the job started from {recipe.network_fingerprint}: give the file "
            "that it started from, or another --output."
        )
    return dataclasses.replace(job, recipe=dataclasses.replace(recipe, network_fingerprint=found))


def begin(output: Path, job: Job, architecture: str) -> Path:
    """Makes the folder of an unfinished job, which says what was asked for, and keeps other processes from it.

    Args:
        output: the model's folder, to come.
        job: what is asked for.
        architecture: digest of the network that the job trains; see `architecture_digest`.

    Raises:
        InputError: where another process trains there, the network is another one than the folder's, or nothing can be
            written.
    """
    folder = training_folder(output)
    lock(folder)
    unfinished = folder / "job.json"
    before = _read(unfinished).get(_ARCHITECTURE) if unfinished.exists() else None
    if before not in (None, architecture):
        unlock(folder)
        raise InputError(
            f"the network {job.recipe.network!r} has other layers than the one of the unfinished training in {folder}: "
            "give the network that it began with, or another --output."
        )
    make_folder(folder)
    write_text(unfinished, json.dumps({**_settings(job, __version__), _ARCHITECTURE: architecture}, indent=1))
    return folder


def end(folder: Path) -> None:
    """Removes the folder of a job that is done, or of one that left nothing to go on with."""
    shutil.rmtree(folder, ignore_errors=True)
    unlock(folder)


def check_output(output: Path, job: Job, resume: bool, chief: bool = True) -> bool:
    """Finds, without TensorFlow, whether a job may write to a folder.

    Args:
        output: the folder.
        job: what is asked for.
        resume: go on with the job.
        chief: False on a worker that writes nothing; it looks whether the job is done alone.

    Returns:
        True where the job is already done there.

    Raises:
        InputError: where the folder exists and `resume` is not set, or holds another job, or nothing can be written
            there; as `pinned`.
    """
    job = pinned(job)
    if not chief and not (resume and output.exists()):
        return False
    unfinished = training_folder(output) / "job.json"
    if output.exists():
        if not resume:
            raise InputError(f"{output} exists: give another --output, delete it, or add --resume.")
        card = read_card(output)
        if card.job is None:
            raise InputError(f"{output} was not made by erkeras train: give another --output.")
        _compare(output, _settings(card.job, card.versions.get("erkeras", "")), job)
        return True
    if unfinished.exists():
        if not resume:
            raise InputError(
                f"an unfinished training for {output} is in {unfinished.parent}: add --resume to go on with it, "
                "or delete that folder."
            )
        _compare(output, _read(unfinished), job)
    # The next folder that is there already; those on the way are made later.
    check_folder(next(folder for folder in output.absolute().parents if folder.exists()))
    return False


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(read_regular(path, _MOST))
        if not isinstance(found, dict) or not isinstance(found.get("recipe"), dict):
            raise ValueError("not a job")
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path} cannot be read: delete {path.parent}, and train again.") from error
    return found


def _settings(job: Job, version: str) -> dict[str, Any]:
    # Through JSON, so that what was read back compares equal.
    return json.loads(json.dumps({**dataclasses.asdict(job), "erkeras": version}))


def _defaults() -> dict[str, Any]:
    found = {field.name: field.default for kind in (Job, Recipe) for field in dataclasses.fields(kind)}
    return json.loads(json.dumps({name: value for name, value in found.items() if value is not dataclasses.MISSING}))


def _compare(output: Path, before: dict[str, Any], job: Job) -> None:
    now = _settings(job, __version__)
    flat = [{**settings, **settings.get("recipe", {}), "recipe": None} for settings in (before, now)]
    # A setting that is newer than the job did nothing to it.
    flat[0] = {**_defaults(), **flat[0]}
    differing = [key for key in flat[1] if key != "command" and flat[0].get(key) != flat[1][key]]
    if differing:
        listed = ", ".join(f"{key} {flat[0].get(key)} (now {flat[1][key]})" for key in differing)
        raise InputError(f"{output} was started with {listed}: give the same settings, or another --output.")
