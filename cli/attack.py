"""erkeras attack."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from .curve import draw_curve
from .options import COUNT, ENDPOINT, EPSILONS, MODULES, PATH, RADIUS, SEED, FiniteFloat, drawable, writable
from .target import AIMED, ATTACKS, Settings, Target, find_endpoint, find_target, make_attacks

#: Images that a gallery shows.
_SHOWN = 10


@click.command()
@click.argument("model", type=PATH, required=False)
@ENDPOINT
@click.option("--dataset", help="As for train.  [default: the one the model was trained on]")
@click.option("--split", type=click.Choice(["test", "validation"]), default="test", show_default=True)
@click.option(
    "--attack",
    "attacks",
    type=click.Choice(ATTACKS),
    multiple=True,
    default=["pgd"],
    show_default=True,
    help="More than once for several, each on the images that still stand.",
)
@click.option(
    "--version",
    type=click.Choice(["standard", "plus", "rand"]),
    default="standard",
    show_default=True,
    help="Of AutoAttack.",
)
@click.option("--norm", type=click.Choice(["l_inf", "l2"]), default="l_inf", show_default=True)
@click.option("--epsilon", type=RADIUS, help="Radius of the ball.  [default: as the model was judged]")
@click.option("--epsilons", type=EPSILONS, help="START:STOP:STEP: the accuracy at each, as a table and a picture.")
@click.option("--steps", type=COUNT, default=40, show_default=True, help="Of PGD.")
@click.option("--step-size", type=FiniteFloat(0), help="Of PGD.  [default: epsilon / 30]")
@click.option("--restarts", type=COUNT, help="Of PGD (5), APGD, FAB and Square (1).")
@click.option("--iterations", type=COUNT, help="Of APGD and FAB (100), and of each search step of C&W (1000).")
@click.option("--queries", type=COUNT, help="Of Square (5000) and RayS (10000).")
@click.option(
    "--with-detector",
    is_flag=True,
    help=f"Judge the model with its detector: broken is what is wrong and taken for natural ({', '.join(AIMED)}).",
)
@click.option(
    "--naive",
    is_flag=True,
    help="Attack the classifier behind a purifier (defense-gan) alone; judge what comes of it through the purifier.",
)
@click.option("--limit", type=COUNT, default=1000, show_default=True, help="Images to attack, drawn by the seed.")
@click.option("--seed", type=SEED, default=0, show_default=True)
@click.option("--record", type=PATH, help="Folder for a record of every example, which --verify verifies.")
@click.option("--card", is_flag=True, help="Keep the record in MODEL, a folder of ours, and its figures in the card.")
@click.option("--resume", is_flag=True, help="Go on with the record of an interrupted run.")
@click.option("--verify", type=PATH, help="Recompute the accuracy of a record from its images; nothing is attacked.")
@click.option("--json", "json_file", type=PATH, help="Write the figures, and the verdict of every image, to a file.")
@click.option("--save-images", type=PATH, help="Write images, attacked images and labels to an .npz file.")
@click.option("--gallery", type=PATH, help=f"Draw {_SHOWN} images, what broke them, and both labels (PNG).")
@click.option("--curve", type=PATH, default="curve.png", show_default=True, help="The picture of --epsilons (PNG).")
@MODULES
def attack(
    model: Path | None,
    endpoint: str | None,
    dataset: str | None,
    split: str,
    norm: str,
    epsilon: float | None,
    epsilons: tuple[float, ...] | None,
    naive: bool,
    limit: int,
    seed: int,
    record: Path | None,
    card: bool,
    resume: bool,
    verify: Path | None,
    json_file: Path | None,
    save_images: Path | None,
    gallery: Path | None,
    curve: Path,
    modules: tuple[str, ...],
    **options: Any,
) -> None:
    """Attack MODEL: a folder that erkeras train wrote, a .keras file or a SavedModel; or a served one (--endpoint)."""
    from erkeras.errors import InputError

    if verify is not None:
        return _verify(verify, model, modules)
    settings = Settings(**options)
    if epsilons:
        if epsilon is not None:
            raise InputError("--epsilons was given with --epsilon: leave one out.")
        epsilon = epsilons[-1]
    where = (dataset, split, norm, epsilon, limit, seed, settings)
    if endpoint is not None:
        if model or record or card or epsilons or naive:
            raise InputError("--endpoint was given with MODEL, --record, --card, --epsilons or --naive: leave one out.")
        target = find_endpoint(endpoint, *where)
    elif model is not None:
        target = find_target(model, *where, modules)
    else:
        raise InputError("no model was given: give a folder that erkeras train wrote, a .keras file or a SavedModel.")
    if naive and (record or card or epsilons or settings.with_detector or not target.purified):
        raise InputError(
            "--naive was given without a folder of erkeras train --defense defense-gan, or with --record, --card, "
            "--epsilons or --with-detector: leave one out."
        )
    if card:
        if target.card is None or record or epsilons:
            raise InputError(
                "--card was given without a folder of ours, or with --record or --epsilons: leave one out."
            )
        record = target.model / "records" / _title(target, settings).replace(" ", "-")
    elif record and not record.exists():
        writable(record)
    for path in (json_file, save_images):
        writable(path)
    drawable(gallery)
    if epsilons is not None:
        drawable(curve)
        if record or json_file or save_images or gallery:
            raise InputError(
                "--epsilons makes a table and a picture alone: leave out --record, --json, --save-images and --gallery."
            )
        draw_curve([target], settings, epsilons, curve)
        return
    opened = _open_record(record, resume, target, settings, "--epsilon or --attack" if card else "--record")

    from . import console

    console.load_tensorflow(for_attacks=True)
    from erkeras.evaluation import evaluate_robustness, judge_by

    images, chosen, victim = target.images(), make_attacks(settings, target.threat), target.load(settings.with_detector)
    if record is not None:
        opened = opened or _create_record(record, target, settings, chosen)
    with console.RichProgress() as progress, _failures_of(victim):
        parts = [part for attack in chosen for part in attack.parts]
        progress.stage(f"attacking {len(images)} images", len(images) * sum(part.work for part in parts))
        robustness = evaluate_robustness(
            victim.classifier if naive else victim,
            images,
            chosen,
            seed=seed,
            record=opened,
            progress=progress.advance,
        )
        if naive:
            progress.stage("purifying", 1)
            robustness = judge_by(victim, robustness, images)
            progress.advance(1)
    _show(target, robustness)
    if endpoint is not None:
        console.output.print(f"{endpoint} was asked about {victim.asked:,} images.")
    _write(target, settings, images, robustness, json_file, save_images, gallery)
    if card and record is not None:
        _add_to_card(target, settings, robustness, record)
    if record is not None:
        console.output.print(f"Recorded in {record}: erkeras attack --verify {record}")


@contextmanager
def _failures_of(victim: Any) -> Iterator[None]:
    """A served model's failure as it was, not as TensorFlow tells of it."""
    try:
        yield
    except Exception as error:
        failure = getattr(victim, "failure", None)
        if failure is None:
            raise
        raise failure from error


