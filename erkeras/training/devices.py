"""Finds the devices that a job trains on: one, several of a machine, or those of several machines."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from erkeras.errors import InputError
from erkeras.processors import available_processors
from erkeras.recipes import Job, Place
from erkeras.training.workers import join


@dataclass(frozen=True)
class Devices:
    """Holds the devices of a job. Each has a replica of the model (tf.distribute).

    Attributes:
        strategy: of tf.distribute; None for one device without any.
        place: of this process among the workers; None where it is the only one.
    """

    strategy: Any = None
    place: Place | None = None

    @property
    def replicas(self) -> int:
        """Counts the parts that a batch is divided into, over all workers."""
        return 1 if self.strategy is None else self.strategy.num_replicas_in_sync

    @property
    def chief(self) -> bool:
        """Tells whether this process writes files: the first worker does."""
        return self.place is None or self.place.worker == 0

    def scope(self) -> contextlib.AbstractContextManager[Any]:
        """Gives the scope in which a model is built that trains on these devices."""
        return contextlib.nullcontext() if self.strategy is None else self.strategy.scope()

    def check_batch(self, batch_size: int, what: str) -> None:
        """Raises InputError for a batch that the devices cannot share evenly; `what` is its name in the sentence."""
        if batch_size % self.replicas:
            raise InputError(
                f"{what} has {batch_size} images, which {self.replicas} devices cannot share evenly: give a "
                "--batch-size that is a multiple, or another number of devices."
            )

    def own_rows(self, rows: tf.Tensor, updates: int = 1) -> tf.Tensor:
        """Takes this process' part of the rows of a batch, in the order in which its devices take them.

        Args:
            rows: `[batch_size]`, of the whole batch.
            updates: a step makes so many, each on the next part of the batch; each is shared by all devices.

        Returns:
            `[batch_size / workers]`, those of the first device first.
        """
        parts = tf.transpose(tf.reshape(rows, [updates, self.replicas, -1]), [1, 0, 2])
        worker, workers = (self.place.worker, self.place.workers) if self.place else (0, 1)
        return tf.reshape(tf.split(tf.reshape(parts, [-1]), workers)[worker], [-1])

    def parts(self, batches: tf.data.Dataset) -> tf.data.Dataset:
        """Divides each batch of this worker among its devices: elements of a batch each, one after the other."""
        workers = self.place.workers if self.place else 1
        own = self.replicas // workers
        if own == 1:
            return batches

        def divide(*batch: tf.Tensor) -> tf.data.Dataset:
            return tf.data.Dataset.from_tensor_slices(
                tuple(tf.reshape(part, [own, -1, *part.shape[1:]]) for part in batch)
            )

        return batches.flat_map(divide)


def find_devices(job: Job) -> Devices:
    """Finds the devices of a job; to be called before TensorFlow has computed anything.

    Raises:
        InputError: where there are fewer than asked for, or other workers do not come.
    """
    if job.workers > 1:
        _hide_others(job.devices)
        place, strategy = join()
        return Devices(strategy, place)
    if job.devices == 1:
        return Devices()
    names = _gpus(job.devices) or _processors(job.devices)
    return Devices(tf.distribute.MirroredStrategy(names)) if len(names) > 1 else Devices()


def _gpus(count: int | None) -> list[str]:
    found = tf.config.list_physical_devices("GPU")
    if found and (count or 1) > len(found):
        raise InputError(f"{count} devices were asked for, and TensorFlow finds {len(found)} GPUs: give --devices all.")
    return [f"GPU:{number}" for number in range(count or len(found))] if found else []


def _hide_others(count: int | None) -> None:
    """Leaves TensorFlow the first GPUs of this machine alone: a strategy of several machines takes all that it sees."""
    if _gpus(count):
        tf.config.set_visible_devices(tf.config.list_physical_devices("GPU")[: count or None], "GPU")
    elif count is not None and count > 1:
        raise InputError(
            f"{count} devices were asked for on each worker, and TensorFlow finds no GPU: give --devices 1, and more "
            "workers."
        )


def _processors(count: int | None) -> list[str]:
    """Divides the processor into logical devices, which share its cores."""
    cores = available_processors()
    if count is not None and count > cores:
        raise InputError(
            f"{count} devices were asked for, and TensorFlow finds no GPU and {cores} cores of a processor: give "
            f"--devices {cores} or fewer."
        )
    if count is not None:
        processor = tf.config.list_physical_devices("CPU")[0]
        with contextlib.suppress(RuntimeError):  # TensorFlow has begun: with what there is
            tf.config.set_logical_device_configuration(processor, [tf.config.LogicalDeviceConfiguration()] * count)
    found = len(tf.config.list_logical_devices("CPU"))
    if count is not None and found < count:
        raise InputError(
            f"{count} devices were asked for, and TensorFlow has begun with {found} of a processor: ask before it "
            "computes anything."
        )
    return [f"CPU:{number}" for number in range(count or found)]
