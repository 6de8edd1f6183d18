"""erkeras train."""

from __future__ import annotations

import dataclasses
import os
import shlex
import sys
from pathlib import Path
from typing import Any

import rich_click as click

from erkeras import cluster, data, recipes, saved, training
from erkeras.errors import InputError
from erkeras.recipes import DEFENSES, NETWORK_NAMES, RECIPE_NAMES, Recipe, network_kind
from erkeras.saved import Card

from . import console
from .devices import check_where, several
from .options import (
    COUNT,
    HOW_MANY,
    HOW_STRONG,
    MODULES,
    PATH,
    RADIUS,
    SEED_RANGE,
    WHAT,
    WHERE_TO,
    FiniteFloat,
    Network,
    Regularizer,
    folder_name,
)
from .report import hint

#: A panel of its own: what the recipe says otherwise.
RECIPE = "Instead of what the recipe says"


@click.command()
@click.option(
    "--dataset",
    default="digits",
    show_default=True,
    panel=WHAT,
    help="Train on this data set: digits, mnist, cifar10, stl10, tiny_imagenet[:PATH[:CLASSES]], folder:PATH, npz:PATH "
    "or tfds:NAME[/CONFIG] of tensorflow-datasets.",
)
@click.option(
    "--defense",
    type=click.Choice(list(DEFENSES)),
    default="er-classifier",
    show_default=True,
    panel=WHAT,
    help="Train this row of the paper's tables.",
)
@click.option(
    "--recipe",
    "recipe_name",
    type=click.Choice(RECIPE_NAMES),
    default="default",
    show_default=True,
    panel=WHAT,
    help="Follow this recipe.",
)
@click.option(
    "--detector",
    type=click.Choice(["er1", "er2"]),
    panel=WHAT,
    help="Fit this detector: er1 looks at the code, er2 at the combined code.  [default: er2]",
)
@click.option("--baseline", is_flag=True, panel=WHAT, help="Also train the same network without a defense, to compare.")
@click.option(
    "--norm",
    type=click.Choice(["l_inf", "l2"]),
    panel=HOW_STRONG,
    help="Measure epsilon in this norm, in training and evaluation.  [default: l_inf]",
)
@click.option(
    "--epsilon",
    type=RADIUS,
    panel=HOW_STRONG,
    help="Evaluate with this epsilon, in pixels from 0 to 1. It is at most 1 in l_inf.",
)
@click.option(
    "--training-ratio",
    type=FiniteFloat(0),
    panel=HOW_STRONG,
    help="Train with this multiple of epsilon. 0 trains on clean images.",
)
@click.option(
    "--steps", type=COUNT, panel=HOW_STRONG, help="Train against this many PGD steps. 1 is FGSM from a random start."
)
@click.option(
    "--structured",
    type=FiniteFloat(0, 1),
    panel=HOW_STRONG,
    help="Start this fraction of training's attacks from stripes and blocks, as Square does.",
)
@click.option(
    "--restarts", type=COUNT, panel=HOW_STRONG, help="Restart the PGD that evaluates this often.  [default: 5]"
)
@click.option(
    "--network",
    type=Network(),
    panel=RECIPE,
    help=f"Train {', '.join(NETWORK_NAMES)}, MODULE:FUNCTION of a module in this folder, or a trained FILE.keras.",
)
@click.option("--code-layer", panel=RECIPE, help="Cut a whole classifier of your own in two at this layer.")
@click.option("--code-size", type=COUNT, panel=RECIPE, help="Give the code this many dimensions.")
@MODULES
@click.option("--epochs", type=COUNT, panel=RECIPE, help="Train for this many epochs.")
@click.option("--batch-size", type=COUNT, panel=RECIPE, help="Train on batches of this many images.")
@click.option(
    "--learning-rate",
    type=FiniteFloat(0, min_open=True),
    panel=RECIPE,
    help="Train encoder and classifier with this learning rate.",
)
@click.option(
    "--optimizer",
    type=click.Choice(["adam", "adamw", "sgd"]),
    panel=RECIPE,
    help="Train encoder and classifier by this optimizer. sgd has Nesterov's momentum.",
)
@click.option(
    "--momentum", type=FiniteFloat(0, 1, max_open=True), panel=RECIPE, help="Give sgd this momentum.  [default: 0.9]"
)
@click.option(
    "--weight-decay",
    type=FiniteFloat(0),
    panel=RECIPE,
    help="Take the learning rate times this fraction off each kernel in each step of adamw or sgd. PyTorch's figure "
    "for SGD is to be divided by 1 - momentum.",
)
@click.option(
    "--regularizer",
    type=Regularizer(),
    panel=RECIPE,
    help="Regularize by wasserstein, mmd, gaussian-kl, or MODULE:CLASS of a module in this folder.",
)
@click.option(
    "--coefficient", type=FiniteFloat(0), panel=RECIPE, help="Multiply the regularizer by this lambda. 0 is none."
)
@click.option(
    "--coupling",
    type=click.Choice(["separate", "joint"]),
    panel=RECIPE,
    help="Run line 9 of Algorithm 1 as a separate update, or add its gradient to line 8's.",
)
@click.option("--beta", type=FiniteFloat(0), panel=RECIPE, help="Multiply the robustness term of TRADES by this beta.")
@click.option(
    "--label-smoothing",
    type=FiniteFloat(0, 1, max_open=True),
    panel=RECIPE,
    help="Smooth training labels: share this fraction among all classes, for example 0.1.",
)
@click.option(
    "--clean-fraction", type=FiniteFloat(0, 1, max_open=True), panel=RECIPE, help="Leave this part of each batch clean."
)
@click.option(
    "--noise",
    type=FiniteFloat(0),
    panel=RECIPE,
    help="Give RSE's first noise layer this standard deviation, and the others half of it.",
)
@click.option("--augment/--no-augment", default=None, panel=RECIPE, help="Shift and mirror the training images.")
@click.option(
    "--cutout",
    type=FiniteFloat(0, 1, max_open=True),
    panel=RECIPE,
    help="Cut a rectangle of this fraction of the sides out of each training image, for example 0.5.",
)
@click.option(
    "--averaging",
    type=FiniteFloat(0, 1, max_open=True),
    panel=RECIPE,
    help="Average the weights with this decay, for example 0.999.",
)
@click.option(
    "--keep-best/--keep-last",
    default=None,
    panel=RECIPE,
    help="Keep the epoch of the best robust validation accuracy, instead of the last.",
)
@click.option(
    "--bfloat16/--no-bfloat16", default=None, panel=RECIPE, help="Compute the passes of training's PGD in bfloat16."
)
@click.option(
    "--mixed-precision/--float32",
    default=None,
    panel=RECIPE,
    help="Train in mixed bfloat16, which a GPU runs faster. The trained model computes in float32.",
)
@several
@click.option(
    "--limit",
    type=COUNT,
    panel=HOW_MANY,
    help="Attack at most this many test images, drawn by the seed.  [default: 1000, behind a purifier 128]",
)
@click.option(
    "--seed",
    type=SEED_RANGE,
    default=0,
    show_default=True,
    panel=HOW_MANY,
    help="Draw the weights, the order of the data and everything else by this seed.",
)
@click.option(
    "--output",
    type=PATH,
    panel=WHERE_TO,
    help="Write the model to this new folder.  [default: saved_models/DATASET-DEFENSE, -RECIPE if not the default]",
)
@click.option(
    "--resume",
    is_flag=True,
    panel=WHERE_TO,
    help="Continue an interrupted training, or show the figures of a finished one.",
)
@click.option(
    "--compact",
    is_flag=True,
    panel=WHERE_TO,
    help="Save only what serving needs, with a small detector of 50 centres for each class.",
)
@click.option(
    "--deterministic/--fast",
    default=True,
    show_default=True,
    panel=WHERE_TO,
    help="Get the same bits from every run on one machine, or train faster.",
)
def train(
    dataset: str,
    recipe_name: str,
    defense: str,
    output: Path | None,
    resume: bool,
    seed: int,
    limit: int | None,
    restarts: int | None,
    detector: str | None,
    baseline: bool,
    compact: bool,
    deterministic: bool,
    devices: int | None,
    synchronized: bool,
    workers: int | None,
    address: str | None,
    modules: tuple[str, ...],
    **overrides: Any,
) -> None:
    """Train a classifier, attack it, fit its detector and export it.

    The folder that it makes holds a SavedModel for TF Serving (1/), the Keras model, the detector and a model card.
    """
    recipe = _recipe(recipe_name, dataset, defense, overrides)
    if recipe.generator_updates and (detector or compact or restarts):
        raise InputError(
            f"--detector, --compact or --restarts was given with --defense {defense}, which has no detector and is "
            "attacked once: leave it out."
        )
    if modules and network_kind(recipe.network) != "file":
        raise InputError("--import was given, and has no effect without --network FILE.keras: leave it out.")
    if output is None:
        kind = "" if recipe_name == "default" else f"-{recipe_name}"
        output = Path("saved_models") / f"{folder_name(dataset)}-{defense}{kind}"
    place = recipes.find_place(os.environ)
    check_where(place, devices, synchronized, workers, address)
    job = recipes.Job(
        dataset=dataset,
        recipe=recipe,
        seed=seed,
        limit=limit or 1000,
        restarts=restarts or 5,
        baseline=baseline,
        features="code" if detector == "er1" else "combined",
        compact=compact,
        deterministic=deterministic,
        devices=devices,
        workers=place.workers if place else workers or 1,
        synchronized=synchronized,
        command=shlex.join(["erkeras", *(argument for argument in sys.argv[1:] if argument != "--resume")]),
    )
    chief = place is None or place.worker == 0
    done = training.check_output(output, job, resume, chief)
    if not done:
        console.load_tensorflow()
        saved.import_modules(modules)
        if overrides["code_size"]:
            training.check_code_size(recipe)
    card = _train(job, output, resume, chief, address)
    if card is None:
        console.messages.print("This worker's part is done. The chief writes the model.")
        return
    if done:
        console.messages.print(f"{output} is complete; these are its figures.")
    show(card, output)


