"""Who is evaluated: a model on disk, a served one, or one in memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from erkeras import detection, saved, serving
from erkeras.attacks.named import BY_QUERIES, AttackSettings
from erkeras.errors import InputError
from erkeras.evaluation.record import Record
from erkeras.saved import Card


@dataclass(frozen=True)
class Subject:
    """Finds and checks a model that is to be evaluated. `load` loads it.

    Attributes:
        name: as results call it: its path, its address, or the word "model".
        card: of a folder of ours; else None.
        path: as given; None for a served model and one in memory.
        file: what is loaded: the .keras file, or the SavedModel's folder.
        kind: "keras", "saved_model", "served" or "object".
        model: the one in memory.
        modules: that register Keras classes of the user's own, imported before the model is loaded.
        knowledge: what is asked of a served model, "logits" or "labels".
    """

    name: str
    kind: str
    card: Card | None = None
    path: Path | None = None
    file: Path | None = None
    model: Any = None
    modules: tuple[str, ...] = ()
    knowledge: str = "logits"

    @classmethod
    def find(cls, model: Any, modules: Sequence[str] = ()) -> Subject:
        """Finds a model, without TensorFlow.

        Args:
            model: the path of a folder of ours, of a .keras file or of a SavedModel; or a model in memory, as an attack
                takes it.
            modules: that register Keras classes of the user's own.

        Raises:
            InputError: where there is no model at the path, or a damaged one.
        """
        if isinstance(model, Subject):
            return model
        if not isinstance(model, (str, Path)):
            return cls("model", "object", model=model)
        path = Path(model)
        kind, file, card = saved.find_model(path)
        return cls(str(path), kind, card, path, file, modules=tuple(modules))

    @classmethod
    def served(cls, endpoint: str, settings: AttackSettings) -> Subject:
        """Names a model on a server, which is asked for nothing yet.

        Args:
            endpoint: as `Client` takes it.
            settings: of the attacks, which must do without gradients.

        Raises:
            InputError: for another address, or attacks that ask for gradients.
        """
        serving.Client(endpoint).close()
        unfit = [name for name in settings.attacks if name not in BY_QUERIES]
        if unfit:
            raise InputError(
                f"{unfit[0]} was asked for against {endpoint}, and a server gives no gradients: give one of "
                f"{', '.join(BY_QUERIES)}."
            )
        return cls(endpoint, "served", knowledge="labels" if set(settings.attacks) == {"rays"} else "logits")

    @cached_property
    def digest(self) -> str | None:
        """Gives the SHA-256 of the model's files; None for a served model and one in memory."""
        return saved.fingerprint(self.file) if self.file else None

    def is_named(self, digest: str | None) -> bool:
        """Tells whether a record's digest is this model's."""
        return digest is None if self.file is None else saved.is_fingerprint(digest, self.file)

    @property
    def short_name(self) -> str:
        """Gives the last part of the name."""
        return self.path.name if self.path else self.name.rstrip("/").rpartition("/")[2]

    def load(self, with_detector: bool = False) -> Any:
        """Loads the model as attacks take it.

        Args:
            with_detector: the outputs of the model and its detector, for an adaptive attacker.

        Raises:
            InputError: where it cannot be loaded, or has no detector.
        """
        if self.kind == "object":
            return self.model
        if self.kind == "served":
            return serving.Served(serving.Client(self.name), self.knowledge)
        self._check_detector(with_detector)
        saved.import_modules(self.modules)
        assert self.file is not None
        model = saved.load_model(self.kind, self.file)
        if not with_detector:
            return model
        return detection.ERDetector.load(self.file.parent / saved.DETECTOR, model).outputs

    def _check_detector(self, with_detector: bool) -> None:
        if with_detector and not (self.card and self.card.detector):
            raise InputError(f"the detector of {self.name} was asked for, and it has none: leave it out.")

    def check(self, with_detector: bool, image_shape: Sequence[int], dataset: str) -> None:
        """Checks what can be checked before the model is loaded.

        Raises:
            InputError: for a detector that it does not have, or images of another size than it takes.
        """
        if self.kind != "object":
            self._check_detector(with_detector)
        if self.card and list(image_shape) != list(self.card.dataset.image_shape):
            has, takes = (" x ".join(map(str, size)) for size in (image_shape, self.card.dataset.image_shape))
            raise InputError(f"{dataset} has images of {has} and {self.name} takes {takes}: give images of its size.")


def find_recorded(folder: str | Path, model: Any = None, modules: Sequence[str] = ()) -> tuple[Record, Subject]:
    """Opens a record and finds the model that it is about, without TensorFlow.

    Args:
        folder: of the record.
        model: as `Subject.find` takes it; by default the one whose folder holds the record, or that it names.
        modules: that register Keras classes of the user's own.

    Raises:
        InputError: where there is no record, or the model is another one.
    """
    folder = Path(folder)
    record = Record.open(folder)
    # A record that a card keeps goes where its model goes.
    home = folder.absolute().parent.parent
    where = model or (home if (home / saved.CARD).is_file() else Path(record.settings["model"]))
    subject = Subject.find(where, modules)
    if not subject.is_named(record.settings.get("digest")):
        raise InputError(
            f"{subject.name} is not the model that {folder} is about, or not the same version of it: give that one."
        )
    return record, subject
