"""A model's folder as a whole: written, opened, exported again."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from erkeras import detection, serving
from erkeras.errors import InputError
from erkeras.files import make_partial_folder
from erkeras.saved.card import Card, DatasetEntry, DetectorEntry
from erkeras.saved.folder import DETECTOR, MODEL, digests, new_version, read_card, write_card
from erkeras.saved.loading import load_model
from erkeras.versions import processor, versions

if TYPE_CHECKING:
    import keras

    from erkeras.data import Dataset
    from erkeras.detection import ERDetector


@dataclass(frozen=True)
class Saved:
    """Holds an open saved model: network, detector and card.

    Attributes:
        folder: where it lives.
        model: the Keras model.
        detector: fitted and calibrated; None where the model has none.
        card: what it is, and what was measured.
    """

    folder: Path
    model: keras.Model
    detector: ERDetector | None
    card: Card


def load(folder: str | Path) -> Saved:
    """Opens a folder that `erkeras train` or `save` wrote.

    Example:
        saved = load("saved_models/digits-er-classifier")
        saved.detector.predict(images).verdict

    Args:
        folder: of the model.

    Raises:
        InputError: where the folder is missing, not one of ours, of another format, or damaged.
    """
    folder = Path(folder)
    card = read_card(folder)
    model = load_model("keras", folder / MODEL)
    detector = detection.ERDetector.load(folder / DETECTOR, model) if card.detector else None
    return Saved(folder, model, detector, card)


def save(
    model: keras.Model,
    folder: str | Path,
    *,
    detector: ERDetector | None = None,
    dataset: Dataset | None = None,
    class_names: Sequence[str] | None = None,
) -> Saved:
    """Writes a model into a folder that the command line, TensorFlow Serving and `load` take.

    Example:
        save(model, "saved_models/mine", detector=detector, dataset=digits)

    Args:
        model: images -> logits; built.
        folder: to make; it is there whole or not at all.
        detector: of this model, fitted and calibrated.
        dataset: what it was trained on, which `erkeras attack` then takes by default.
        class_names: by label; by default the data set's, or numbers.

    Returns:
        What was saved, with its card.

    Raises:
        InputError: where the folder exists, the model's images have no one size, the detector is another model's or
            not calibrated, or there are not as many names as classes.
    """
    folder = Path(folder)
    if folder.exists():
        raise InputError(f"{folder} exists: give another folder, or delete it.")
    if detector is not None and detector.model is not model:
        raise InputError("the detector was fitted on another model: give the one that was fitted on this model.")
    if detector is not None and not isinstance(detector, detection.ERDetector):
        raise InputError(f"the detector is a {type(detector).__name__}: give an ERDetector, which a folder can hold.")
    card = Card(
        name=folder.name,
        dataset=_dataset_entry(model, dataset, class_names),
        versions=versions(),
        processor=processor(),
        detector=DetectorEntry(detector.features, detector.threshold, detector.false_positive_rate)
        if detector
        else None,
    )
    place = make_partial_folder(folder)
    try:
        write_model(place / folder.name, model, detector, card.dataset.image_shape)
        return Saved(folder, model, detector, complete(place / folder.name, folder, card))
    finally:
        shutil.rmtree(place, ignore_errors=True)


def write_model(folder: Path, model: keras.Model, detector: ERDetector | None, image_shape: Sequence[int]) -> None:
    """Writes the files of a model but its card: for Keras, for TensorFlow Serving, and the detector's.

    Args:
        folder: made anew.
        model, detector: as for `save`.
        image_shape: (height, width, channels).
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    model.save(folder / MODEL)
    if detector is None:
        serving.export_classifier(model, image_shape, folder / "1")
        return
    serving.export_saved_model(detector, folder / "1")
    detector.save(folder / DETECTOR)


def complete(partial: Path, folder: Path, card: Card) -> Card:
    """Adds the card to the files of a model, and gives them their folder's name.

    Returns:
        The card, with the digests of the files.
    """
    card = dataclasses.replace(card, files=digests(partial))
    write_card(partial, card)
    partial.rename(folder)
    return card


def export_version(folder: str | Path, version: int | None = None) -> Path:
    """Writes one more SavedModel into a saved model's folder, from its `model.keras` and `detector.npz`.

    Args:
        folder: as erkeras train wrote it.
        version: its number, from 1; by default one more than the newest.

    Returns:
        The new version's folder; its files are in the card.

    Raises:
        InputError: where the version exists, or the folder is not whole.
    """
    place = new_version(Path(folder), version)
    saved = load(folder)
    if saved.detector:
        serving.export_saved_model(saved.detector, place)
    else:
        serving.export_classifier(saved.model, saved.card.dataset.image_shape, place)
    added = {f"{place.name}/{name}": digest for name, digest in digests(place).items()}
    write_card(saved.folder, dataclasses.replace(saved.card, files={**saved.card.files, **added}))
    return place


def _dataset_entry(model: Any, dataset: Dataset | None, class_names: Sequence[str] | None) -> DatasetEntry:
    shape = dataset.image_shape if dataset else _image_shape(model)
    classes = _classes(model, shape)
    if class_names is None:
        class_names = dataset.class_names if dataset else [str(label) for label in range(classes)]
    if len(class_names) != classes:
        raise InputError(f"there are {len(class_names)} names of classes and the model has {classes}: give one each.")
    if dataset is None:
        return DatasetEntry(shape, tuple(class_names))
    counts = (len(split) for split in (dataset.train, dataset.validation, dataset.test))
    return DatasetEntry(shape, tuple(class_names), dataset.name, *counts)


def _image_shape(model: Any) -> tuple[int, int, int]:
    shape = getattr(getattr(model, "encoder", model), "input_shape", None)
    if not isinstance(shape, tuple) or len(shape) != 4 or None in shape[1:]:
        raise InputError(f"the model takes images of shape {shape}: give one of a fixed size, or the dataset.")
    return shape[1:]


def _classes(model: Any, image_shape: Sequence[int]) -> int:
    return int(np.shape(model(np.zeros((1, *image_shape), np.float32)))[-1])
