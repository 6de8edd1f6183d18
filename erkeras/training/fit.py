"""Training by Keras' `fit`, from the last checkpoint to the end."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import tensorflow as tf

from erkeras import data, models
from erkeras.data import Dataset
from erkeras.errors import InputError
from erkeras.models.er_classifier import OPTIMIZERS
from erkeras.models.steps import batch_normalizations
from erkeras.progress import Progress
from erkeras.recipes import Job
from erkeras.training.build import build_gan, build_model
from erkeras.training.devices import Devices
from erkeras.training.loop import fit_on_workers
from erkeras.training.workers import SharedCheckpoint, share_variables

if TYPE_CHECKING:
    from erkeras.models import Checkpoint, ERClassifier, WassersteinGAN

#: Images for one update of a generator, and for each of its critic's.
_GENERATOR_BATCH = 64
_ONE = Devices()
#: Images of a batch of validation.
_VALIDATION_BATCH = 250
#: Batches on which BatchNorm's statistics are taken anew for averaged weights.
_STATISTICS = 40


def _fit(
    model: Any,
    job: Job,
    dataset: Dataset,
    checkpoint: Checkpoint | None,
    progress: Progress,
    name: str,
    epochs: int,
    batch_size: int,
    figures: Callable[[dict[str, float]], str],
    augmentation: dict[str, Any] | None = None,
    callbacks: Sequence[Any] = (),
    devices: Devices = _ONE,
    updates: int = 1,
    validation: tuple[np.ndarray, np.ndarray] | None = None,
) -> None:
    """Goes on with a compiled model's training from its last checkpoint, where there is one, to the end."""

    def own_rows(rows: tf.Tensor) -> tf.Tensor:
        return devices.own_rows(rows, updates)

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
        batches = data.training_batches(
            dataset.train,
            batch_size,
            job.seed,
            epoch,
            **(augmentation or {}),
            first_step=step,
            own_rows=own_rows if devices.replicas > 1 else None,
        )
        options: Any = {
            "steps_per_epoch": steps - step,
            "epochs": epoch + 1 if step else epochs,
            "initial_epoch": epoch,
            # The checkpoint last: what it knows of is on disk.
            "callbacks": [report, *callbacks, *([checkpoint] if checkpoint else [])],
            "validation_data": validation,
            "validation_batch_size": _VALIDATION_BATCH,
        }
        with data.failures(dataset.train):
            if devices.place:
                fit_on_workers(model, devices.parts(batches), **options)
                share_variables(model)  # the chief alone goes back to the best epoch
            else:
                model.fit(batches, shuffle=False, verbose=0, **options)  # the batches come shuffled
        if not step:
            return
        done = (epoch + 1) * steps  # the rest of an epoch; the others follow, from its checkpoint


def checkpoint_in(folder: Path, seconds: float, devices: Devices) -> Checkpoint:
    """Makes the checkpoint of a training in a folder; the chief's, where there are several workers."""
    if devices.place:
        return SharedCheckpoint(folder, seconds, devices.chief, devices.strategy)
    return models.Checkpoint(folder, seconds)


