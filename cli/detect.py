"""erkeras detect."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from .options import ENDPOINT, PATH


@click.command()
@click.argument("model", type=PATH)
@click.argument("paths", type=PATH, nargs=-1)
@ENDPOINT
def detect(model: Path, paths: tuple[Path, ...], endpoint: str | None) -> None:
    """Give label, probability, adversarial score and verdict of images.

    MODEL is a folder that erkeras train wrote; PATHS are image files, folders of them, or .npz files with an array
    `images`. With --endpoint URL there is no MODEL: a server gives the verdicts.
    """
    from erkeras.data import read_labelled_paths

    if endpoint is not None:
        from erkeras.serving import Client

        with Client(endpoint) as client:
            names, images = read_labelled_paths((model, *paths), client.image_shape)
            _show(endpoint, names, client.detect(images), None)
        return
    if not paths:
        raise click.UsageError("Missing argument 'PATHS...'.")
    from erkeras.errors import InputError
    from erkeras.serving.folder import newest_version, read_card

    card = read_card(model)
    if not card["detector"]:
        raise InputError(f"{model} has no detector: give a model of another --defense.")
    names, images = read_labelled_paths(paths, card["dataset"]["image_shape"])

    from . import console

    console.load_tensorflow()
    from erkeras.serving import detect_with

    detection = detect_with(model / str(newest_version(model)), images)
    _show(f"{model}: threshold {card['detector']['threshold']:.4f}", names, detection, card["dataset"]["class_names"])


def _show(title: str, names: list[str], detection: dict[str, Any], classes: list[str] | None) -> None:
    from . import console

    console.print_table(
        title,
        ["image", "label", "probability", "score", "verdict"],
        [
            [
                name,
                classes[label] if classes else str(label),
                f"{probabilities[label]:.3f}",
                f"{score:.4f}",
                "adversarial" if verdict else "natural",
            ]
            for name, label, probabilities, score, verdict in zip(
                names,
                *(detection[key] for key in ("label", "probabilities", "adversarial_score", "verdict")),
                strict=True,
            )
        ],
    )
