"""erkeras detect."""

from __future__ import annotations

from pathlib import Path

import click

from .options import PATH


@click.command()
@click.argument("model", type=PATH)
@click.argument("paths", type=PATH, nargs=-1, required=True)
def detect(model: Path, paths: tuple[Path, ...]) -> None:
    """Give label, probability, adversarial score and verdict of images.

    MODEL is a folder that erkeras train wrote; PATHS are image files, folders of them, or .npz files with an array
    `images`.
    """
    from erkeras.data import read_labelled_paths
    from erkeras.errors import InputError
    from erkeras.serving.folder import read_card

    card = read_card(model)
    if not card["detector"]:
        raise InputError(f"{model} has no detector: give a model of another --defense.")
    names, images = read_labelled_paths(paths, card["dataset"]["image_shape"])

    from . import console

    console.load_tensorflow()
    from erkeras.serving import detect_with

    detection = detect_with(model / "1", images)
    classes = card["dataset"]["class_names"]
    console.print_table(
        f"{model}: threshold {card['detector']['threshold']:.4f}",
        ["image", "label", "probability", "score", "verdict"],
        [
            [
                name,
                classes[label],
                f"{probabilities[label]:.3f}",
                f"{score:.4f}",
                "adversarial" if verdict else "natural",
            ]
            for name, label, probabilities, score, verdict in zip(
                names,
                detection["label"],
                detection["probabilities"],
                detection["adversarial_score"],
                detection["verdict"],
                strict=True,
            )
        ],
    )
