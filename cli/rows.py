"""erkeras rows."""

from __future__ import annotations

from pathlib import Path

import rich_click as click

from erkeras import data, training
from erkeras.recipes import DEFENSES

from . import console
from .options import COUNT, HOW_MANY, PATH, SEED_RANGE, WHAT, WHERE_TO, attack_option, folder_name
from .table import show_rows


@click.command()
@click.option(
    "--dataset",
    default="digits",
    show_default=True,
    panel=WHAT,
    help="Train on this data set, named as for erkeras train.",
)
@click.option(
    "--defense",
    "defenses",
    type=click.Choice(list(DEFENSES)),
    multiple=True,
    panel=WHAT,
    help="Train this row. Repeat the option to train several.  [default: the nine of Table 1 that have no purifier]",
)
@attack_option("pgd", "autoattack")
@click.option("--epochs", type=COUNT, panel=HOW_MANY, help="Train for this many epochs.  [default: as the recipe says]")
@click.option(
    "--seed",
    "seeds",
    type=SEED_RANGE,
    multiple=True,
    default=[0, 1, 2],
    show_default=True,
    panel=HOW_MANY,
    help="Train each row with this seed. Repeat the option to use several.",
)
@click.option("--output", type=PATH, panel=WHERE_TO, help="Put the models into this folder.  [default: rows/DATASET]")
def rows(
    dataset: str,
    defenses: tuple[str, ...],
    attacks: tuple[str, ...],
    epochs: int | None,
    seeds: tuple[int, ...],
    output: Path | None,
) -> None:
    """Train the paper's rows over several seeds, attack each, and compare them.

    What is done is not done again: the same command goes on with an interrupted run.
    """
    chosen = defenses or training.ROWS
    folder = output or Path("rows") / folder_name(dataset)
    data.check_dataset(dataset)
    console.load_tensorflow(for_attacks=True)
    with console.progress() as progress:
        models = training.train_rows(folder, dataset, chosen, seeds, epochs, attacks, progress)
    first = {defense: folder / f"{defense}-{seeds[0]}" for defense in chosen}
    pairs = [(first[one], first[other]) for one, other in training.PAIRS if one in first and other in first]
    show_rows(models, None, pairs)
