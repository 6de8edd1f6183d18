"""From a recipe to a saved model: train, attack, fit the detector, export, write the card.

The one place where data, models, attacks, detection, evaluation and serving meet; the command line and the tests
call it, and a user's own script may.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from erkeras.building import build_gan, build_model
from erkeras.data import Dataset, load_dataset
from erkeras.errors import InputError
from erkeras.files import write_text
from erkeras.job import Job, Progress, check_output, training_folder, versions
from erkeras.judging import PURIFIED_IMAGES, draw, evaluation_settings, fit_detector, judge
from erkeras.serving.folder import CARD, FORMAT, digests, read_card

#: Images for one update of a generator, and for each of its critic's.
_GENERATOR_BATCH = 64
#: How much of a training an interruption may cost, in seconds.
_BETWEEN_CHECKPOINTS = 300.0


def _fit(
    model: Any,
    job: Job,
    dataset: Dataset,
    checkpoint: Any,
    progress: Progress,
    name: str,
    epochs: int,
    batch_size: int,
    figures: Callable[[dict[str, float]], str],
    augment: bool = False,
    callbacks: Sequence[Any] = (),
    **options: Any,
) -> None:
    """Goes on with a compiled model's training from its last checkpoint, where there is one, to the end."""
    import keras

    from erkeras.data import training_batches

    steps = len(dataset.train) // batch_size
    progress.stage(name, epochs * steps)
    done = 0
    while True:
        epoch = checkpoint.restore(model) if checkpoint else 0
        step = checkpoint.step if checkpoint else 0
        progress.advance(epoch * steps + step - done)
        report = keras.callbacks.LambdaCallback(
            on_train_batch_end=lambda batch, logs: progress.advance(1, figures(logs))
        )
        model.fit(
            training_batches(dataset.train, batch_size, job.seed, epoch, augment).skip(step),
            steps_per_epoch=steps - step,
            epochs=epoch + 1 if step else epochs,
            initial_epoch=epoch,
            shuffle=False,  # the batches come shuffled
            verbose=0,
            # The checkpoint last: what it knows of is on disk.
            callbacks=[report, *callbacks, *([checkpoint] if checkpoint else [])],
            **options,
        )
        if not step:
            return
        done = (epoch + 1) * steps  # the rest of an epoch; the others follow, from its checkpoint


def fit_model(
    job: Job, dataset: Dataset, checkpoint: Any = None, progress: Progress | None = None, name: str = "training"
) -> Any:
    """Trains the model of a job, from its last checkpoint where there is one.

    The best epoch is kept (`Recipe.keep_best`) beside the checkpoint, and without one the last.

    Raises:
        InputError: for a batch of more images than there are.
    """
    import keras

    from erkeras.models import KeepBest

    recipe = job.recipe
    steps = len(dataset.train) // recipe.batch_size
    if not steps:
        raise InputError(
            f"{job.dataset} has {len(dataset.train)} training images: give a --batch-size of at most that."
        )
    model = build_model(recipe, dataset.image_shape, dataset.classes, steps, job.seed)

    def figures(logs: dict[str, float]) -> str:
        accuracy = logs.get("adversarial_accuracy", logs["clean_accuracy"])
        return f"loss {logs['loss']:.3f}, accuracy {accuracy:.1%}"

    callbacks: list[Any] = []
    if recipe.averaging:
        callbacks.append(keras.callbacks.SwapEMAWeights())  # in validation
    if recipe.keep_best and checkpoint:
        callbacks.append(KeepBest(checkpoint.folder))
    validation = dataset.validation.sample(1000, seed=0)
    _fit(
        model,
        job,
        dataset,
        checkpoint,
        progress or Progress(),
        name,
        recipe.epochs,
        recipe.batch_size,
        figures,
        recipe.augment,
        callbacks,
        validation_data=(validation.images, validation.labels),
        validation_batch_size=250,
    )
    return model


