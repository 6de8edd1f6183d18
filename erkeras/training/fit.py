"""Training by Keras' `fit`, from the last checkpoint to the end."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import keras

from erkeras import data, models
from erkeras.data import Dataset
from erkeras.errors import InputError
from erkeras.models.er_classifier import OPTIMIZERS
from erkeras.progress import Progress
from erkeras.recipes import Job
from erkeras.training.build import build_model

if TYPE_CHECKING:
    from erkeras.models import Checkpoint, ERClassifier

#: Images for one update of a generator, and for each of its critic's.
_GENERATOR_BATCH = 64
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
    **options: Any,
) -> None:
    """Goes on with a compiled model's training from its last checkpoint, where there is one, to the end."""
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
            dataset.train, batch_size, job.seed, epoch, **(augmentation or {}), first_step=step
        )
        with data.failures(dataset.train):
            model.fit(
                batches,
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


def fresh_model(job: Job, dataset: Dataset) -> ERClassifier:
    """Builds the model of a job, before any training.

    Raises:
        InputError: for a batch of more images than there are, and as `build_model`.
    """
    steps = len(dataset.train) // job.recipe.batch_size
    if not steps:
        raise InputError(
            f"{job.dataset} has {len(dataset.train)} training images: give a --batch-size of at most that."
        )
    return build_model(job.recipe, dataset.image_shape, dataset.classes, steps, job.seed)


def fit_model(
    job: Job,
    dataset: Dataset,
    checkpoint: Checkpoint | None = None,
    progress: Progress | None = None,
    name: str = "training",
    model: ERClassifier | None = None,
) -> ERClassifier:
    """Trains the model of a job, from its last checkpoint where there is one.

    The best epoch is kept (`Recipe.keep_best`) beside the checkpoint, and without one the last.

    Args:
        model: of `fresh_model`; it makes one by default.

    Raises:
        InputError: as `fresh_model`.
    """
    recipe = job.recipe
    model = model or fresh_model(job, dataset)

    def figures(logs: dict[str, float]) -> str:
        accuracy = logs.get("adversarial_accuracy", logs["clean_accuracy"])
        return f"loss {logs['loss']:.3f}, accuracy {accuracy:.1%}"

    callbacks: list[Any] = []
    if recipe.averaging:
        callbacks.append(keras.callbacks.SwapEMAWeights())  # in validation
    if recipe.keep_best and checkpoint:
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
        validation_data=(validation.images, validation.labels),
        validation_batch_size=250,
    )
    if recipe.mixed_precision:
        model = _in_float32(model, job, dataset)
    if recipe.averaging and models.has_statistics(model):
        steps = len(dataset.train) // recipe.batch_size
        batches = data.training_batches(dataset.train, recipe.batch_size, job.seed, recipe.epochs, **augmentation)
        models.refresh_statistics(model, batches.take(_STATISTICS), recipe.epochs * steps)
    return model


def _in_float32(model: ERClassifier, job: Job, dataset: Dataset) -> ERClassifier:
    """The same model and optimizers, whose layers compute in float32: what is attacked and served is not rounded."""
    recipe = dataclasses.replace(job.recipe, mixed_precision=False)
    plain = fresh_model(dataclasses.replace(job, recipe=recipe), dataset)
    parts = [(plain, model), *((getattr(plain, name), getattr(model, name)) for name in OPTIMIZERS)]
    for to, of in parts:
        for variable, trained in zip(to.variables, of.variables, strict=True):
            variable.assign(trained)
    return plain


def fit_generator(
    gan: Any, job: Job, dataset: Dataset, checkpoint: Checkpoint | None, progress: Progress
) -> keras.Model:
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
