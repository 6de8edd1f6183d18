"""erkeras attack."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from .options import COUNT, PATH, RADIUS, SEED, FiniteFloat, writable

ATTACKS = ("fgsm", "pgd")


@click.command()
@click.argument("model", type=PATH)
@click.option("--dataset", help="As for train.  [default: the one the model was trained on]")
@click.option("--split", type=click.Choice(["test", "validation"]), default="test", show_default=True)
@click.option(
    "--attack",
    "attacks",
    type=click.Choice(ATTACKS),
    multiple=True,
    default=["pgd"],
    show_default=True,
    help="More than once for several.",
)
@click.option("--norm", type=click.Choice(["l_inf", "l2"]), default="l_inf", show_default=True)
@click.option("--epsilon", type=RADIUS, help="Radius of the ball.  [default: as the model was judged]")
@click.option("--steps", type=COUNT, default=40, show_default=True, help="Of PGD.")
@click.option("--step-size", type=FiniteFloat(0), help="Of PGD.  [default: epsilon / 30]")
@click.option("--restarts", type=COUNT, default=5, show_default=True, help="Of PGD.")
@click.option("--limit", type=COUNT, default=1000, show_default=True, help="Images to attack, drawn by the seed.")
@click.option("--seed", type=SEED, default=0, show_default=True)
@click.option("--json", "json_file", type=PATH, help="Write the figures, and the verdict of every image, to a file.")
@click.option("--save-images", type=PATH, help="Write images, attacked images and labels to an .npz file.")
def attack(
    model: Path,
    dataset: str | None,
    split: str,
    attacks: tuple[str, ...],
    norm: str,
    epsilon: float | None,
    steps: int,
    step_size: float | None,
    restarts: int,
    limit: int,
    seed: int,
    json_file: Path | None,
    save_images: Path | None,
) -> None:
    """Attack MODEL: a folder that erkeras train wrote, a .keras file or a SavedModel."""
    from erkeras.data import check_dataset, load_dataset
    from erkeras.errors import InputError
    from erkeras.files import write_arrays, write_text
    from erkeras.serving.folder import find_model, load_model
    from erkeras.threat import ThreatModel

    kind, path, card = find_model(model)
    if dataset is None:
        if card is None:
            raise InputError(f"{model} does not say what it was trained on: give --dataset.")
        dataset = card["dataset"]["name"]
    if epsilon is None:
        if card is None or norm != "l_inf":
            raise InputError(f"no epsilon is known for {model} and the norm {norm}: give --epsilon.")
        epsilon = card["evaluation"]["epsilon"]
    shape = check_dataset(dataset)
    if card is not None and list(shape) != card["dataset"]["image_shape"]:
        raise InputError(
            f"{dataset} has images of {_size(shape)} and {model} takes {_size(card['dataset']['image_shape'])}: "
            "give images of its size."
        )
    threat = ThreatModel(norm, epsilon)
    writable(json_file)
    writable(save_images)

    from . import console

    console.load_tensorflow()
    from erkeras.attacks import FGSM, PGD
    from erkeras.evaluation import evaluate_robustness

    step = epsilon / 30 if step_size is None else step_size
    makers = {"fgsm": lambda: FGSM(threat), "pgd": lambda: PGD(threat, steps, step, restarts)}
    chosen = [makers[name]() for name in dict.fromkeys(attacks)]
    images = getattr(load_dataset(dataset), split).sample(limit, seed)
    with console.RichProgress() as progress:
        progress.stage(f"attacking {len(images)} images", len(images) * sum(attack.work for attack in chosen))
        robustness = evaluate_robustness(load_model(kind, path), images, chosen, seed=seed, progress=progress.advance)

    summary = robustness.summary()
    show(model, dataset, split, threat, summary)
    if json_file is not None:
        write_text(json_file, json.dumps(_report(model, dataset, split, threat, chosen, seed, robustness), indent=1))
    if save_images is not None:
        write_arrays(save_images, _arrays(images, robustness))


def _size(shape: Sequence[int]) -> str:
    return " x ".join(str(number) for number in shape)


def show(model: Path, dataset: str, split: str, threat: Any, summary: dict[str, Any]) -> None:
    from erkeras.serving.card import percent

    from . import console

    if summary["outputs"] == "probabilities":
        console.messages.print(
            "The model gives probabilities, not logits: where its softmax saturates, gradients vanish and attacks on "
            "it are weaker. Attack a model that ends in logits where you can.",
            style="yellow",
        )
    rows = [["clean", percent(summary["clean_accuracy"])]]
    rows += [[name, percent(accuracy)] for name, accuracy in summary["attacks"].items()]
    rows.append(["worst of all", percent(summary["robust_accuracy"])])
    title = f"{model} on {summary['images']} {split} images of {dataset}, {threat.norm}, epsilon {threat.epsilon:g}"
    console.print_table(f"{title} (outputs: {summary['outputs']})", ["attack", "accuracy"], rows)


def _report(
    model: Path, dataset: str, split: str, threat: Any, attacks: list[Any], seed: int, robustness: Any
) -> dict[str, Any]:
    return {
        "model": str(model),
        "dataset": dataset,
        "split": split,
        "seed": seed,
        "settings": {attack.name: attack.get_config() for attack in attacks},
        **robustness.summary(),
        "examples": [
            {
                "index": int(index),
                "label": int(label),
                "attacks": {
                    name: {
                        "clean_prediction": int(attacked.clean_predictions[row]),
                        "prediction": int(attacked.predictions[row]),
                        "success": bool(attacked.success[row]),
                        "distance": float(attacked.distance[row]),
                        "queries": int(attacked.queries[row]),
                    }
                    for name, attacked in robustness.attacked.items()
                },
            }
            for row, (index, label) in enumerate(zip(robustness.indices, robustness.labels, strict=True))
        ],
    }


def _arrays(images: Any, robustness: Any) -> dict[str, Any]:
    adversarial, successful = robustness.adversarial()
    return {
        "images": adversarial,
        "labels": images.labels,
        "clean_images": images.images,
        "indices": images.indices,
        "successful": successful,
    }
