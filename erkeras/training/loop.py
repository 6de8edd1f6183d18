"""Training on several workers, where Keras' `fit` fails (keras-team/keras#20585, with Keras 3.15)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from erkeras.errors import InputError


def fit_on_workers(
    model: keras.Model,
    batches: tf.data.Dataset,
    *,
    steps_per_epoch: int,
    epochs: int,
    initial_epoch: int = 0,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    validation_data: tuple[np.ndarray, np.ndarray] | None = None,
    validation_batch_size: int = 250,
) -> None:
    """Does what `model.fit` does, under a strategy of several workers; each calls it. Arguments as for `fit`.

    The logs of a batch are those of this worker's first device; the logs of an epoch are of all.

    Args:
        batches: of this worker: the parts of its devices, one after the other, each an element.
    """
    strategy = model.distribute_strategy

    @tf.function(reduce_retracing=True)
    def train(parts: Any) -> Any:
        return strategy.run(model.train_step, args=(parts,))

    @tf.function(reduce_retracing=True)
    def test(parts: Any) -> Any:
        return strategy.run(model.test_step, args=(parts,))

    parts = iter(strategy.distribute_datasets_from_function(lambda _: batches))
    heard = keras.callbacks.CallbackList(
        list(callbacks), add_history=True, model=model, verbose=0, epochs=epochs, steps=steps_per_epoch
    )
    model.stop_training = False
    heard.on_train_begin()
    logs: dict[str, Any] = {}
    for epoch in range(initial_epoch, epochs):
        model.reset_metrics()
        heard.on_epoch_begin(epoch)
        for step in range(steps_per_epoch):
            heard.on_train_batch_begin(step)
            heard.on_train_batch_end(step, _first(strategy, train(next(parts))))
        logs = _results(model)
        if validation_data is not None:
            heard.on_test_begin()
            model.reset_metrics()
            for batch in validation_parts(validation_data, validation_batch_size, strategy):
                measured = _first(strategy, test(batch))
            found = _results(model)
            logs |= {f"val_{name}": found[name] for name in measured}
            heard.on_test_end(found)
        heard.on_epoch_end(epoch, logs)
        if model.stop_training:
            break
    if epochs > 0:
        model.optimizer.finalize_variable_values(model.trainable_weights)
    heard.on_train_end(logs)


def validation_parts(validation_data: tuple[np.ndarray, np.ndarray], batch_size: int, strategy: Any) -> Any:
    """Divides images and labels into batches, and each among all devices: none goes without an image.

    Raises:
        InputError: for fewer images than devices.
    """
    images, labels = validation_data
    replicas = strategy.num_replicas_in_sync
    if len(images) < replicas:
        raise InputError(f"there are {len(images)} validation images for {replicas} devices: give fewer devices.")
    starts = list(range(0, len(images), max(batch_size, replicas)))
    if len(images) - starts[-1] < replicas:
        starts.pop()  # the last batch is with the one before
    for start, stop in zip(starts, [*starts[1:], len(images)], strict=True):
        rows = np.array_split(np.arange(start, stop), replicas)

        def part(context: Any, rows: Any = rows) -> tuple[tf.Tensor, tf.Tensor]:
            own = rows[context.replica_id_in_sync_group]
            return tf.constant(images[own]), tf.constant(labels[own])

        yield strategy.experimental_distribute_values_from_function(part)


def _first(strategy: Any, logs: dict[str, Any]) -> dict[str, Any]:
    return {name: strategy.experimental_local_results(value)[0] for name, value in logs.items()}


def _results(model: keras.Model) -> dict[str, float]:
    """Gives what the metrics have measured on all devices."""
    with model.distribute_strategy.scope():
        return {name: float(value) for name, value in model.get_metrics_result().items()}
