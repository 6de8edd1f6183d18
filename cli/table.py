"""erkeras table, and the tables of rows that `erkeras rows` shows too."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import rich_click as click

from erkeras import evaluation, saved
from erkeras.errors import InputError

from . import console
from .options import PATH, WHAT


@click.command()
@click.argument("models", type=PATH, nargs=-1, required=True)
@click.option(
    "--evaluation",
    "title",
    panel=WHAT,
    help="Compare the evaluation with this title on the cards.  [default: the one that all have]",
)
@click.option(
    "--pair",
    "pairs",
    nargs=2,
    type=PATH,
    multiple=True,
    panel=WHAT,
    help="Test whether the rows of these two MODELS are equally robust, image by image over all seeds.",
)
def table(models: tuple[Path, ...], title: str | None, pairs: tuple[tuple[Path, Path], ...]) -> None:
    """Put saved models beside each other: one row a defense, over its seeds.

    MODELS are folders that erkeras train wrote, and that erkeras attack --card attacked on the same images.
    """
    show_rows(models, title, pairs)


def show_rows(models: Sequence[Path], title: str | None, pairs: Sequence[tuple[Path, Path]]) -> None:
    """Prints the table of saved models, and the paired tests of two of them."""
    rows = evaluation.read_rows(models, title)
    row_of = {model.folder: row for row in rows for model in row.models}
    for folder in {folder for pair in pairs for folder in pair}:
        if folder not in row_of:
            raise InputError(f"--pair was given {folder}, which is not among the models: give two of them.")
    found = rows[0].models[0].evaluation
    names = list(rows[0].models[0].accuracies)
    lines = []
    for row in rows:
        cells = []
        for name in names:
            mean, lowest, highest = row.accuracy(name)
            spread = f" ({100 * lowest:.1f} to {100 * highest:.1f})" if len(row.models) > 1 else ""
            cells.append(f"{saved.percent(mean)}{spread}")
        lines.append([row.defense, str(len(row.models)), *cells, f"{row.minutes:.1f}"])
    console.print_table(
        f"{found.title}: {found.summary.images} images of {found.dataset}, seed {found.seed}; mean over models "
        "(lowest to highest)",
        ["defense", "models", *names, "minutes"],
        lines,
    )
    for first, second in pairs:
        one, other = row_of[first], row_of[second]
        results = {name: evaluation.compare_rows(one, other, name) for name in names}
        console.print_table(
            f"Of {results['clean'].images} pairs of an image and a seed, those that stand under one row alone",
            ["", *names],
            [
                [one.defense, *(str(result.first_alone) for result in results.values())],
                [other.defense, *(str(result.second_alone) for result in results.values())],
                ["exact McNemar p", *(f"{result.p_value:.2g}" for result in results.values())],
            ],
        )
