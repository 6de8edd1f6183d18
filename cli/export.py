"""erkeras export."""

from __future__ import annotations

from pathlib import Path

import rich_click as click

from erkeras import saved

from . import console
from .options import COUNT, MODULES, PATH, WHERE_TO


@click.command()
@click.argument("model", type=PATH)
@MODULES
@click.option(
    "--version",
    type=COUNT,
    panel=WHERE_TO,
    help="Give the SavedModel this version number.  [default: one more than the newest]",
)
def export(model: Path, version: int | None, modules: tuple[str, ...]) -> None:
    """Write another version of MODEL's SavedModel beside the ones that are there.

    MODEL is a folder that erkeras train or erkeras.save wrote. The version is made from its model.keras and
    detector.npz. A server that watches the folder takes it up once it is complete, and leaves the version before it.
    """
    saved.read_card(model)
    saved.new_version(model, version)
    console.load_tensorflow()
    saved.import_modules(modules)
    console.output.print(f"Exported to {saved.export_version(model, version)}")
