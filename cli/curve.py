"""erkeras curve."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import rich_click as click

from erkeras import evaluation, saved
from erkeras.attacks.named import AttackSettings
from erkeras.errors import InputError
from erkeras.files import write_text
from erkeras.threat import ThreatModel

from . import console
from .options import (
    COUNT,
    EPSILONS,
    HOW_MANY,
    HOW_STRONG,
    MODULES,
    NORM,
    PATH,
    SEED,
    WHAT,
    WHERE_TO,
    attack_option,
    drawable,
    writable,
)


@click.command()
@click.argument("models", type=PATH, nargs=-1, required=True)
@click.option(
    "--dataset",
    panel=WHAT,
    help="Attack images of this data set, named as for erkeras train.  [default: what the models were trained on]",
)
@click.option("--with-detector", is_flag=True, panel=WHAT, help="Attack each model and its detector at once.")
@MODULES
@attack_option("pgd")
@NORM
@click.option(
    "--epsilons",
    type=EPSILONS,
    default="0:0.4:0.025",
    show_default=True,
    panel=HOW_STRONG,
    help="Attack within each epsilon of START:STOP:STEP.",
)
@click.option(
    "--limit", type=COUNT, default=1000, show_default=True, panel=HOW_MANY, help="Attack at most this many test images."
)
@SEED
@click.option(
    "--output",
    type=PATH,
    default="curve.png",
    show_default=True,
    panel=WHERE_TO,
    help="Draw the picture to this PNG file.",
)
@click.option("--json", "json_file", type=PATH, panel=WHERE_TO, help="Write the figures to this file.")
def curve(
    models: tuple[Path, ...],
    dataset: str | None,
    modules: tuple[str, ...],
    norm: str,
    epsilons: tuple[float, ...],
    limit: int,
    seed: int,
    output: Path,
    json_file: Path | None,
    **options: Any,
) -> None:
    """Draw the accuracy of MODELS over epsilon in one picture, and print the table (Figures 3 and 4).

    MODELS are folders that erkeras train wrote, .keras files or SavedModels.
    """
    drawable(output)
    writable(json_file)
    settings, threat = AttackSettings(**options), ThreatModel(norm, epsilons[-1])
    runs = [
        evaluation.Evaluation(
            evaluation.Subject.find(model, modules), settings, dataset=dataset, limit=limit, seed=seed, threat=threat
        )
        for model in models
    ]
    if len({run.sample.dataset for run in runs}) > 1:
        raise InputError("the models were trained on different data sets: give those of one, or --dataset.")
    console.load_tensorflow(for_attacks=True)
    curves = {}
    with console.progress() as progress:
        for run in runs:
            curves[run.subject.name] = evaluation.accuracy_curve(
                run.victim,
                run.images,
                settings.make,
                threat,
                epsilons,
                seed=seed,
                progress=progress,
                stage=f"attacking {run.subject.short_name}",
            )
    short = {Path(name).name: accuracies for name, accuracies in curves.items()}
    labelled = short if len(short) == len(curves) else curves
    images, name, words = len(runs[0].images), runs[0].sample.dataset, " + ".join(dict.fromkeys(settings.attacks))
    console.print_table(
        f"Robust accuracy on {images} test images of {name}, {words}",
        [f"epsilon ({norm})", *labelled],
        [
            [f"{epsilon:g}", *(saved.percent(accuracies[row]) for accuracies in labelled.values())]
            for row, epsilon in enumerate(epsilons)
        ],
    )
    evaluation.draw_curves(output, epsilons, labelled, f"{name}, {images} images, {words}", norm)
    console.output.print(f"Drawn in {output}")
    if json_file is not None:
        figures = {"epsilons": epsilons, "attacks": settings.attacks, "accuracies": curves}
        write_text(json_file, json.dumps({**figures, **_told(runs, norm)}, indent=1))


def _told(runs: list[evaluation.Evaluation], norm: str) -> dict[str, Any]:
    """Gives what was measured and of which models, as `erkeras report` asks."""
    first = runs[0]
    return {
        "norm": norm,
        "dataset": first.sample.dataset,
        "images": len(first.images),
        "seed": first.sample.seed,
        "with_detector": bool(first.settings and first.settings.with_detector),
        "digests": {run.subject.name: run.subject.digest for run in runs},
    }
