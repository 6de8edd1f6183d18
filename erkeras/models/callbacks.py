"""Callbacks of training: a checkpoint that survives being killed while it is written, and the best epoch."""

from __future__ import annotations

import io
import json
import shutil
import time
import warnings
from pathlib import Path
from typing import Any

import keras

from erkeras.errors import InputError
from erkeras.files import make_folder, make_partial_folder, sweep, write_bytes, write_text

#: The first that the logs have is what counts.
_ACCURACIES = ("val_adversarial_accuracy", "val_clean_accuracy")


class Checkpoint(keras.callbacks.Callback):
    """Saves the whole state of training (weights, optimizers, metrics, epoch, history) after every epoch.

    The new checkpoint is written beside the old one and takes its name in one rename, so that whenever the
    process dies, one whole checkpoint is there. Training goes on from it with

        epoch = checkpoint.restore(model)
        model.fit(..., initial_epoch=epoch, callbacks=[checkpoint])

    and from one within an epoch with what is left of its batches, then as above:

        if checkpoint.step:
            left = steps_per_epoch - checkpoint.step
            model.fit(rest, steps_per_epoch=left, initial_epoch=epoch, epochs=epoch + 1, callbacks=[checkpoint])

    Keras' `BackupAndRestore` writes over the weights first, and then over the number of the epoch. A kill in between
    pairs new weights with an old number, with `double_checkpoint` too. Its `save_freq` counts batches, not seconds. It
    begins an epoch that was half done anew, and keeps no history.

    Example:
        checkpoint = Checkpoint("checkpoint")
        epoch = checkpoint.restore(model)  # 0 in the first run
        model.fit(images, labels, epochs=2, initial_epoch=epoch, callbacks=[checkpoint])

    Args:
        folder: where the checkpoint lives; made if missing.
        seconds: save within an epoch too, where the last checkpoint is older than that; None for never.

    Attributes:
        history: the logs of every epoch so far, those before a restore included.
        step: how many steps of the present epoch the checkpoint holds; 0 where that begins.
    """

    def __init__(self, folder: str | Path, seconds: float | None = None) -> None:
        super().__init__()
        self.folder = Path(folder)
        self.history: list[dict[str, float]] = []
        self.step = 0
        self._first_step = 0
        self._metrics: list[float] = []
        self._seconds, self._saved = seconds, time.monotonic()

    @property
    def newest(self) -> Path | None:
        """Finds the checkpoint that `restore` would load."""
        return max(self.folder.glob("epoch-*"), default=None)

    def restore(self, model: keras.Model) -> int:
        """Loads the newest checkpoint, where there is one, into a built and compiled model.

        Returns:
            How many epochs are done.

        Raises:
            InputError: where it cannot be read.
        """
        newest = self.newest
        if newest is None:
            return 0
        if not model.optimizer.built:  # load_weights would leave its state out
            model.optimizer.build(model.trainable_variables)
        try:
            state = json.loads((newest / "training.json").read_text())
            self.history, self.step, self._metrics = state["history"], state["step"], state["metrics"]
            model.load_weights(newest / "state.weights.h5")
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(f"{newest} is no whole checkpoint of this model: delete it, and train again.") from error
        return len(self.history)

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self._first_step = self.step
        if self.step:  # Keras has just reset what the epoch's first steps have measured
            for variable, value in zip(self.model.metrics_variables, self._metrics, strict=True):
                variable.assign(value)

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        if batch + 1 != self.params["steps"] and self.due(batch):  # else the epoch is about to end
            self.step = self._first_step + batch + 1
            self._save(f"epoch-{len(self.history):05d}-step-{self.step:07d}")

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self.history = [*self.history, {name: float(value) for name, value in (logs or {}).items()}]
        self.step = 0
        self._save(f"epoch-{epoch + 1:05d}")

    def due(self, batch: int) -> bool:
        """Tells whether to save after a batch, by its number among those of this call of `fit`."""
        return self._seconds is not None and time.monotonic() >= self._saved + self._seconds

    def measured(self) -> list[Any]:
        """Reads what the metrics have measured of the epoch so far."""
        return [variable.numpy().tolist() for variable in self.model.metrics_variables]

    def _save(self, name: str) -> None:
        metrics = self.measured() if self.step else []
        self.write(name, {"history": self.history, "step": self.step, "metrics": metrics})

    def write(self, name: str, state: dict[str, Any]) -> None:
        """Writes a checkpoint of a name; `state` is all that is no variable."""
        make_folder(self.folder)
        sweep(self.folder)  # what a process has left that was killed
        newest = self.folder / name
        partial = make_partial_folder(newest)
        try:
            write_weights(self.model, partial / "state.weights.h5")
            write_text(partial / "training.json", json.dumps(state))
            shutil.rmtree(newest, ignore_errors=True)  # of an earlier training that was not restored
            partial.rename(newest)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise
        for older in self.folder.glob("epoch-*"):
            if older != newest:
                shutil.rmtree(older)
        self._saved = time.monotonic()


