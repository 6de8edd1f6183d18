"""Reads what a report is made of: cards, records and curves. It compares them with each other."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pydantic

from erkeras import files, saved
from erkeras.errors import InputError
from erkeras.evaluation.answers import Answers, read_answers
from erkeras.evaluation.examples import WRONG_WHEN_CLEAN, Examples
from erkeras.evaluation.record import Record
from erkeras.evaluation.rows import stands_after
from erkeras.saved import Card, Summary
from erkeras.threat import ThreatModel

#: How far a figure of a card may be from its record's: rounding.
_ROUNDING = 1e-6
#: Bytes that the file of a curve may have.
_MOST = 2**24
_SUMMARY = pydantic.TypeAdapter(Summary)
_THREAT = pydantic.TypeAdapter(ThreatModel)


@dataclass(frozen=True)
class Measured:
    """Holds one evaluation of a model: of its card, or of a record that the user names.

    Attributes:
        title: tells it apart from the others.
        dataset, split, seed, threat, summary: as in `EvaluationEntry`.
        folder: of its record; None for what training reports, which keeps none.
        record, examples: None where the record is not there.
        answers: what the record keeps for a report; None where it keeps nothing.
    """

    title: str
    dataset: str
    split: str
    seed: int
    threat: ThreatModel
    summary: Summary
    folder: Path | None = None
    record: Record | None = None
    examples: Examples | None = None
    answers: Answers | None = None

    @property
    def with_detector(self) -> bool:
        """Tells whether the attacker aimed at the detector too."""
        return any(name.endswith("-detector") for name in self.summary.attacks)


@dataclass(frozen=True)
class Curve:
    """Holds robust accuracy over epsilon, as `erkeras curve --json` writes it.

    Attributes:
        source: the file.
        epsilons: rising.
        attacks: their names.
        norm, dataset, images, seed, with_detector: what was measured.
        accuracies: by the model's digest.
    """

    source: Path
    epsilons: tuple[float, ...]
    attacks: tuple[str, ...]
    norm: str
    dataset: str
    images: int
    seed: int
    with_detector: bool
    accuracies: dict[str, tuple[float, ...]]


@dataclass(frozen=True)
class Reported:
    """Holds a model of a report: its folder, its card, and all that was measured of it."""

    folder: Path
    card: Card
    measured: tuple[Measured, ...]
    curves: tuple[Curve, ...] = ()
    name: str = field(default="")

    @property
    def training(self) -> Measured | None:
        """Gives what training reports."""
        return next((found for found in self.measured if found.folder is None), None)

    def class_name(self, label: int) -> str:
        """Gives the name of a class, or its number where it has none."""
        names = self.card.dataset.class_names
        return names[label] if 0 <= label < len(names) else str(label)


def read_sources(folders: Sequence[Path], records: Sequence[Path] = (), curves: Sequence[Path] = ()) -> list[Reported]:
    """Reads the models of a report, and the records and curves that belong to them.

    Args:
        folders: of models, each with a card.
        records: beside those that the cards name.
        curves: files that `erkeras curve --json` wrote.

    Raises:
        InputError: for a folder without a card, a model of which nothing was measured, what cannot be read, a record or
            a curve of another model, and a card that says otherwise than its record.
    """
    if len({folder.resolve() for folder in folders}) < len(folders):
        raise InputError("a model was given twice: give each once.")
    cards = [_read_card(folder) for folder in folders]
    found = [_of_card(folder, card) for folder, card in zip(folders, cards, strict=True)]
    for path in records:
        owner, measured = _find_owner(path, folders, found)
        if measured is not None:
            found[owner].append(measured)
    read = [_read_curve(path) for path in curves]
    mine = [[_of_model(curve, folder) for curve in read] for folder in folders]
    for number, curve in enumerate(read):
        if not any(part[number] for part in mine):
            raise InputError(f"{curve.source} is of none of the models: give the models that it was drawn of.")
    names = _distinct_names(folders, cards)
    models = [
        Reported(folder, card, tuple(measured), tuple(curve for curve in part if curve), name)
        for folder, card, measured, part, name in zip(folders, cards, found, mine, names, strict=True)
    ]
    for model in models:
        for measured in model.measured:
            _check(measured, model.folder)
        if not model.measured:
            raise InputError(
                f"the card of {model.folder} has no evaluation: attack it first, with erkeras attack {model.folder} "
                "--card."
            )
    return models


def _read_card(folder: Path) -> Card:
    if folder.is_file():
        raise InputError(f"{folder} is a file: give the folder of a saved model, as erkeras train writes it.")
    return saved.read_card(folder)


def _distinct_names(folders: Sequence[Path], cards: Sequence[Card]) -> list[str]:
    names = [card.name for card in cards]
    return names if len(set(names)) == len(names) else [str(folder) for folder in folders]


def _of_card(folder: Path, card: Card) -> list[Measured]:
    found = []
    report = card.evaluation
    for entry in card.evaluations:
        settings = (entry.title, entry.dataset, entry.split, entry.seed, entry.threat, entry.summary)
        place = folder / entry.record
        record = Record.open(place) if place.exists() else None
        found.append(_measured(settings, place, record, folder) if record else Measured(*settings, folder=place))
    if report is not None:
        names = ", ".join(report.summary.attacks)
        title = f"{names}, by erkeras train"
        dataset = card.dataset.name or "its data set"
        found.append(Measured(title, dataset, report.split, report.seed, report.threat, report.summary))
    return found


def _measured(settings: tuple[Any, ...], place: Path, record: Record, model: Path) -> Measured:
    """An evaluation with its record, once the two are found to be of one model and to say the same."""
    if not saved.is_fingerprint(record.settings.get("digest"), model / saved.MODEL):
        raise InputError(f"{place} is a record of another model than {model}: give the one that it is about.")
    examples = record.read_whole()
    answers = read_answers(place, examples)
    found = replace(Measured(*settings), folder=place, record=record, examples=examples, answers=answers)
    summary = found.summary
    said = [summary.images, summary.clean_accuracy, *summary.attacks.values(), summary.robust_accuracy]
    after = [float(np.mean(stands_after(examples, number))) for number in range(len(record.names))]
    counted = [len(examples), float(np.mean(examples.broken_by != WRONG_WHEN_CLEAN)), *after, after[-1]]
    if list(summary.attacks) != record.names or not np.allclose(said, counted, atol=_ROUNDING):
        raise InputError(
            f"{place} has other figures in its examples than in its result or its card: erkeras verify {place} says "
            "what is false."
        )
    return found


def _check(measured: Measured, model: Path) -> None:
    """Refuses figures that no evaluation gives."""
    found = measured.summary
    whole = 1 <= found.images < 2**31 and bool(found.attacks)
    falling = [1.0, found.clean_accuracy, *found.attacks.values(), found.robust_accuracy, 0.0]
    if not whole or any(one < other - _ROUNDING for one, other in itertools.pairwise(falling)):
        raise InputError(
            f"{measured.folder or model} says {found.images} images and accuracies that no evaluation gives, as more "
            "after an attack than before it: evaluate again."
        )


def _find_owner(path: Path, folders: Sequence[Path], known: list[list[Measured]]) -> tuple[int, Measured | None]:
    """The number of the model that a record is about, and the evaluation; None where the card names it already."""
    record = Record.open(path)
    digest = record.settings.get("digest")
    owners = [row for row, folder in enumerate(folders) if saved.is_fingerprint(digest, folder / saved.MODEL)]
    if not owners:
        raise InputError(f"{path} is a record of none of the models: give the model that it is about.")
    places = [one.folder.resolve() for one in known[owners[0]] if one.folder]
    if path.resolve() in places:
        return owners[0], None
    settings = record.settings
    result = record.result().get("summary")
    if result is None:
        raise InputError(f"{path} is not finished: go on with the same command and --resume.")
    try:
        summary = _SUMMARY.validate_python(result)
        threat = _THREAT.validate_python(settings.get("threat") or settings["attacks"][0]["config"]["threat"])
    except (pydantic.ValidationError, LookupError, TypeError) as error:
        raise InputError(f"{path} does not say what was measured: evaluate again.") from error
    split, dataset = settings.get("split", "test"), settings.get("dataset", "images")
    told = (f"{_title(settings, record.names, threat)} {split}", dataset, split, settings.get("seed", 0), threat)
    return owners[0], _measured((*told, summary), path, record, folders[owners[0]])


def _title(settings: dict[str, Any], names: list[str], threat: ThreatModel) -> str:
    asked = settings.get("asked")
    asked = asked if isinstance(asked, dict) else {}
    listed = asked.get("attacks")
    listed = listed if isinstance(listed, list) else names
    words = [f"autoattack {asked.get('version') or 'standard'}" if name == "autoattack" else name for name in listed]
    detector = ["with detector"] if asked.get("with_detector") else []
    return " ".join([*dict.fromkeys(map(str, words)), *detector, threat.norm, f"{threat.epsilon:g}"])


def _of_model(curve: Curve, folder: Path) -> Curve | None:
    """A curve's part that is of a model."""
    mine = {
        digest: values
        for digest, values in curve.accuracies.items()
        if saved.is_fingerprint(digest, folder / saved.MODEL)
    }
    return Curve(**{**vars(curve), "accuracies": mine}) if mine else None


