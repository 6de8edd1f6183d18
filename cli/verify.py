"""erkeras verify."""

from __future__ import annotations

from pathlib import Path

import rich_click as click

from erkeras import evaluation
from erkeras.errors import InputError

from . import console
from .options import COUNT, HOW_MANY, HOW_STRONG, MODULES, PATH, SEED_RANGE, WHERE_TO
from .workers import CLUSTER, WORKERS, started


@click.command()
@click.argument("record", type=PATH)
@click.argument("model", type=PATH, required=False)
@MODULES
@click.option(
    "--again", type=COUNT, panel=HOW_STRONG, help="Attack this many of the images again. They must end as recorded."
)
@click.option(
    "--seed",
    type=SEED_RANGE,
    default=0,
    show_default=True,
    panel=HOW_MANY,
    help="Draw the images of --again by this seed. Choose one of your own.",
)
@click.option(
    "--keep",
    is_flag=True,
    panel=WHERE_TO,
    help="Keep in RECORD what the model and its detector say of each image. erkeras report shows it.",
)
@WORKERS
@CLUSTER
def verify(
    record: Path,
    model: Path | None,
    modules: tuple[str, ...],
    again: int | None,
    seed: int,
    keep: bool,
    workers: int | None,
    cluster: str | None,
) -> None:
    """Check everything that RECORD claims against its images, its model and its data.

    RECORD is a folder that erkeras attack or erkeras detectors made. MODEL is what it is about, by default the model
    that it names.
    """
    if (workers or cluster) and not again:
        raise InputError("--workers or --cluster was given without --again: add it, since they attack and do no more.")
    evaluation.find_recorded(record, model, modules)
    console.load_tensorflow(for_attacks=True)  # the same kernels, to the last bit
    with started(workers, cluster) as crew, console.progress() as progress:
        found = evaluation.verify_record(
            record, model, modules, again=again or 0, seed=seed, keep=keep, progress=progress, workers=crew
        )
    if not found.holds:
        claims = "; ".join(found.false_claims[:5])
        raise InputError(
            f"{record} says {found.recorded:.2%} of {found.images} images and its images say {found.recomputed:.2%}: "
            f"{claims}; evaluate again."
        )
    proved = f", and {found.again} images attacked again, with the same end" if found.again else ""
    console.output.print(
        f"{record}: robust accuracy {found.recomputed:.2%} on {found.images} {found.split} images of {found.dataset}, "
        f"recomputed from the images; as recorded{proved}."
    )
