"""From a recipe to a saved model: train, attack, fit the detector, export, write the card.

The one place where data, models, attacks, detection, evaluation and saving meet; the command line and the tests call
it, and a user's own script may.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tensorflow as tf

from erkeras import models, saved
from erkeras.data import Dataset, Split, load_dataset
from erkeras.errors import InputError
from erkeras.memory import within_memory
from erkeras.progress import Progress
from erkeras.recipes import Job, Recipe, find_place, network_kind
from erkeras.saved import Card, DatasetEntry, DetectorEntry, Summary, TrainingEntry
from erkeras.training import figures
from erkeras.training.architecture import architecture_digest
from erkeras.training.devices import Devices, find_devices
from erkeras.training.fit import checkpoint_in, fit_generator, fit_model, fresh_generator, fresh_model, purified
from erkeras.training.job import begin, check_output, end, pinned, training_folder
from erkeras.training.own import warnings_of_start
from erkeras.training.workers import told_when_one_leaves
from erkeras.versions import processor, versions

#: How much of a training an interruption may cost, in seconds.
_BETWEEN_CHECKPOINTS = 300.0
#: What to do where memory runs out for another reason than the size of a batch.
_LATER = "free memory and go on with --resume, or train a smaller --network"


def train(job: Job, output: Path, resume: bool = False, progress: Progress | None = None) -> Card | None:
    """Does a whole job: trains, attacks the test images, fits the detector, exports, and only then makes `output`.

    Interrupted at any moment, it goes on from its last checkpoint when called again with `resume`.

    Example:
        recipe = find_recipe("default", "digits", (8, 8, 1))
        train(Job("digits", recipe), Path("saved_models/digits"), resume=True)

    Args:
        job: what is asked for.
        output: the model's folder.
        resume: go on with an interrupted job, or show the card of a finished one.
        progress: hears of a stage for each step.

    Returns:
        The card of the saved model. None on another worker than the chief, which writes everything.

    Raises:
        InputError: as `check_output` and `find_devices`, for other workers than TF_CONFIG's, and for data that cannot
            be loaded, or a network that does not fit them.
        OutOfMemoryError: says what to make smaller.
        UnavailableError: where another worker is gone.
    """
    job, place = pinned(job), find_place(os.environ)
    if job.workers != (place.workers if place else 1):
        raise InputError(
            f"the job is for {job.workers} workers and TF_CONFIG names {place.workers if place else 1}: give as many."
        )
    chief = place is None or place.worker == 0
    done = check_output(output, job, resume, chief)
    if done:
        if chief:
            end(training_folder(output))  # left where the process died just before its end
        return saved.read_card(output) if chief else None
    with told_when_one_leaves() if place else contextlib.nullcontext():
        return _train(job, output, progress or Progress())


def _train(job: Job, output: Path, progress: Progress) -> Card | None:
    devices = find_devices(job)
    dataset = load_dataset(job.dataset)
    if job.deterministic:
        tf.config.experimental.enable_op_determinism()
    # First, so that what cannot be built is refused before anything is written.
    with within_memory("in building the network", "give a smaller --network"):
        gan = fresh_generator(job, dataset, devices) if job.recipe.generator_updates else None
        model = fresh_model(job, dataset, devices)
    if not devices.chief:
        _help(job, dataset, gan, model, devices)
        return None
    with within_memory("in building the network", "give a smaller --network"):
        of_file = devices.strategy is not None and job.recipe.network_fingerprint
        start = fresh_model(job, dataset) if of_file else model
        warnings = warnings_of_start(job.recipe, start, dataset.validation.sample(1000, seed=0))
    fresh = _Fresh(gan, model, warnings, devices)
    folder = begin(output, job, architecture_digest(model.encoder, model.classifier))
    trained = _fit(job, dataset, fresh, folder, progress)
    # What trained for long is a whole model before anything else is tried on it.
    kept = folder / saved.MODEL
    try:
        with within_memory("in attacking what was trained", _LATER):
            trained.model.save(kept)
            card = _finish(job, dataset, trained, devices, folder / "saved_model", output, progress)
    except OSError as error:
        raise InputError(
            f"{output} cannot be written ({error.strerror or error}): make room, and go on with --resume."
        ) from error
    except InputError as error:
        raise type(error)(f"{str(error).rstrip('.')}; the trained model is in {kept}.") from error
    end(folder)
    return card


def _help(job: Job, dataset: Dataset, gan: Any, model: Any, devices: Devices) -> None:
    """Does a worker's part of all trainings of a job, in the order in which the chief does its own."""
    nowhere = Path(os.devnull)  # it writes nothing
    fit_model(job, dataset, checkpoint_in(nowhere, _BETWEEN_CHECKPOINTS, devices), model=model, devices=devices)
    if gan is not None:
        checkpoint = checkpoint_in(nowhere, _BETWEEN_CHECKPOINTS, devices)
        fit_generator(gan, job, dataset, checkpoint, Progress(), devices)
    if job.baseline:
        fit_model(_undefended(job), dataset, devices=devices)


