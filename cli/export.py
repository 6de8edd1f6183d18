"""erkeras export."""

from __future__ import annotations

import importlib
from pathlib import Path

import click

from .options import COUNT, MODULES, PATH


@click.command()
@click.argument("model", type=PATH)
@click.option("--version", type=COUNT, help="Number of the SavedModel.  [default: one more than the newest]")
@MODULES
def export(model: Path, version: int | None, modules: tuple[str, ...]) -> None:
    """Write another version of MODEL's SavedModel beside the ones that are there.

    MODEL is a folder that erkeras train wrote; the version is made from its model.keras and detector.npz. A server that
    watches the folder takes it up once it is complete, and leaves the version before it.
    """
    from erkeras.serving.folder import new_version, read_card

    read_card(model)
    new_version(model, version)

    from . import console

    console.load_tensorflow()
    from erkeras.serving import export_version

    for module in modules:
        importlib.import_module(module)
    place = export_version(model, version)
    console.output.print(f"Exported to {place}")
