"""erkeras embed."""

from __future__ import annotations

from pathlib import Path

import click

from .options import COUNT, MODULES, PATH, RADIUS, SEED, drawable, import_modules


@click.command()
@click.argument("model", type=PATH)
@click.option("--epsilon", type=RADIUS, help="l_inf radius of the attack.  [default: as the model was judged]")
@click.option("--steps", type=COUNT, default=40, show_default=True, help="Of PGD.")
@click.option("--limit", type=COUNT, default=1000, show_default=True, help="Test images to draw, drawn by the seed.")
@click.option("--seed", type=SEED, default=0, show_default=True)
@click.option("--output", type=PATH, default="embedding.png", show_default=True, help="The picture (PNG).")
@MODULES
def embed(
    model: Path,
    epsilon: float | None,
    steps: int,
    limit: int,
    seed: int,
    output: Path,
    modules: tuple[str, ...],
) -> None:
    """Draw the codes of test images, clean and under PGD, in two dimensions (t-SNE; Figures 5 and 6).

    MODEL is a folder that erkeras train wrote. One colour a class; triangles are misclassified.
    """
    from erkeras.data import check_dataset, load_dataset
    from erkeras.errors import InputError
    from erkeras.judging import JUDGING_STEP_RATIO
    from erkeras.serving.folder import load_model, read_card
    from erkeras.threat import ThreatModel

    card = read_card(model)
    if not card["detector"]:
        raise InputError(f"{model} has no codes, but a purifier: give a model of another --defense.")
    drawable(output)
    name = card["dataset"]["name"]
    check_dataset(name)
    threat = ThreatModel("l_inf", card["evaluation"]["epsilon"] if epsilon is None else epsilon)

    from . import console

    console.load_tensorflow(for_attacks=True)
    from erkeras.attacks import PGD
    from erkeras.evaluation import draw_embedding, evaluate_robustness, project_codes

    images = load_dataset(name).test.sample(limit, seed)
    import_modules(modules)
    network = load_model("keras", model / "model.keras")
    pgd = PGD(threat, steps, JUDGING_STEP_RATIO * threat.epsilon)
    with console.RichProgress() as progress:
        progress.stage(f"attacking {len(images)} images", len(images) * pgd.work)
        found = evaluate_robustness(network, images, [pgd], seed=seed, progress=progress.advance)
        progress.stage("embedding", 1)
        codes = [
            network.encoder.predict(part, batch_size=250, verbose=0) for part in (images.images, found.examples.images)
        ]
        clean, attacked = project_codes(*codes, seed=seed)
        progress.advance(1)
    draw_embedding(
        output,
        clean,
        attacked,
        images.labels,
        ~found.robust,
        card["dataset"]["class_names"],
        f"{model.name}: codes of {len(images)} test images of {name}, clean and under PGD-{steps} at epsilon "
        f"{threat.epsilon:g}",
    )
    console.output.print(
        f"Robust accuracy {found.robust_accuracy:.1%} on {len(images)} test images of {name} under PGD-{steps} at "
        f"epsilon {threat.epsilon:g}. Drawn in {output}"
    )