class KeepBest(keras.callbacks.Callback):
    """Ends training with the weights of the epoch of the highest robust validation accuracy (Rice et al. 2020).

    It is the clean one where there is no adversary; of equals the first counts. An epoch without validation, as
    `validation_freq` leaves some, does not count. The weights lie on disk, so that a training that is killed and
    resumed ends with the same ones.

    Keras' `ModelCheckpoint(save_best_only=True)` writes over its one file, which a kill in between leaves broken; it
    does not know after a restart what the best was; and it does not put the weights back when training ends.

    Example:
        model.fit(images, labels, validation_data=(images, labels), callbacks=[KeepBest("best")])

    Args:
        folder: where they live; made if missing.

    Attributes:
        epoch: the best one so far, from 1; 0 before the first.

    Raises:
        InputError: at the end of a training that validated no epoch. The first such epoch warns of it.
    """

    def __init__(self, folder: str | Path) -> None:
        super().__init__()
        self.folder = Path(folder)
        self._state = self.folder / "best.json"
        self.epoch, self._accuracy = 0, -1.0
        if self._state.exists():
            self.epoch, self._accuracy = json.loads(self._state.read_text())
        self._skipped = 0

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        self._skipped = 0

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        if not any(name in (logs or {}) for name in _ACCURACIES):
            if not self.epoch and not self._skipped:
                warnings.warn(
                    f"KeepBest passes over epoch {epoch + 1}, which was not validated: give fit validation_data.",
                    stacklevel=2,
                )
            self._skipped += 1
            return
        accuracy = robust_validation_accuracy(logs or {})
        if accuracy > self._accuracy:
            make_folder(self.folder)
            before = self._weights
            self.epoch, self._accuracy = epoch + 1, accuracy
            write_weights(self.model, self._weights)
            write_text(self._state, json.dumps([self.epoch, self._accuracy]))
            if before != self._weights:  # an epoch may be run again after its weights were kept
                before.unlink(missing_ok=True)

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        if self._skipped and not self.epoch:
            raise InputError(
                f"KeepBest saw {self._skipped} epochs and none was validated, so that the model has the weights of the "
                "last: give fit validation_data."
            )
        if self.epoch:
            self.model.load_weights(self._weights)
            # As fit ends: the optimizer's averages, where it keeps them.
            self.model.optimizer.finalize_variable_values(self.model.trainable_weights)

    @property
    def _weights(self) -> Path:
        return self.folder / f"best-{self.epoch:05d}.weights.h5"


def write_weights(model: keras.Model, path: Path) -> None:
    """Writes the weights of a model, as `save_weights` does: whole or not at all.

    They are made in memory first: HDF5 kills the process where a disk is full.

    Raises:
        InputError: where they cannot be written.
    """
    content = _Memory()
    model.save_weights(content)
    write_bytes(path, content.getbuffer())


class _Memory(io.BytesIO):
    """A file in memory whose name Keras takes for one of weights."""

    def __str__(self) -> str:
        return "memory.weights.h5"


def robust_validation_accuracy(logs: dict[str, float]) -> float:
    """Finds the accuracy in the logs of an epoch of `fit`: under the adversary, or clean where there is none."""
    return float(next((logs[name] for name in _ACCURACIES if name in logs), 0.0))


def catastrophic_overfitting(history: list[dict[str, float]]) -> int | None:
    """Finds the epoch (from 1) after which robust validation accuracy stayed below half of its best, or None.

    A model that trains against one step may learn to mislead it, from one epoch to the next, and is then open to
    any other attack (Wong, Rice and Kolter 2020, section 5.4).
    """
    accuracies = [robust_validation_accuracy(logs) for logs in history]
    whole = [epoch for epoch, accuracy in enumerate(accuracies, 1) if accuracy >= max(accuracies) / 2]
    return whole[-1] if whole and whole[-1] < len(accuracies) else None