def _read_curve(path: Path) -> Curve:
    try:
        found = json.loads(files.read_regular(path, _MOST))
        if isinstance(found, dict) and "accuracies" in found and "digests" not in found:
            raise InputError(f"{path} does not say of which models it is: draw the curve again, with this erkeras.")
        digests, accuracies = found["digests"], found["accuracies"]
        curve = Curve(
            path,
            tuple(float(epsilon) for epsilon in found["epsilons"]),
            tuple(str(name) for name in found["attacks"]),
            str(found["norm"]),
            str(found["dataset"]),
            int(found["images"]),
            int(found["seed"]),
            bool(found["with_detector"]),
            {str(digests[name]): tuple(float(value) for value in values) for name, values in accuracies.items()},
        )
        rising = all(one < other for one, other in zip(curve.epsilons, curve.epsilons[1:], strict=False))
        whole = all(len(values) == len(curve.epsilons) for values in curve.accuracies.values())
        inside = all(0 <= value <= 1 for values in curve.accuracies.values() for value in values)
        if not (rising and whole and inside and math.isfinite(sum(curve.epsilons)) and curve.epsilons):
            raise ValueError("no curve")
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}): give a file of erkeras curve --json.") from error
    except (ValueError, LookupError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path} is no curve: give a file that erkeras curve --json wrote.") from error
    return curve
