"""erkeras detect."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import click

from .detectors import ATTACKS, DETECTORS, Protocol, compare_detectors
from .options import COUNT, ENDPOINT, EPSILON, MODULES, PATH, SEED, FiniteFloat, drawable, writable

#: Exit code of --exit-code.
FOUND = 1


@click.command()
@click.argument("model", type=PATH)
@click.argument("paths", type=PATH, nargs=-1)
@ENDPOINT
@click.option("--json", "json_file", type=PATH, help="Write verdicts or figures to a file; - for standard output.")
@click.option("--exit-code", is_flag=True, help=f"Exit with {FOUND} where any image is adversarial.")
@click.option("--evaluate", is_flag=True, help="Judge detectors of MODEL on attacked test images (section 4.5).")
@click.option("--table", is_flag=True, help="Tables 5 to 8: MODEL and PATHS are models, with an undefended one.")
@click.option(
    "--attack", type=click.Choice(ATTACKS), default="pgd", show_default=True, help="That --evaluate judges by."
)
@click.option("--fit-on", type=click.Choice(ATTACKS), help="That --evaluate fits on.  [default: --attack]")
@click.option(
    "--detector",
    "detectors",
    type=click.Choice(DETECTORS),
    multiple=True,
    help="More than once for several.  [default: kd, lid of an undefended model; er1, er2 where there is a code]",
)
@click.option(
    "--false-positive-rate",
    type=FiniteFloat(0, 1, min_open=True, max_open=True),
    help="Set the threshold for this rate on set I.  [default: the regression's own decision, at 1/2]",
)
@click.option("--with-detector", is_flag=True, help="And judge by PGD that knows the detector.")
@click.option(
    "--limit", type=COUNT, default=500, show_default=True, help="Of set II, that C&W and --with-detector attack."
)
@click.option("--epsilon", type=EPSILON, help="l_inf radius of FGSM and PGD.  [default: as MODEL was judged]")
@click.option(
    "--cw-bound",
    type=EPSILON,
    help="Bound of C&W's root mean square distance; 1 for none.  [default: mnist 0.007, cifar10 0.004, else 1]",
)
@click.option("--confidence", type=FiniteFloat(0), default=0.0, show_default=True, help="Of C&W.")
@click.option("--iterations", type=COUNT, default=1000, show_default=True, help="Of each search step of C&W.")
@click.option("--steps", type=COUNT, default=40, show_default=True, help="Of PGD, each of epsilon / 30.")
@click.option("--seed", type=SEED, default=0, show_default=True)
@click.option("--record", type=PATH, help="Folder for records of the attacks; those that are there serve again.")
@click.option("--picture", type=PATH, help="Draw the scores of --evaluate, clean against attacked (PNG).")
@MODULES
@click.pass_context
def detect(
    context: click.Context,
    model: Path,
    paths: tuple[Path, ...],
    endpoint: str | None,
    json_file: Path | None,
    exit_code: bool,
    evaluate: bool,
    table: bool,
    picture: Path | None,
    **options: Any,
) -> None:
    """Give label, probability, adversarial score and verdict of images; or judge detectors.

    MODEL is a folder that erkeras train wrote; PATHS are image files, folders of them, or .npz files with an array
    `images`. With --endpoint URL there is no MODEL: a server gives the verdicts. With --evaluate or --table detectors
    are fitted and judged by the protocol of the paper's section 4.5.
    """
    from erkeras.errors import InputError

    if json_file != Path("-"):
        writable(json_file)
    if not (evaluate or table):
        if not (paths or endpoint):
            raise click.UsageError("Missing argument 'PATHS...'.", context)
        if picture:
            raise InputError("--picture was given without --evaluate: add it.")
        answer = _ask_server(endpoint, (model, *paths)) if endpoint else _ask_folder(model, paths)
        if json_file != Path("-"):
            _print_verdicts(answer)
        if json_file:
            _write_json(json_file, {"model": answer.source, "threshold": answer.threshold, "images": answer.verdicts})
        if exit_code and any(row["adversarial"] for row in answer.verdicts):
            context.exit(FOUND)
        return
    if endpoint:
        raise InputError("--endpoint was given with --evaluate or --table: give a folder that erkeras train wrote.")
    if exit_code or (evaluate and (table or paths)) or (table and picture):
        raise InputError(
            "--evaluate takes one model, --table several and no --picture, neither --exit-code: give one of the two."
        )
    drawable(picture)
    attack, fit_on = options.pop("attack"), options.pop("fit_on")
    pairs = None if table else (fit_on or attack, attack)
    report = compare_detectors((model, *paths), pairs, Protocol(**options), picture)
    if json_file:
        _write_json(json_file, report)


@dataclass(frozen=True)
class _Answer:
    """What a model says of images."""

    source: str
    images: list[str]
    #: Of the signature `detect`.
    outputs: dict[str, Any]
    #: None where a server answers, which says neither.
    threshold: float | None = None
    classes: list[str] | None = None

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
    from erkeras.data import read_labelled_paths
    from erkeras.serving import Client

    with Client(endpoint) as client:
        names, images = read_labelled_paths(paths, client.image_shape)
        return _Answer(endpoint, names, client.detect(images))


def _ask_folder(model: Path, paths: tuple[Path, ...]) -> _Answer:
    from erkeras.data import read_labelled_paths
    from erkeras.errors import InputError
    from erkeras.serving.folder import newest_version, read_card

    card = read_card(model)
    if not card["detector"]:
        raise InputError(f"{model} has no detector: give a model of another --defense.")
    names, images = read_labelled_paths(paths, card["dataset"]["image_shape"])

    from . import console

    console.load_tensorflow()
    from erkeras.serving import detect_with

    outputs = detect_with(model / str(newest_version(model)), images)
    return _Answer(str(model), names, outputs, card["detector"]["threshold"], card["dataset"]["class_names"])


def _print_verdicts(answer: _Answer) -> None:
    from . import console

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


def _write_json(path: Path, report: Any) -> None:
    from erkeras.files import write_text

    text = json.dumps(report, indent=1)
    if path == Path("-"):
        click.echo(text)
    else:
        write_text(path, text)