def fit_generator(gan: Any, job: Job, dataset: Dataset, checkpoint: Any, progress: Progress) -> Any:
    """Trains a WassersteinGAN on the training images, from its last checkpoint where there is one.

    Returns:
        Its generator.
    """
    batch_size = gan.critic_updates * min(_GENERATOR_BATCH, len(dataset.train) // gan.critic_updates)
    epochs = -(-job.recipe.generator_updates // (len(dataset.train) // batch_size))

    def figures(logs: dict[str, float]) -> str:
        return f"Wasserstein distance {logs['wasserstein_distance']:.3f}"

    _fit(gan, job, dataset, checkpoint, progress, "training generator", epochs, batch_size, figures)
    return gan.generator


def purified(model: Any, generator: Any, job: Job) -> Any:
    """An ERClassifier behind the purifier of a job's recipe."""
    import keras

    from erkeras.models import DefenseGAN

    recipe = job.recipe
    return DefenseGAN(
        generator,
        keras.Sequential([model.encoder, model.classifier], name="classifier"),
        steps=recipe.purifier_steps,
        restarts=recipe.purifier_restarts,
        step_size=recipe.purifier_step_size,
        seed=job.seed,
    )


def train(job: Job, output: Path, resume: bool = False, progress: Progress | None = None) -> dict[str, Any]:
    """Does a whole job: trains, attacks the test images, fits the detector, exports, and only then makes `output`.

    Interrupted at any moment, it goes on from its last checkpoint when called again with `resume`.

    Returns:
        The card of the saved model (see `erkeras.serving.folder`).

    Raises:
        InputError: as `check_output`, and for data that cannot be loaded.
    """
    folder = training_folder(output)
    if check_output(output, job, resume):
        shutil.rmtree(folder, ignore_errors=True)  # left where the process died after its last step but one
        return read_card(output)
    import tensorflow as tf

    from erkeras.models import Checkpoint, KeepBest

    dataset = load_dataset(job.dataset)
    if job.deterministic:
        tf.config.experimental.enable_op_determinism()

    progress = progress or Progress()
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / "job.json", json.dumps(job.settings(), indent=1))
    started = time.perf_counter()
    checkpoint, generator_checkpoint = (
        Checkpoint(folder / part, _BETWEEN_CHECKPOINTS) for part in ("checkpoint", "generator")
    )
    try:
        # First, so that images which no generator makes are refused at once.
        gan = build_gan(job.recipe, dataset.image_shape, job.seed) if job.recipe.generator_updates else None
        model = fit_model(job, dataset, checkpoint, progress)
    except InputError:
        if checkpoint.newest is None:  # nothing to go on with
            shutil.rmtree(folder)
        raise
    if gan is not None:
        model = purified(model, fit_generator(gan, job, dataset, generator_checkpoint, progress), job)
    seconds = time.perf_counter() - started
    kept = KeepBest(checkpoint.folder).epoch if job.recipe.keep_best else job.recipe.epochs

    test = dataset.test.sample(min(job.limit or PURIFIED_IMAGES, PURIFIED_IMAGES) if gan else job.limit, job.seed)
    robustness = judge(model, test, job, progress, "attacking")
    evaluation = {**evaluation_settings(job), **robustness.summary(), "indices": test.indices.tolist()}
    if job.baseline:
        plain = dataclasses.replace(
            job.recipe,
            training_ratio=0.0,
            coefficient=0.0,
            objective="cross-entropy",
            noise=0.0,
            passes=1,
            defense="e-cla",
        )
        undefended = fit_model(
            dataclasses.replace(job, recipe=plain), dataset, progress=progress, name="training undefended"
        )
        evaluation["baseline"] = judge(undefended, test, job, progress, "attacking undefended").summary()
    # A purifier has no code: nothing that an ER-Detector could look at.
    detector, detection = (None, None) if gan else fit_detector(model, dataset, job, robustness, test, progress)

    partial = folder / "saved_model"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    _export(partial, model.without_training_state() if job.compact and not gan else model, detector, dataset)
    draw(partial / "attacked.png", detector, test, robustness, dataset, job)
    card = {
        "format": FORMAT,
        "name": output.name,
        "job": job.settings(),
        "versions": versions(),
        "dataset": {
            "name": dataset.name,
            "image_shape": list(dataset.image_shape),
            "class_names": list(dataset.class_names),
            **{split: len(getattr(dataset, split)) for split in ("train", "validation", "test")},
        },
        "training": {
            "seconds_of_last_run": round(seconds, 1),
            "last_epoch": checkpoint.history[-1],
            "kept_epoch": kept,
            "warnings": _training_warnings(checkpoint.history[:kept]),
            **({"generator_last_epoch": generator_checkpoint.history[-1]} if gan else {}),
        },
        "evaluation": evaluation,
        "detector": detection,
    }
    from erkeras.serving.card import render_card

    card["files"] = digests(partial)
    (partial / "README.md").write_text(render_card(card))
    (partial / CARD).write_text(json.dumps(card, indent=1))
    partial.rename(output)
    shutil.rmtree(folder)
    return card


def _training_warnings(history: list[dict[str, float]]) -> list[str]:
    from erkeras.models import catastrophic_overfitting

    epoch = catastrophic_overfitting(history)
    if epoch is None:
        return []
    return [
        f"After epoch {epoch} the accuracy under attack fell to less than half on validation images and stayed so, as "
        "when training overfits a cheap adversary: train with more --steps, or with --keep-best."
    ]


def _export(folder: Path, model: Any, detector: Any, dataset: Dataset) -> None:
    from erkeras.serving import export_classifier, export_saved_model

    model.save(folder / "model.keras")
    if detector is None:
        export_classifier(model, dataset.image_shape, folder / "1")
        return
    export_saved_model(detector, folder / "1")
    detector.save(folder / "detector.npz")