def fresh_generator(job: Job, dataset: Dataset, devices: Devices = _ONE) -> WassersteinGAN:
    """Builds the GAN of a job, before any training.

    Raises:
        InputError: for batches that the devices cannot share, and as `build_gan`.
    """
    with devices.scope():
        gan = build_gan(job.recipe, dataset.image_shape, job.seed)
    devices.check_batch(_generator_batch(gan, dataset) // gan.critic_updates, "an update of the generator")
    return gan


def fresh_model(job: Job, dataset: Dataset, devices: Devices = _ONE) -> ERClassifier:
    """Builds the model of a job, before any training.

    Raises:
        InputError: for a batch of more images than there are, or that the devices cannot share, and as `build_model`.
    """
    devices.check_batch(job.recipe.batch_size, "a batch")
    steps = len(dataset.train) // job.recipe.batch_size
    if not steps:
        raise InputError(
            f"{job.dataset} has {len(dataset.train)} training images: give a --batch-size of at most that."
        )
    with devices.scope():
        model = build_model(job.recipe, dataset.image_shape, dataset.classes, steps, job.seed)
    if job.synchronized and devices.replicas > 1:
        for layer in batch_normalizations(model.encoder, model.classifier):
            layer.synchronized = True
    return model


def fit_model(
    job: Job,
    dataset: Dataset,
    checkpoint: Checkpoint | None = None,
    progress: Progress | None = None,
    name: str = "training",
    model: ERClassifier | None = None,
    devices: Devices = _ONE,
) -> ERClassifier:
    """Trains the model of a job, from its last checkpoint where there is one.

    The best epoch is kept (`Recipe.keep_best`) beside the checkpoint, and without one the last. What was trained on
    several devices is then moved to one.

    Args:
        checkpoint: of `checkpoint_in`.
        model: of `fresh_model`, for these devices; it makes one by default.
        devices: of `find_devices`; one by default.

    Raises:
        InputError: as `fresh_model`.
    """
    recipe = job.recipe
    model = model or fresh_model(job, dataset, devices)

    def figures(logs: dict[str, float]) -> str:
        accuracy = logs.get("adversarial_accuracy", logs["clean_accuracy"])
        return f"loss {logs['loss']:.3f}, accuracy {accuracy:.1%}"

    callbacks: list[Any] = []
    if recipe.averaging:
        callbacks.append(keras.callbacks.SwapEMAWeights())  # in validation
    if recipe.keep_best and checkpoint and devices.chief:
        callbacks.append(models.KeepBest(checkpoint.folder))
    augmentation: dict[str, Any] = {"augment": recipe.augment, "cutout": recipe.cutout}
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
        augmentation,
        callbacks,
        devices,
        validation=(validation.images, validation.labels),
    )
    if recipe.mixed_precision or devices.strategy is not None:
        model = _moved(model, job, dataset)
    if recipe.averaging and models.has_statistics(model):
        steps = len(dataset.train) // recipe.batch_size
        batches = data.training_batches(dataset.train, recipe.batch_size, job.seed, recipe.epochs, **augmentation)
        models.refresh_statistics(model, batches.take(_STATISTICS), recipe.epochs * steps)
    return model


def _moved(model: ERClassifier, job: Job, dataset: Dataset) -> ERClassifier:
    """The same model and optimizers on one device.

    Its layers compute in float32: what is attacked and served is not rounded.
    """
    recipe = dataclasses.replace(job.recipe, mixed_precision=False)
    plain = fresh_model(dataclasses.replace(job, recipe=recipe), dataset)
    parts = [(plain, model), *((getattr(plain, name), getattr(model, name)) for name in OPTIMIZERS)]
    for to, of in parts:
        for variable, trained in zip(to.variables, of.variables, strict=True):
            variable.assign(trained)
    return plain


def fit_generator(
    gan: Any,
    job: Job,
    dataset: Dataset,
    checkpoint: Checkpoint | None,
    progress: Progress,
    devices: Devices = _ONE,
) -> keras.Model:
    """Trains a WassersteinGAN on the training images, from its last checkpoint where there is one.

    Returns:
        Its generator.
    """
    batch_size = _generator_batch(gan, dataset)
    epochs = -(-job.recipe.generator_updates // (len(dataset.train) // batch_size))

    def figures(logs: dict[str, float]) -> str:
        return f"Wasserstein distance {logs['wasserstein_distance']:.3f}"

    stage = "training generator"
    _fit(
        gan,
        job,
        dataset,
        checkpoint,
        progress,
        stage,
        epochs,
        batch_size,
        figures,
        devices=devices,
        updates=gan.critic_updates,
    )
    if devices.strategy is None:
        return gan.generator
    plain = fresh_generator(job, dataset).generator
    plain.set_weights(gan.generator.get_weights())
    return plain


def _generator_batch(gan: Any, dataset: Dataset) -> int:
    return gan.critic_updates * min(_GENERATOR_BATCH, len(dataset.train) // gan.critic_updates)


def purified(model: Any, generator: Any, job: Job) -> Any:
    """Puts an ERClassifier behind the purifier of a job's recipe."""
    recipe = job.recipe
    return models.DefenseGAN(
        generator,
        keras.Sequential([model.encoder, model.classifier], name="classifier"),
        steps=recipe.purifier_steps,
        restarts=recipe.purifier_restarts,
        step_size=recipe.purifier_step_size,
        seed=job.seed,
    )