def _finish(
    job: Job, dataset: Dataset, trained: _Trained, devices: Devices, partial: Path, output: Path, progress: Progress
) -> Card:
    """Attacks a trained model, fits its detector, and writes `output` by way of the folder `partial`."""
    test = dataset.test.sample(figures.limit_of(job), job.seed)
    robustness = figures.evaluate(trained.model, test, job, progress, "attacking")
    report = figures.report(job, test, robustness, _baseline(job, dataset, devices, test, progress))
    warnings = list(trained.entry.warnings)
    try:
        detector, detected = _detector(job, dataset, trained.model, test, robustness, progress)
    except ValueError as error:
        # As where nothing is classified correctly: there is a model all the same.
        detector, detected = None, None
        warnings.append(f"No detector could be fitted: {' '.join(str(error).split())}")

    slim = job.compact and not job.recipe.generator_updates
    model = trained.model.without_training_state() if slim else trained.model
    saved.write_model(partial, model, detector, dataset.image_shape)
    figures.draw(partial / "attacked.png", detector, test, robustness, dataset, job)
    counts = (len(split) for split in (dataset.train, dataset.validation, dataset.test))
    card = Card(
        name=output.name,
        dataset=DatasetEntry(dataset.image_shape, dataset.class_names, dataset.name, *counts),
        versions=versions(),
        processor=processor(),
        job=job,
        training=dataclasses.replace(trained.entry, warnings=tuple(warnings)),
        evaluation=report,
        detector=detected,
    )
    return saved.complete(partial, output, card)


@dataclass(frozen=True)
class _Fresh:
    """Holds what a job trains: a GAN or None, a classifier, early warnings, and the training data."""

    gan: Any
    model: Any
    warnings: tuple[str, ...]
    devices: Devices


@dataclass(frozen=True)
class _Trained:
    """A trained model, and what the card says of its training."""

    model: Any
    entry: TrainingEntry


def _fit(job: Job, dataset: Dataset, fresh: _Fresh, folder: Path, progress: Progress) -> _Trained:
    started = time.perf_counter()
    gan, devices = fresh.gan, fresh.devices
    checkpoint, of_generator = (
        checkpoint_in(folder / part, _BETWEEN_CHECKPOINTS, devices) for part in ("checkpoint", "generator")
    )
    try:
        with within_memory("in training", _smaller(job.recipe)):
            model: Any = fit_model(job, dataset, checkpoint, progress, model=fresh.model, devices=devices)
    except InputError:
        if checkpoint.newest is None:  # nothing to go on with
            end(folder)
        raise
    code_size = models.networks.code_size(model.encoder, model.classifier)
    if gan is not None:
        with within_memory("in training the generator", _LATER):
            model = purified(model, fit_generator(gan, job, dataset, of_generator, progress, devices), job)
    kept = models.KeepBest(checkpoint.folder).epoch if job.recipe.keep_best else job.recipe.epochs
    entry = TrainingEntry(
        seconds_of_last_run=round(time.perf_counter() - started, 1),
        last_epoch=checkpoint.history[-1],
        kept_epoch=kept,
        warnings=fresh.warnings + _warnings(checkpoint.history[:kept]),
        generator_last_epoch=of_generator.history[-1] if gan is not None else None,
        code_size=None if network_kind(job.recipe.network) == "name" else code_size,
        replicas=devices.replicas,
    )
    return _Trained(model, entry)


def _smaller(recipe: Recipe) -> str:
    """Says what to make smaller where training needs more memory than there is."""
    ways = [f"a smaller --batch-size than {recipe.batch_size}", "a smaller --network"]
    if not recipe.mixed_precision and network_kind(recipe.network) != "file":
        ways.insert(1, "--mixed-precision")
    return f"give {', '.join(ways[:-1])} or {ways[-1]}"


def _baseline(job: Job, dataset: Dataset, devices: Devices, test: Split, progress: Progress) -> Summary | None:
    """The figures of the same network, trained without any defense, where the job asks for them."""
    if not job.baseline:
        return None
    undefended = fit_model(_undefended(job), dataset, progress=progress, name="training undefended", devices=devices)
    return figures.evaluate(undefended, test, job, progress, "attacking undefended").summary()


def _undefended(job: Job) -> Job:
    recipe = dataclasses.replace(
        job.recipe,
        training_ratio=0.0,
        coefficient=0.0,
        objective="cross-entropy",
        noise=0.0,
        passes=1,
        defense="e-cla",
    )
    return dataclasses.replace(job, recipe=recipe)


def _detector(
    job: Job, dataset: Dataset, model: Any, test: Split, robustness: Any, progress: Progress
) -> tuple[Any, DetectorEntry | None]:
    if job.recipe.generator_updates:  # a purifier has no code: nothing that an ER-Detector could look at
        return None, None
    validation = dataset.validation.sample(job.limit, job.seed)
    once = dataclasses.replace(job, restarts=1)
    found = figures.evaluate(model, validation, once, progress, "attacking validation")
    progress.stage("fitting detector", 1)
    detector = figures.fit_detector(model, dataset, job)
    entry = figures.describe_detector(detector, dataset, job, test, robustness, found)
    progress.advance(1)
    return detector, entry


def _warnings(history: list[dict[str, float]]) -> tuple[str, ...]:
    epoch = models.catastrophic_overfitting(history)
    if epoch is None:
        return ()
    return (
        f"After epoch {epoch} the accuracy under attack fell to less than half on validation images and stayed so, as "
        "when training overfits a cheap adversary: train with more --steps, or with --keep-best.",
    )
