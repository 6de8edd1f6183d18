"""A checkpoint that survives being killed while it is written."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import keras


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
