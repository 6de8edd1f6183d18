"""erkeras table."""

from __future__ import annotations

from pathlib import Path

import click

from .options import PATH


@click.command()
@click.argument("models", type=PATH, nargs=-1, required=True)
@click.option("--evaluation", help="Title of the evaluation in the cards.  [default: the one that all have]")
@click.option(
    "--pair",
    "pairs",
    nargs=2,
    type=PATH,
    multiple=True,
    help="Two of MODELS: test whether their rows are equally robust, image by image over all seeds.",
)
def table(models: tuple[Path, ...], evaluation: str | None, pairs: tuple[tuple[Path, Path], ...]) -> None:
    """Put MODELS side by side: one row for each defence, over all of its seeds.

    MODELS are folders that erkeras train wrote and erkeras attack --card judged on the same images.
    """
    from erkeras.errors import InputError
    from erkeras.evaluation.comparison import compare, read_rows
    from erkeras.serving.card import percent

    rows = read_rows(models, evaluation)
    row_of = {model.folder: row for row in rows for model in row.models}
    for folder in {folder for pair in pairs for folder in pair}:
        if folder not in row_of:
            raise InputError(f"--pair was given {folder}, which is not among the models: give two of them.")

    from . import console

    found = rows[0].models[0].evaluation
    names = list(rows[0].models[0].accuracies)
    lines = []
    for row in rows:
        cells = []
        for name in names:
            mean, lowest, highest = row.accuracy(name)
            spread = f" ({100 * lowest:.1f} to {100 * highest:.1f})" if len(row.models) > 1 else ""
            cells.append(f"{percent(mean)}{spread}")
        lines.append([row.defense, str(len(row.models)), *cells, f"{row.minutes:.1f}"])
    console.print_table(
        f"{found['title']}: {found['summary']['images']} images of {found['dataset']}, seed {found['seed']}; mean over "
        "models (lowest to highest)",
        ["defence", "models", *names, "minutes"],
        lines,
    )
    for first, second in pairs:
        one, other = row_of[first], row_of[second]
        results = {name: compare(one, other, name) for name in names}
        console.print_table(
            f"Of {results['clean'].images} pairs of an image and a seed, those that stand under one row alone",
            ["", *names],
            [
                [one.defense, *(str(result.first_alone) for result in results.values())],
                [other.defense, *(str(result.second_alone) for result in results.values())],
                ["exact McNemar p", *(f"{result.p_value:.2g}" for result in results.values())],
            ],
        )