def _record_settings(target: Target, settings: Settings, **more: Any) -> dict[str, Any]:
    import dataclasses

    from erkeras.serving.folder import fingerprint

    return {
        "model": str(target.model),
        "digest": fingerprint(target.path),
        "dataset": target.dataset,
        "split": target.split,
        "limit": target.limit,
        "seed": target.seed,
        "threat": dataclasses.asdict(target.threat),
        "asked": dataclasses.asdict(settings),
        **more,
    }


def _open_record(folder: Path | None, resume: bool, target: Target, settings: Settings, other: str) -> Any:
    """The record to go on with; None where there is none yet. Without TensorFlow.

    Args:
        other: the options by which it would be another record.
    """
    from erkeras.errors import InputError
    from erkeras.evaluation.record import Record

    if folder is None or not folder.exists():
        return None
    record = Record.open(folder)
    if not resume:
        raise InputError(f"{folder} exists: give another {other}, delete it, or add --resume.")
    differing = record.differs(_record_settings(target, settings))
    if differing:
        raise InputError(f"{folder} was made with {differing}: give the same settings, another {other}, or delete it.")
    return record


def _create_record(folder: Path, target: Target, settings: Settings, attacks: list[Any]) -> Any:
    from erkeras.evaluation import Record
    from erkeras.job import versions

    images = target.images()
    parts = [part for attack in attacks for part in attack.parts]
    return Record.create(
        folder,
        _record_settings(
            target,
            settings,
            images=len(images),
            image_shape=list(images.pixels.shape[1:]),
            attacks=[{"name": part.name, "config": part.get_config()} for part in parts],
            versions=versions(),
        ),
    )


def _verify(folder: Path, model: Path | None, modules: tuple[str, ...]) -> None:
    from erkeras.errors import InputError
    from erkeras.evaluation.record import Record
    from erkeras.serving.folder import find_model, fingerprint
    from erkeras.threat import ThreatModel

    record = Record.open(folder)
    asked = record.settings
    if "asked" not in asked:
        raise InputError(f"{folder} was made by erkeras detect: give a record that erkeras attack made.")
    # A record that a card keeps goes where its model goes.
    home = folder.absolute().parent.parent
    where = model or (home if (home / "card.json").is_file() else Path(asked["model"]))
    kind, path, card = find_model(where)
    if fingerprint(path) != asked["digest"]:
        raise InputError(
            f"{where} is not the model that {folder} is about, or not the same version of it: give that one."
        )
    from . import console

    console.load_tensorflow(for_attacks=True)  # the same kernels, to the last bit
    from erkeras.evaluation import verify_record

    settings = Settings(**{**asked["asked"], "attacks": tuple(asked["asked"]["attacks"])})
    threat = ThreatModel(**asked["threat"])
    target = Target(
        where, kind, path, card, asked["dataset"], asked["split"], threat, asked["limit"], asked["seed"], modules
    )
    from erkeras.data import load_dataset

    attacks = make_attacks(settings, threat)
    split = getattr(load_dataset(target.dataset), target.split)
    found = verify_record(record, target.load(settings.with_detector), split, attacks[0])
    if len(found.doubtful) or found.recorded != found.recomputed:
        listed = ", ".join(str(index) for index in found.doubtful[:10])
        raise InputError(
            f"{folder} says {found.recorded:.2%} and its images say {found.recomputed:.2%}: they differ on "
            f"{len(found.doubtful)} of {found.images} images (original indices {listed}): evaluate again."
        )
    console.output.print(
        f"{folder}: robust accuracy {found.recomputed:.2%} on {found.images} {target.split} images of "
        f"{target.dataset}, recomputed from the images; as recorded."
    )


