"""Several machines that train one model: who they are, how they meet, and what they tell each other."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from erkeras.errors import InputError, UnavailableError
from erkeras.models import Checkpoint
from erkeras.recipes import Place, find_place

#: Seconds in which all workers must come.
_WAIT = 600.0
#: Batches between two questions whether a checkpoint is due: each asks all workers.
_QUESTIONS = 10


def join() -> tuple[Place, Any]:
    """Joins the workers that TF_CONFIG names, and waits until all are there.

    Returns:
        This process' place among them, and the strategy of tf.distribute.

    Raises:
        InputError: as `find_place`, and for a port that another process has.
        UnavailableError: where they do not all come.
    """
    place = find_place(os.environ)
    assert place is not None
    # TensorFlow itself waits without an end, and hears no Ctrl-C.
    _meet(place)
    return place, tf.distribute.MultiWorkerMirroredStrategy()


def _meet(place: Place) -> None:
    """Waits until every worker has opened its port."""
    own = int(place.addresses[place.worker].rpartition(":")[2])
    missing = [address for number, address in enumerate(place.addresses) if number != place.worker]
    end = time.monotonic() + _WAIT
    with socket.socket() as door:
        door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            door.bind(("", own))
        except OSError as error:
            raise InputError(
                f"the port {own} of this worker in TF_CONFIG cannot be opened ({error.strerror}): give a free one."
            ) from error
        door.listen(len(place.addresses))
        while missing:
            missing = [address for address in missing if not _answers(address)]
            if missing and time.monotonic() > end:
                raise UnavailableError(
                    f"of the {place.workers} workers of TF_CONFIG {', '.join(missing[:5])} did not come within "
                    f"{_WAIT:g} seconds: start the same command on each."
                )
            time.sleep(0.1 if missing else 0)


def _answers(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=1).close()
    except OSError:
        return False
    return True


@contextmanager
def told_when_one_leaves() -> Iterator[None]:
    """Turns what TensorFlow raises when a worker is gone into one sentence.

    Raises:
        UnavailableError: where it is.
    """
    try:
        yield
    except (tf.errors.UnavailableError, tf.errors.AbortedError, tf.errors.CancelledError) as error:
        raise UnavailableError(
            "a worker of this training does not answer any more: start the same command with --resume on each of them."
        ) from error


def from_chief(strategy: Any, values: list[Any]) -> list[np.ndarray]:
    """Tells all workers the chief's numbers: each calls it, with arrays of the same shapes and dtypes."""

    @tf.function
    def tell(values: list[tf.Tensor]) -> Any:
        def told(values: list[tf.Tensor]) -> list[tf.Tensor]:
            context = tf.distribute.get_replica_context()
            speaks = tf.equal(context.replica_id_in_sync_group, 0)
            return [
                context.all_reduce(tf.distribute.ReduceOp.SUM, tf.where(speaks, value, tf.zeros_like(value)))
                for value in values
            ]

        return strategy.run(told, args=(values,))

    found = tell([tf.convert_to_tensor(value) for value in values])
    return [strategy.experimental_local_results(value)[0].numpy() for value in found]


def share_variables(model: keras.Model) -> None:
    """Gives a model's weights, random states and optimizers those of the chief, on all workers at once."""
    optimizers = [part for part in vars(model).values() if isinstance(part, keras.optimizers.Optimizer)]
    found = [*model.weights, *getattr(model, "_seed_states", ())]
    found += [variable for optimizer in optimizers for variable in optimizer.variables]
    variables = list({id(variable): variable for variable in found}.values())
    values = from_chief(model.distribute_strategy, [variable.numpy() for variable in variables])
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)


class SharedCheckpoint(Checkpoint):
    """Shares a `Checkpoint` among workers. The chief alone reads and writes it, and tells the others.

    Args:
        folder, seconds: as for `Checkpoint`; of the chief.
        chief: whether this worker is the chief.
        strategy: of tf.distribute.
    """

    def __init__(self, folder: Any, seconds: float | None, chief: bool, strategy: Any) -> None:
        super().__init__(folder, seconds)
        self._chief, self._strategy = chief, strategy

    def restore(self, model: keras.Model) -> int:
        if self._chief:
            super().restore(model)
        state = json.dumps([self.history, self.step, self._metrics]).encode()
        (length,) = from_chief(self._strategy, [np.int32(len(state))])
        content = np.frombuffer(state, np.uint8).astype(np.int32) if self._chief else np.zeros(length, np.int32)
        (told,) = from_chief(self._strategy, [content])
        self.history, self.step, self._metrics = json.loads(told.astype(np.uint8).tobytes())
        share_variables(model)
        return len(self.history)

    def due(self, batch: int) -> bool:
        if self._seconds is None or (batch + 1) % _QUESTIONS:
            return False
        (due,) = from_chief(self._strategy, [np.int32(super().due(batch))])
        return bool(due)

    def measured(self) -> list[Any]:
        with self._strategy.scope():  # all workers read them together
            return super().measured()

    def write(self, name: str, state: dict[str, Any]) -> None:
        if self._chief:
            super().write(name, state)
