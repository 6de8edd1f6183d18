"""erkeras train."""

from __future__ import annotations

import dataclasses
import shlex
import sys
from pathlib import Path
from typing import Any

import click

from erkeras.recipes import DEFENSES

from .options import COUNT, EPSILON, PATH, SEED, FiniteFloat, Regularizer


@click.command()
@click.option(
    "--dataset",
    default="digits",
    show_default=True,
    help="digits, mnist, cifar10, stl10, tiny_imagenet[:PATH[:CLASSES]], folder:PATH or npz:PATH.",
)
@click.option("--recipe", "recipe_name", default="default", show_default=True, help="default, strong or paper.")
@click.option(
    "--defense",
    type=click.Choice(list(DEFENSES)),
    default="er-classifier",
    show_default=True,
    help="Row of the paper's tables.",
)
@click.option(
    "--output",
    type=PATH,
    help="Folder to make.  [default: saved_models/DATASET-DEFENSE, and -RECIPE for another than the default]",
)
@click.option("--resume", is_flag=True, help="Go on with an interrupted training; show the figures of a finished one.")
@click.option("--epsilon", type=EPSILON, help="l_inf radius the model is judged at, in [0, 1] pixels.")
@click.option("--training-ratio", type=FiniteFloat(0), help="Train at this multiple of epsilon; 0: on clean images.")
@click.option("--epochs", type=COUNT)
@click.option("--batch-size", type=COUNT)
@click.option("--learning-rate", type=FiniteFloat(0, min_open=True), help="Of encoder and classifier.")
@click.option("--coefficient", type=FiniteFloat(0), help="Lambda, the weight of the regularization; 0 for none.")
@click.option(
    "--regularizer",
    type=Regularizer(),
    help="wasserstein, mmd, gaussian-kl, or MODULE:CLASS of a module in this folder.",
)
@click.option("--beta", type=FiniteFloat(0), help="What robustness weighs in TRADES.")
@click.option(
    "--coupling", type=click.Choice(["separate", "joint"]), help="Line 9 of Algorithm 1: apart, or with line 8."
)
@click.option("--clean-fraction", type=FiniteFloat(0, 1, max_open=True), help="Portion of each batch that stays clean.")
@click.option("--bfloat16/--no-bfloat16", default=None, help="Run the passes of training's PGD in bfloat16.")
@click.option(
    "--structured", type=FiniteFloat(0, 1), help="Portion of the adversary's starts that are stripes and blocks."
)
@click.option("--steps", type=COUNT, help="Of training's PGD; 1: FGSM from a random start.")
@click.option("--noise", type=FiniteFloat(0), help="Standard deviation of RSE's first noise layer, twice the others'.")
@click.option("--keep-best/--keep-last", default=None, help="Take the epoch of the best robust validation accuracy.")
@click.option("--augment/--no-augment", default=None, help="Shift and mirror the training images.")
@click.option("--averaging", type=FiniteFloat(0, 1, max_open=True), help="Decay of averaged weights, as 0.999.")
@click.option("--seed", type=SEED, default=0, show_default=True)
@click.option("--limit", type=COUNT, default=1000, show_default=True, help="Test images judged, drawn by the seed.")
@click.option("--restarts", type=COUNT, default=5, show_default=True, help="Restarts of the PGD that judges.")
@click.option(
    "--detector",
    type=click.Choice(["er1", "er2"]),
    default="er2",
    show_default=True,
    help="ER1: code; ER2: combined code.",
)
@click.option("--baseline", is_flag=True, help="Train the same network without any defence too, to compare.")
@click.option(
    "--compact", is_flag=True, help="Save no more than serving needs, with a detector of 50 centres a class: to ship."
)
@click.option(
    "--deterministic/--fast",
    default=True,
    show_default=True,
    help="The same bits again on one machine.",
)
def train(
    dataset: str,
    recipe_name: str,
    defense: str,
    output: Path | None,
    resume: bool,
    seed: int,
    limit: int,
    restarts: int,
    detector: str,
    baseline: bool,
    compact: bool,
    deterministic: bool,
    **overrides: Any,
) -> None:
    """Train a classifier, attack it, fit its detector and export it.

    The folder that it makes holds a SavedModel for TF Serving (1/), the Keras model, the detector and a model card.
    """
    from erkeras.data import check_dataset
    from erkeras.job import Job, check_output
    from erkeras.recipes import find_recipe
    from erkeras.training import train as run

    recipe = find_recipe(recipe_name, dataset, check_dataset(dataset), defense)
    recipe = dataclasses.replace(recipe, **{name: value for name, value in overrides.items() if value is not None})
    if output is None:
        kind = "" if recipe_name == "default" else f"-{recipe_name}"
        output = Path("saved_models") / f"{dataset.replace(':', '-').replace('/', '-')}-{defense}{kind}"
    job = Job(
        dataset=dataset,
        recipe=recipe,
        seed=seed,
        limit=limit,
        restarts=restarts,
        baseline=baseline,
        features="combined" if detector == "er2" else "code",
        compact=compact,
        deterministic=deterministic,
        command=shlex.join(["erkeras", *(argument for argument in sys.argv[1:] if argument != "--resume")]),
    )
    done = check_output(output, job, resume)

    from . import console

    if not done:
        console.load_tensorflow()
    try:
        with console.RichProgress() as progress:
            card = run(job, output, resume, progress)
    except KeyboardInterrupt:
        console.messages.print("The same command with --resume goes on from the last checkpoint.")
        raise
    if done:
        console.messages.print(f"{output} is complete; these are its figures.")
    show(card, output)


def show(card: dict[str, Any], output: Path) -> None:
    """The figures of a card, as tables."""
    from erkeras.serving.card import DETECTION_COLUMNS, detection_rows, percent, results_rows

    from . import console

    evaluation, detector = card["evaluation"], card["detector"]
    for sentence in card["training"].get("warnings", []):
        console.messages.print(sentence, style="yellow")
    rows = results_rows(card)
    console.print_table(
        f"Accuracy on {evaluation['images']} test images, {evaluation['norm']}, epsilon {evaluation['epsilon']:g}",
        ["model", *rows[0][1]],
        [[name, *cells.values()] for name, cells in rows],
    )
    if detector:
        console.print_table(
            f"Detector, its threshold set for {percent(detector['stated_false_positive_rate'])} false positives",
            DETECTION_COLUMNS,
            detection_rows(card),
        )
    console.output.print(f"Saved in {output}: see {output / 'README.md'} and {output / 'attacked.png'}")
