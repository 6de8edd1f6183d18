"""erkeras curve."""

from __future__ import annotations

import json
from pathlib import Path

import click

from .options import COUNT, EPSILONS, MODULES, PATH, SEED, drawable, writable
from .target import ATTACKS, Settings, Target, find_target, make_attacks


@click.command()
@click.argument("models", type=PATH, nargs=-1, required=True)
@click.option("--epsilons", type=EPSILONS, default="0:0.4:0.025", show_default=True, help="START:STOP:STEP.")
@click.option("--attack", "attacks", type=click.Choice(ATTACKS), multiple=True, default=["pgd"], show_default=True)
@click.option("--norm", type=click.Choice(["l_inf", "l2"]), default="l_inf", show_default=True)
@click.option("--dataset", help="As for train.  [default: the one each model was trained on]")
@click.option("--limit", type=COUNT, default=1000, show_default=True, help="Test images to attack, drawn by the seed.")
@click.option("--seed", type=SEED, default=0, show_default=True)
@click.option("--output", type=PATH, default="curve.png", show_default=True, help="The picture (PNG).")
@click.option("--json", "json_file", type=PATH, help="Write the figures to a file.")
@MODULES
def curve(
    models: tuple[Path, ...],
    epsilons: tuple[float, ...],
    attacks: tuple[str, ...],
    norm: str,
    dataset: str | None,
    limit: int,
    seed: int,
    output: Path,
    json_file: Path | None,
    modules: tuple[str, ...],
) -> None:
    """Draw the accuracy of MODELS over epsilon in one picture, with the table beside it (Figures 3 and 4)."""
    from erkeras.errors import InputError
    from erkeras.files import write_text

    drawable(output)
    writable(json_file)
    settings = Settings(attacks)
    targets = [
        find_target(model, dataset, "test", norm, epsilons[-1], limit, seed, settings, modules) for model in models
    ]
    if len({target.dataset for target in targets}) > 1:
        raise InputError("the models were trained on different data sets: give those of one, or --dataset.")
    curves = draw_curve(targets, settings, epsilons, output)
    if json_file is not None:
        write_text(json_file, json.dumps({"epsilons": epsilons, "attacks": attacks, "accuracies": curves}, indent=1))


def draw_curve(
    targets: list[Target], settings: Settings, epsilons: tuple[float, ...], path: Path
) -> dict[str, list[float]]:
    """Measures and shows the accuracy of models over epsilon; by the model's folder."""
    from . import console

    console.load_tensorflow(for_attacks=True)
    from erkeras.evaluation import accuracy_curve, draw_curves
    from erkeras.serving.card import percent

    curves = {}
    with console.RichProgress() as progress:
        for target in targets:
            images, victim = target.images(), target.load(settings.with_detector)
            work = sum(part.work for attack in make_attacks(settings, target.threat) for part in attack.parts)
            progress.stage(f"attacking {target.model.name}", len(images) * work * len(epsilons))
            curves[str(target.model)] = accuracy_curve(
                victim,
                images,
                lambda threat: make_attacks(settings, threat),
                target.threat,
                epsilons,
                seed=target.seed,
                progress=progress.advance,
            )
    short = {Path(model).name: accuracies for model, accuracies in curves.items()}
    labelled = short if len(short) == len(curves) else curves
    first, names = targets[0], " + ".join(dict.fromkeys(settings.attacks))
    console.print_table(
        f"Robust accuracy on {len(images)} {first.split} images of {first.dataset}, {names}",
        [f"epsilon ({first.threat.norm})", *labelled],
        [
            [f"{epsilon:g}", *(percent(accuracies[row]) for accuracies in labelled.values())]
            for row, epsilon in enumerate(epsilons)
        ],
    )
    draw_curves(path, epsilons, labelled, f"{first.dataset}, {len(images)} images, {names}", first.threat.norm)
    console.output.print(f"Drawn in {path}")
    return curves
