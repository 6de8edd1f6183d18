"""What a training was asked for, where it lives until it is done, and who hears how it gets on."""

from __future__ import annotations

import dataclasses
import json
import platform
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from erkeras import __version__
from erkeras.errors import InputError
from erkeras.recipes import Recipe
from erkeras.serving.folder import read_card


@dataclass(frozen=True)
class Job:
    """What `erkeras train` was asked for; with the same job, the same weights and figures.

    Attributes:
        dataset: as `load_dataset` takes it.
        recipe: see `Recipe`.
        seed: of initial weights, data order, training's and the attacks' random numbers.
        limit: how many test images are judged, drawn by the seed; None for all. At most 128 behind a
            purifier.
        restarts: of the PGD that judges; one behind a purifier.
        baseline: also train the same network without any defence and judge it on the same images.
        features: the detector's, "combined" (ER2) or "code" (ER1).
        compact: for a model that ships: save it without what only training needs (optimizers and critic), and with a
            detector whose densities are reduced to 50 centres a class. The card says what that costs.
        deterministic: run TensorFlow's deterministic operations, for the same bits on one machine.
        command: the command that does this again, for the card.
    """

    dataset: str
    recipe: Recipe
    seed: int = 0
    limit: int | None = 1000
    restarts: int = 5
    baseline: bool = False
    features: str = "combined"
    compact: bool = False
    deterministic: bool = True
    command: str = ""

    def settings(self) -> dict[str, Any]:
        # Through JSON, so that what was read back compares equal.
        return json.loads(json.dumps({**dataclasses.asdict(self), "erkeras": __version__}))


class Progress:
    """Hears how a job gets on. This one says nothing; the command line draws bars."""

    def stage(self, name: str, total: int) -> None:
        """A stage of `total` units begins."""

    def advance(self, units: int, note: str = "") -> None:
        """Some units of the stage are done; `note` is the latest figure."""


def training_folder(output: Path) -> Path:
    """Where the checkpoints of an unfinished job live: beside the output, hidden."""
    return output.parent / f".{output.name}.training"


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
        _compare(output, read_card(output)["job"], job)
        return True
    if unfinished.exists():
        if not resume:
            raise InputError(
                f"an unfinished training for {output} is in {unfinished.parent}: add --resume to go on with it, "
                "or delete that folder."
            )
        _compare(output, json.loads(unfinished.read_text()), job)
    return False


def _compare(output: Path, before: dict[str, Any], job: Job) -> None:
    now = job.settings()
    flat = [{**settings, **settings.get("recipe", {}), "recipe": None} for settings in (before, now)]
    differing = [key for key in flat[1] if key != "command" and flat[0].get(key) != flat[1][key]]
    if differing:
        listed = ", ".join(f"{key} {flat[0].get(key)} (now {flat[1][key]})" for key in differing)
        raise InputError(f"{output} was started with {listed}: give the same settings, or another --output.")


def versions() -> dict[str, str]:
    """Of everything that figures depend on."""
    packages = ("tensorflow", "keras", "numpy", "scikit-learn", "cleverhans")
    return {"erkeras": __version__, "python": platform.python_version(), **{name: version(name) for name in packages}}