def _title(target: Target, settings: Settings) -> str:
    """Tells an evaluation in a card from the others."""
    names = [f"autoattack {settings.version}" if name == "autoattack" else name for name in settings.attacks]
    threat = f"{target.threat.norm} {target.threat.epsilon:g}"
    words = [*dict.fromkeys(names), "with detector" if settings.with_detector else "", threat, target.split]
    return " ".join(word for word in words if word)


def _add_to_card(target: Target, settings: Settings, robustness: Any, record: Path) -> None:
    import dataclasses

    from erkeras.serving.folder import add_evaluation

    add_evaluation(
        target.model,
        {
            "title": _title(target, settings),
            "dataset": target.dataset,
            "split": target.split,
            "seed": target.seed,
            "threat": dataclasses.asdict(target.threat),
            "summary": robustness.summary(),
            "record": record.relative_to(target.model).as_posix(),
        },
    )


def _show(target: Target, robustness: Any) -> None:
    from erkeras.serving.card import percent

    from . import console

    summary = robustness.summary()
    for sentence in summary["warnings"]:
        console.messages.print(sentence, style="yellow")
    rows = [["clean", percent(summary["clean_accuracy"]), "", "", ""]]
    for name, seconds in zip(robustness.names, robustness.seconds, strict=True):
        passes = [f"{summary[kind][name]:,}" for kind in ("forward_passes", "backward_passes")]
        rows.append([name, percent(summary["attacks"][name]), f"{seconds:.1f}", *passes])
    title = (
        f"{target.shown} on {summary['images']} {target.split} images of {target.dataset}, {target.threat.norm}, "
        f"epsilon {target.threat.epsilon:g} (outputs: {summary['outputs']})"
    )
    columns = ["attack", "robust after it", "seconds", "forward", "backward passes"]
    console.print_table(title, columns, rows)
    if summary["mean_boundary_distance"] is not None:
        console.output.print(f"Mean distance to the decision boundary: {summary['mean_boundary_distance']:.4f}")


def _write(
    target: Target,
    settings: Settings,
    images: Any,
    robustness: Any,
    json_file: Path | None,
    save_images: Path | None,
    gallery: Path | None,
) -> None:
    from erkeras.evaluation import as_lines
    from erkeras.files import write_arrays, write_text

    examples = robustness.examples
    if json_file is not None:
        report = {
            "model": target.shown,
            "dataset": target.dataset,
            "split": target.split,
            "seed": target.seed,
            "settings": {attack.name: attack.get_config() for attack in robustness.attacks},
            **robustness.summary(),
            "seconds": dict(zip(robustness.names, robustness.seconds, strict=True)),
            "examples": as_lines(examples, robustness.names),
        }
        write_text(json_file, json.dumps(report, indent=1))
    if save_images is not None:
        arrays = {
            "images": examples.images,
            "labels": images.labels,
            "clean_images": images.images,
            "indices": images.indices,
            "successful": robustness.successful,
        }
        write_arrays(save_images, arrays)
    if gallery is not None:
        _draw_gallery(target, images, robustness, gallery)


def _draw_gallery(target: Target, images: Any, robustness: Any, path: Path) -> None:
    from erkeras.evaluation import draw_gallery

    from . import console

    examples = robustness.examples
    rows = robustness.successful.nonzero()[0][:_SHOWN]
    if not len(rows):
        console.messages.print("No image was broken: there is nothing to draw.", style="yellow")
        return
    names = target.card["dataset"]["class_names"] if target.card else None

    def name(label: int) -> str:
        return names[label] if names and label < len(names) else str(label)

    captions = [(name(int(examples.labels[row])), name(int(examples.predictions[row]))) for row in rows]
    title = f"{target.model.name}: broken by {', '.join(robustness.names)} at epsilon {target.threat.epsilon:g}"
    draw_gallery(path, images.images[rows], examples.images[rows], captions, title)
    console.output.print(f"Drawn in {path}")
