"""Callbacks of training: a checkpoint that survives being killed while it is written, and the best epoch."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import keras

from erkeras.files import write_text


class Checkpoint(keras.callbacks.Callback):
    """Saves the whole state of training (weights, optimizers, epoch, history) after every epoch.

    The new checkpoint is written beside the old one and takes its name in one rename, so that whenever the
    process dies, one whole checkpoint is there. Training goes on from it with

        epoch = checkpoint.restore(model)
        model.fit(..., initial_epoch=epoch, callbacks=[checkpoint])

    Args:
        folder: where the checkpoint lives; made if missing.

    Attributes:
        history: the logs of every epoch so far, those before a restore included.
    """

    def __init__(self, folder: str | Path) -> None:
        super().__init__()
        self.folder = Path(folder)
        self.history: list[dict[str, float]] = []

    def restore(self, model: keras.Model) -> int:
        """Loads the newest checkpoint, where there is one, into a built and compiled model.

        Returns:
            How many epochs are done.
        """
        newest = self._newest()
        if newest is None:
            return 0
        self.history = json.loads((newest / "history.json").read_text())
        if not model.optimizer.built:  # load_weights would leave its state out
            model.optimizer.build(model.trainable_variables)
        model.load_weights(newest / "state.weights.h5")
        return len(self.history)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self.history = [*self.history, {name: float(value) for name, value in (logs or {}).items()}]
        self.folder.mkdir(parents=True, exist_ok=True)
        partial = self.folder / "partial"
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        self.model.save_weights(partial / "state.weights.h5")
        (partial / "history.json").write_text(json.dumps(self.history))
        newest = self.folder / f"epoch-{epoch + 1:05d}"
        shutil.rmtree(newest, ignore_errors=True)  # of an earlier training that was not restored
        partial.rename(newest)
        for older in self.folder.glob("epoch-*"):
            if older != newest:
                shutil.rmtree(older)

    def _newest(self) -> Path | None:
        return max(self.folder.glob("epoch-*"), default=None)


class KeepBest(keras.callbacks.Callback):
    """Ends training with the weights of the epoch of the highest robust validation accuracy (Rice et al. 2020).

    It is the clean one where there is no adversary; of equals the first counts. The weights lie on disk, so that a
    training that is killed and resumed ends with the same ones; the file of a new best is whole before the old one
    goes, as it would not be with Keras' ModelCheckpoint.

    Args:
        folder: where they live; made if missing.

    Attributes:
        epoch: the best one so far, from 1; 0 before the first.
    """

    def __init__(self, folder: str | Path) -> None:
        super().__init__()
        self.folder = Path(folder)
        self._state = self.folder / "best.json"
        self.epoch, self._accuracy = 0, -1.0
        if self._state.exists():
            self.epoch, self._accuracy = json.loads(self._state.read_text())

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        accuracy = robust_validation_accuracy(logs or {})
        if accuracy > self._accuracy:
            self.folder.mkdir(parents=True, exist_ok=True)
            before = self._weights
            self.epoch, self._accuracy = epoch + 1, accuracy
            self.model.save_weights(self._weights)
            write_text(self._state, json.dumps([self.epoch, self._accuracy]))
            before.unlink(missing_ok=True)

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        if self.epoch:
            self.model.load_weights(self._weights)
            # As fit ends: the optimizer's averages, where it keeps them.
            self.model.optimizer.finalize_variable_values(self.model.trainable_weights)

    @property
    def _weights(self) -> Path:
        return self.folder / f"best-{self.epoch:05d}.weights.h5"


def robust_validation_accuracy(logs: dict[str, float]) -> float:
    """Of the logs of an epoch of `fit` with validation data: under the adversary, or clean where there is none."""
    return float(logs.get("val_adversarial_accuracy", logs.get("val_clean_accuracy", 0.0)))


def catastrophic_overfitting(history: list[dict[str, float]]) -> int | None:
    """The epoch, from 1, after which the robust validation accuracy stayed below half of its best; None if it did not.

    A model that trains against one step may learn to mislead it, from one epoch to the next, and is then open to
    any other attack (Wong, Rice and Kolter 2020, section 5.4).
    """
    accuracies = [robust_validation_accuracy(logs) for logs in history]
    whole = [epoch for epoch, accuracy in enumerate(accuracies, 1) if accuracy >= max(accuracies) / 2]
    return whole[-1] if whole and whole[-1] < len(accuracies) else None
