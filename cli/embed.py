"""erkeras embed."""

from __future__ import annotations

from pathlib import Path

import rich_click as click

from erkeras import evaluation
from erkeras.attacks.named import AttackSettings
from erkeras.errors import InputError

from . import console
from .options import (
    COUNT,
    HOW_MANY,
    HOW_STRONG,
    MODULES,
    PATH,
    RADIUS,
    SEED,
    WHERE_TO,
    drawable,
    threat_of,
)


@click.command()
@click.argument("model", type=PATH)
@MODULES
@click.option(
    "--epsilon",
    type=RADIUS,
    panel=HOW_STRONG,
    help="Attack with this epsilon, in l_inf.  [default: as MODEL's card reports]",
)
@click.option(
    "--steps", type=COUNT, default=40, show_default=True, panel=HOW_STRONG, help="Run this many steps of PGD."
)
@click.option(
    "--limit", type=COUNT, default=1000, show_default=True, panel=HOW_MANY, help="Draw at most this many test images."
)
@SEED
@click.option(
    "--output",
    type=PATH,
    default="embedding.png",
    show_default=True,
    panel=WHERE_TO,
    help="Draw the picture to this PNG file.",
)
def embed(
    model: Path, epsilon: float | None, steps: int, limit: int, seed: int, output: Path, modules: tuple[str, ...]
) -> None:
    """Draw the codes of test images, clean and under PGD, in two dimensions (t-SNE; Figures 5 and 6).

    MODEL is a folder that erkeras train or erkeras.save wrote. One colour a class; triangles are misclassified.
    """
    drawable(output)
    subject = evaluation.Subject.find(model, modules)
    if subject.card is None or subject.card.purified:
        raise InputError(f"{model} has no codes: give a folder of an ER-Classifier that erkeras train wrote.")
    run = evaluation.Evaluation(
        subject,
        AttackSettings(("pgd",), steps=steps, restarts=1),
        limit=limit,
        seed=seed,
        threat=threat_of("l_inf", epsilon, subject.name),
    )
    console.load_tensorflow(for_attacks=True)
    with console.progress() as progress:
        found = run.run(progress)
        progress.stage("embedding", 1)
        clean, attacked = evaluation.embed_codes(run.victim, run.images.images, found.examples.images, seed)
        progress.advance(1)
    words = f"{len(run.images)} test images of {run.sample.dataset}"
    attack = f"under PGD-{steps} at epsilon {run.threat.epsilon:g}"
    evaluation.draw_embedding(
        output,
        clean,
        attacked,
        run.images.labels,
        ~found.robust,
        subject.card.dataset.class_names,
        f"{model.name}: codes of {words}, clean and {attack}",
    )
    console.output.print(f"Robust accuracy {found.robust_accuracy:.1%} on {words} {attack}. Drawn in {output}")
