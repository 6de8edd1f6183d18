"""erkeras report."""

from __future__ import annotations

import shlex
from pathlib import Path

import rich_click as click

from erkeras import report as reports

from . import console
from .options import PATH, WHAT, WHERE_TO, writable


@click.command()
@click.argument("models", type=PATH, nargs=-1, required=True)
@click.option(
    "--record",
    "records",
    type=PATH,
    multiple=True,
    panel=WHAT,
    help="Show this record of one of MODELS too. Give it again for several. Those that cards name are shown anyway.",
)
@click.option(
    "--curve",
    "curves",
    type=PATH,
    multiple=True,
    panel=WHAT,
    help="Show this curve too, a file that erkeras curve --json wrote. Give it again for several.",
)
@click.option(
    "--output", type=PATH, default="report.html", show_default=True, panel=WHERE_TO, help="Write the page to this file."
)
def report(models: tuple[Path, ...], records: tuple[Path, ...], curves: tuple[Path, ...], output: Path) -> None:
    """Make a page of what the cards and records of MODELS hold, for people.

    MODELS are folders that erkeras train or erkeras.save wrote. No model is run. The page is one file of HTML, which
    asks for nothing from elsewhere. What it cannot show it names, with the command that measures it.
    """
    writable(output)
    size = reports.write_report(models, output, records=records, curves=curves)
    console.output.print(f"Written to {output} ({size / 1e6:.1f} MB): open it in a browser.")


def hint(model: Path) -> str:
    """Names the command that makes a report of a model."""
    return f"As a page: {shlex.join(['erkeras', 'report', str(model)])}"