def _train(job: recipes.Job, output: Path, resume: bool, chief: bool, address: str | None) -> Card | None:
    """Trains here, as one of the workers of TF_CONFIG, or by workers that Ray starts."""
    by_ray = job.workers > 1 and recipes.find_place(os.environ) is None
    try:
        with console.progress() as progress:
            if by_ray:
                return cluster.train_on_cluster(job, output, address, resume, progress)
            return training.train(job, output, resume, progress if chief else None)
    except KeyboardInterrupt:
        console.messages.print("The same command with --resume goes on from the last checkpoint.")
        raise


def _recipe(name: str, dataset: str, defense: str, overrides: dict[str, Any]) -> Recipe:
    recipe = recipes.find_recipe(name, dataset, data.check_dataset(dataset), defense)
    given = {name: value for name, value in overrides.items() if value is not None}
    if given.get("norm", recipe.norm) != recipe.norm and "epsilon" not in given:
        raise InputError(f"no epsilon is known for {dataset} and the norm {given['norm']}: give --epsilon.")
    recipe = dataclasses.replace(recipe, **given)
    recipes.check_effect(recipe, given)
    return recipe


def show(card: Card, output: Path) -> None:
    """Prints the figures of a card that `erkeras train` wrote, as tables."""
    for sentence in card.training.warnings if card.training else ():
        console.messages.print(sentence, style="yellow")
    report, rows = card.evaluation, saved.results_rows(card)
    if report:
        console.print_table(
            f"Accuracy on {report.summary.images} test images, {report.threat.norm}, epsilon {report.threat.epsilon:g}",
            ["model", *rows[0][1]],
            [[name, *cells.values()] for name, cells in rows],
        )
    if card.detector:
        rate = saved.percent(card.detector.stated_false_positive_rate)
        console.print_table(
            f"Detector, its threshold set for {rate} false positives",
            saved.DETECTION_COLUMNS,
            saved.detection_rows(card),
        )
    console.output.print(f"Saved in {output}: see {output / 'README.md'} and {output / 'attacked.png'}")
    console.output.print(hint(output))
