"""Where a job lives until it is done, and whether it may begin."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from erkeras.errors import InputError
from erkeras.files import write_text
from erkeras.recipes import Job
from erkeras.saved import read_card
from erkeras.versions import __version__


def training_folder(output: Path) -> Path:
    """Names where the checkpoints of an unfinished job live: beside the output, hidden."""
    return output.parent / f".{output.name}.training"


def begin(output: Path, job: Job) -> Path:
    """Makes the folder of an unfinished job, which says what was asked for."""
    folder = training_folder(output)
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / "job.json", json.dumps(_settings(job, __version__), indent=1))
    return folder


def check_output(output: Path, job: Job, resume: bool) -> bool:
    """Finds, without TensorFlow, whether a job may write to a folder.

    Returns:
        True where the job is already done there.

    Raises:
        InputError: where the folder exists and `resume` is not set, or holds another job.
    """
    unfinished = training_folder(output) / "job.json"
    if output.exists():
        if not resume:
            raise InputError(f"{output} exists: give another --output, delete it, or add --resume.")
        card = read_card(output)
        if card.job is None:
            raise InputError(f"{output} was not made by erkeras train: give another --output.")
        _compare(output, _settings(card.job, card.versions["erkeras"]), job)
        return True
    if unfinished.exists():
        if not resume:
            raise InputError(
                f"an unfinished training for {output} is in {unfinished.parent}: add --resume to go on with it, "
                "or delete that folder."
            )
        _compare(output, json.loads(unfinished.read_text()), job)
    return False


def _settings(job: Job, version: str) -> dict[str, Any]:
    # Through JSON, so that what was read back compares equal.
    return json.loads(json.dumps({**dataclasses.asdict(job), "erkeras": version}))


def _compare(output: Path, before: dict[str, Any], job: Job) -> None:
    now = _settings(job, __version__)
    flat = [{**settings, **settings.get("recipe", {}), "recipe": None} for settings in (before, now)]
    differing = [key for key in flat[1] if key != "command" and flat[0].get(key) != flat[1][key]]
    if differing:
        listed = ", ".join(f"{key} {flat[0].get(key)} (now {flat[1][key]})" for key in differing)
        raise InputError(f"{output} was started with {listed}: give the same settings, or another --output.")
