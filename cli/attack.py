"""erkeras attack."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import rich_click as click

from erkeras import evaluation, saved
from erkeras.attacks.named import ADAPTIVE, AttackSettings
from erkeras.errors import InputError
from erkeras.files import write_arrays, write_text

from . import console
from .options import (
    CONFIDENCE,
    COUNT,
    ENDPOINT,
    HOW_MANY,
    HOW_STRONG,
    INTERNAL_BATCH,
    MODULES,
    NORM,
    PATH,
    RADIUS,
    SEED,
    STEP_SIZE,
    STEPS,
    WHAT,
    WHERE_TO,
    XLA,
    attack_option,
    drawable,
    threat_of,
    writable,
)
from .report import hint
from .workers import CLUSTER, WORKERS, started

if TYPE_CHECKING:
    from erkeras.evaluation import Evaluation, Robustness

#: Images that a gallery shows.
_SHOWN = 10


@click.command()
@click.argument("model", type=PATH, required=False)
@ENDPOINT
@click.option(
    "--dataset",
    panel=WHAT,
    help="Attack images of this data set, named as for erkeras train.  [default: what MODEL was trained on]",
)
@click.option(
    "--split",
    type=click.Choice(["test", "validation"]),
    default="test",
    show_default=True,
    panel=WHAT,
    help="Attack images of this split.",
)
@click.option(
    "--with-detector",
    is_flag=True,
    panel=WHAT,
    help=f"Attack the model and its detector at once: {', '.join(ADAPTIVE)} can.",
)
@click.option(
    "--naive",
    is_flag=True,
    panel=WHAT,
    help="Attack the classifier without its purifier, and then classify the attacked images through the purifier.",
)
@MODULES
@attack_option("pgd")
@NORM
@click.option(
    "--epsilon",
    type=RADIUS,
    panel=HOW_STRONG,
    help="Allow perturbations up to this norm.  [default: as MODEL's card reports]",
)
@click.option(
    "--version",
    type=click.Choice(["standard", "plus", "rand"]),
    panel=HOW_STRONG,
    help="Run this version of AutoAttack.  [default: standard]",
)
@STEPS
@STEP_SIZE
@click.option(
    "--restarts",
    type=COUNT,
    panel=HOW_STRONG,
    help="Start this many times for each image.  [default: 5 for PGD, 1 for APGD, FAB and Square]",
)
@click.option(
    "--iterations",
    type=COUNT,
    panel=HOW_STRONG,
    help="Run this many iterations.  [default: 100 for APGD and FAB, 1000 for each search step of C&W]",
)
@click.option(
    "--queries",
    type=COUNT,
    panel=HOW_STRONG,
    help="Let the attack make this many queries for each image.  [default: 5000 for Square, 10000 for RayS]",
)
@CONFIDENCE
@click.option(
    "--limit", type=COUNT, default=1000, show_default=True, panel=HOW_MANY, help="Attack at most this many images."
)
@SEED
@INTERNAL_BATCH
@XLA
@WORKERS
@CLUSTER
@click.option("--record", type=PATH, panel=WHERE_TO, help="Record every example in this folder.")
@click.option(
    "--card",
    is_flag=True,
    panel=WHERE_TO,
    help="Keep the record in MODEL's folder, and put its figures on the model's card.",
)
@click.option("--resume", is_flag=True, panel=WHERE_TO, help="Continue the record of an interrupted run.")
@click.option(
    "--json",
    "json_file",
    type=PATH,
    panel=WHERE_TO,
    help="Write the figures and the verdict of every image to this file.",
)
@click.option(
    "--save-images",
    type=PATH,
    panel=WHERE_TO,
    help="Write the images, the attacked images and the labels to this .npz file.",
)
@click.option(
    "--gallery", type=PATH, panel=WHERE_TO, help=f"Draw {_SHOWN} broken images, clean and attacked, to this PNG file."
)
def attack(
    model: Path | None,
    endpoint: str | None,
    dataset: str | None,
    split: str,
    norm: str,
    epsilon: float | None,
    naive: bool,
    limit: int,
    seed: int,
    internal_batch: int | None,
    xla: bool | None,
    record: Path | None,
    card: bool,
    resume: bool,
    json_file: Path | None,
    save_images: Path | None,
    gallery: Path | None,
    modules: tuple[str, ...],
    workers: int | None,
    cluster: str | None,
    **options: Any,
) -> None:
    """Attack MODEL, and say how many images withstand every attack.

    MODEL is a folder that erkeras train or erkeras.save wrote, a .keras file or a SavedModel. With --endpoint there is
    no MODEL.
    """
    settings = AttackSettings(**options)
    subject = _subject(model, endpoint, modules, settings)
    for path in (json_file, save_images):
        writable(path)
    drawable(gallery)
    if record is not None and not record.exists():
        writable(record)
    if resume and not (record or card):
        raise InputError("--resume was given without --record or --card: add the one of the run to go on with.")
    if endpoint and (record or card or naive):
        raise InputError("--endpoint was given with --record, --card or --naive: leave one out.")
    if endpoint and xla is not None:
        raise InputError("--xla or --no-xla was given with --endpoint, and a server compiles for itself: leave it out.")
    if (workers or cluster) and (endpoint or naive):
        raise InputError("--workers or --cluster was given with --endpoint or --naive: leave one out.")
    run = evaluation.Evaluation(
        subject,
        settings,
        dataset=dataset,
        split=split,
        limit=limit,
        seed=seed,
        threat=threat_of(norm, epsilon, subject.name),
        record=record,
        card=card,
        resume=resume,
        internal_batch=internal_batch,
        jit_compile="auto" if xla is None else xla,
    )
    if naive:
        run.check_naive()
    console.load_tensorflow(for_attacks=True)
    with started(workers, cluster) as crew, console.progress() as progress:
        found = run.run_naively(progress) if naive else run.run(progress, workers=crew)
    _show(run, found)
    _write(run, found, json_file, save_images, gallery)
    if run.folder is not None:
        console.output.print(f"Recorded in {run.folder}: erkeras verify {run.folder}")
    if card and model is not None:
        console.output.print(hint(model))


def _subject(
    model: Path | None, endpoint: str | None, modules: tuple[str, ...], settings: AttackSettings
) -> evaluation.Subject:
    if endpoint is not None:
        if model is not None or modules:
            raise InputError("--endpoint was given with MODEL or --import: leave one out.")
        return evaluation.Subject.served(endpoint, settings)
    if model is None:
        raise InputError("no model was given: give a folder that erkeras train wrote, a .keras file or a SavedModel.")
    return evaluation.Subject.find(model, modules)


def _show(run: Evaluation, found: Robustness) -> None:
    summary = found.summary()
    for sentence in summary.warnings:
        console.messages.print(sentence, style="yellow")
    rows = [[saved.clean_title(summary), saved.percent(summary.clean_accuracy), "", "", ""]]
    for name, seconds in zip(found.names, found.seconds, strict=True):
        passes = [f"{count[name]:,}" for count in (summary.forward_passes, summary.backward_passes)]
        rows.append([name, saved.percent(summary.attacks[name]), f"{seconds:.1f}", *passes])
    console.print_table(
        f"{run.subject.name} on {summary.images} {run.sample.split} images of {run.sample.dataset}, "
        f"{run.threat.norm}, epsilon {run.threat.epsilon:g} (outputs: {summary.outputs})",
        ["attack", "robust after it", "seconds", "forward", "backward passes"],
        rows,
    )
    if summary.mean_boundary_distance is not None:
        console.output.print(f"Mean distance to the decision boundary: {summary.mean_boundary_distance:.4f}")
    if run.subject.kind == "served":
        console.output.print(f"{run.subject.name} was asked about {run.victim.asked:,} images.")


def _write(
    run: Evaluation, found: Robustness, json_file: Path | None, save_images: Path | None, gallery: Path | None
) -> None:
    examples = found.examples
    if json_file is not None:
        write_text(json_file, json.dumps(run.report(found), indent=1))
    if save_images is not None:
        arrays = {
            "images": examples.images,
            "labels": run.images.labels,
            "clean_images": run.images.images,
            "indices": run.images.indices,
            "successful": found.successful,
        }
        write_arrays(save_images, arrays)
    if gallery is not None:
        _draw_gallery(run, found, gallery)


def _draw_gallery(run: Evaluation, found: Robustness, path: Path) -> None:
    examples, rows = found.examples, found.successful.nonzero()[0][:_SHOWN]
    if not len(rows):
        console.messages.print("No image was broken: there is nothing to draw.", style="yellow")
        return
    names = run.subject.card.dataset.class_names if run.subject.card else ()

    def name(label: int) -> str:
        return names[label] if label < len(names) else str(label)

    captions = [(name(int(examples.labels[row])), name(int(examples.predictions[row]))) for row in rows]
    title = f"{run.subject.short_name}: broken by {', '.join(found.names)} at epsilon {run.threat.epsilon:g}"
    evaluation.draw_gallery(path, run.images.images[rows], examples.images[rows], captions, title)
    console.output.print(f"Drawn in {path}")
