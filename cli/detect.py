"""erkeras detect."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import rich_click as click

from erkeras import data, saved, serving
from erkeras.errors import InputError
from erkeras.files import write_text
from erkeras.memory import within_memory

from . import console
from .options import ENDPOINT, PATH, WHERE_TO, writable

#: Exit code of --exit-code.
FOUND = 1


@click.command()
@click.argument("model", type=PATH)
@click.argument("paths", type=PATH, nargs=-1)
@ENDPOINT
@click.option(
    "--json", "json_file", type=PATH, panel=WHERE_TO, help="Write the verdicts to this file. - is standard output."
)
@click.option(
    "--exit-code", is_flag=True, panel=WHERE_TO, help=f"Exit with code {FOUND} where any image is adversarial."
)
@click.pass_context
def detect(
    context: click.Context,
    model: Path,
    paths: tuple[Path, ...],
    endpoint: str | None,
    json_file: Path | None,
    exit_code: bool,
) -> None:
    """Give label, probability, adversarial score and verdict of images.

    MODEL is a folder that erkeras train or erkeras.save wrote, or a SavedModel that was exported with its detector.
    PATHS are image files, folders of them, or .npz files with an array `images`. With --endpoint there is no MODEL, and
    a server gives the verdicts.
    """
    if json_file != Path("-"):
        writable(json_file)
    if not (paths or endpoint):
        raise click.UsageError("Missing argument 'PATHS...'.", context)
    with within_memory("in detecting", "give fewer or smaller images, or a smaller model"):
        answer = _ask_server(endpoint, (model, *paths)) if endpoint else _ask_folder(model, paths)
    if json_file != Path("-"):
        _print_verdicts(answer)
    if json_file:
        write_json(json_file, {"model": answer.source, "threshold": answer.threshold, "images": answer.verdicts})
    if exit_code and any(row["adversarial"] for row in answer.verdicts):
        context.exit(FOUND)


@dataclass(frozen=True)
class _Answer:
    """Holds what a model says of images."""

    source: str
    images: list[str]
    #: Of the signature `detect`.
    outputs: dict[str, Any]
    #: None where a server answers, which says neither.
    threshold: float | None = None
    classes: tuple[str, ...] | None = None

    @cached_property
    def verdicts(self) -> list[dict[str, Any]]:
        columns = (self.outputs[name] for name in ("label", "probabilities", "adversarial_score", "verdict"))
        return [
            {
                "image": image,
                "label": self.classes[label] if self.classes else str(label),
                "probability": float(probabilities[label]),
                "score": float(score),
                "adversarial": bool(verdict),
            }
            for image, label, probabilities, score, verdict in zip(self.images, *columns, strict=True)
        ]


def _ask_server(endpoint: str, paths: tuple[Path, ...]) -> _Answer:
    with serving.Client(endpoint) as client:
        names, images = data.read_labelled_paths(paths, client.image_shape)
        return _Answer(endpoint, names, client.detect(images))


def _ask_folder(model: Path, paths: tuple[Path, ...]) -> _Answer:
    kind, place, card = saved.find_model(model)
    if kind == "saved_model":  # without a card, which would say the threshold and the classes
        console.load_tensorflow()
        image_shape, detect = serving.open_detect(place)
        names, images = data.read_labelled_paths(paths, image_shape)
        return _Answer(str(model), names, detect(images))
    if card is None or card.detector is None:
        raise InputError(f"{model} has no detector: give a model that has one.")
    names, images = data.read_labelled_paths(paths, card.dataset.image_shape)
    console.load_tensorflow()
    outputs = serving.detect_with(model / str(saved.newest_version(model)), images)
    return _Answer(str(model), names, outputs, card.detector.threshold, card.dataset.class_names)


def _print_verdicts(answer: _Answer) -> None:
    console.print_table(
        answer.source if answer.threshold is None else f"{answer.source}: threshold {answer.threshold:.4f}",
        ["image", "label", "probability", "score", "verdict"],
        [
            [
                row["image"],
                row["label"],
                f"{row['probability']:.3f}",
                f"{row['score']:.4f}",
                "adversarial" if row["adversarial"] else "natural",
            ]
            for row in answer.verdicts
        ],
    )


def write_json(path: Path, report: Any) -> None:
    """Writes figures to a file, or to standard output for `-`."""
    text = json.dumps(report, indent=1)
    if path == Path("-"):
        click.echo(text)
    else:
        write_text(path, text)
