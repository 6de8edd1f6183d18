"""erkeras verify."""

from __future__ import annotations

from pathlib import Path

import rich_click as click

from erkeras import evaluation
from erkeras.errors import InputError

from . import console
from .options import MODULES, PATH


@click.command()
@click.argument("record", type=PATH)
@click.argument("model", type=PATH, required=False)
@MODULES
def verify(record: Path, model: Path | None, modules: tuple[str, ...]) -> None:
    """Recompute the accuracy of RECORD from its images. Nothing is attacked.

    RECORD is a folder that erkeras attack made. MODEL is what it is about, by default the model that it names.
    """
    evaluation.find_recorded(record, model, modules)
    console.load_tensorflow(for_attacks=True)  # the same kernels, to the last bit
    found = evaluation.verify_record(record, model, modules)
    if not found.holds:
        listed = ", ".join(str(index) for index in found.doubtful[:10])
        raise InputError(
            f"{record} says {found.recorded:.2%} and its images say {found.recomputed:.2%}: they differ on "
            f"{len(found.doubtful)} of {found.images} images (original indices {listed}): evaluate again."
        )
    console.output.print(
        f"{record}: robust accuracy {found.recomputed:.2%} on {found.images} {found.split} images of {found.dataset}, "
        "recomputed from the images; as recorded."
    )
