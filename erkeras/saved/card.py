"""The model card, `card.json`: its keys as types, and the one place that reads and writes it.

A nested object of the file is a class here, and a key an attribute. docs/model-card.md lists them all.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pydantic

from erkeras.detection.criteria import Separation
from erkeras.errors import InputError
from erkeras.recipes import Job, Recipe
from erkeras.saved.formats import upgrade
from erkeras.threat import ThreatModel

CARD = "card.json"
FORMAT = 3


@dataclass(frozen=True)
class DatasetEntry:
    """Says what the images of a model are, key `dataset`.

    Attributes:
        image_shape: (height, width, channels).
        class_names: by label.
        name: as `load_dataset` takes it; None where the model does not say.
        train, validation, test: how many images there were of each; None where the model does not say.
    """

    image_shape: tuple[int, int, int]
    class_names: tuple[str, ...]
    name: str | None = None
    train: int | None = None
    validation: int | None = None
    test: int | None = None


@dataclass(frozen=True)
class TrainingEntry:
    """Says how a training went, key `training`.

    Attributes:
        seconds_of_last_run: of its last run; a resumed one had others before.
        last_epoch: what Keras logged in the last epoch.
        kept_epoch: the epoch whose weights were taken, from 1.
        warnings: sentences about what makes the training doubtful.
        generator_last_epoch: the logs of a Defense-GAN's generator.
        code_size: of a network of the user's own; None where it is the recipe's.
        replicas: the devices that shared each batch, over all workers.
    """

    seconds_of_last_run: float
    last_epoch: dict[str, float]
    kept_epoch: int | None = None
    warnings: tuple[str, ...] = ()
    generator_last_epoch: dict[str, float] | None = None
    code_size: int | None = None
    replicas: int = 1


@dataclass(frozen=True)
class Summary:
    """Holds the figures of an evaluation, key `summary`.

    Attributes:
        images: how many.
        outputs: what the model's outputs were taken for; see `Attacked`.
        clean_accuracy: in [0, 1].
        attacks: by name the accuracy after that attack and those before it.
        robust_accuracy: after all of them.
        mean_boundary_distance: see `Robustness.mean_boundary_distance`.
        forward_passes, backward_passes: by name of the attack, over all images.
        warnings: sentences about what makes the figures doubtful.
    """

    images: int
    outputs: str
    clean_accuracy: float
    attacks: dict[str, float]
    robust_accuracy: float
    mean_boundary_distance: float | None
    forward_passes: dict[str, int]
    backward_passes: dict[str, int]
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class PGDEntry:
    """Holds the PGD of a report, key `pgd`: its steps, their length in pixels, and its restarts."""

    steps: int
    step_size: float
    restarts: int


@dataclass(frozen=True)
class ReportEntry:
    """Holds what training itself reports: FGSM and PGD on test images, key `evaluation`.

    Attributes:
        split: of the images.
        threat: norm, epsilon, pixel bounds.
        pgd: settings.
        seed: of the sample, and of the attacks' random numbers.
        indices: original indices of the images.
        summary: figures.
        baseline: figures of the same network without any defense.
    """

    split: str
    threat: ThreatModel
    pgd: PGDEntry
    seed: int
    indices: tuple[int, ...]
    summary: Summary
    baseline: Summary | None = None


@dataclass(frozen=True)
class UnreducedEntry:
    """Says what a detector was before its densities were reduced, key `unreduced`.

    Attributes:
        successful, all_attacked: as in `DetectorEntry`.
        log_density_standard_deviation: on the clean test images.
        log_density_root_mean_square_error: of the reduced densities, on the same images.
    """

    successful: Separation
    all_attacked: Separation
    log_density_standard_deviation: float
    log_density_root_mean_square_error: float


@dataclass(frozen=True)
class DetectorEntry:
    """Describes the detector of a model, key `detector`.

    Attributes:
        features: "combined" (ER2) or "code" (ER1).
        threshold: of the score, in [0, 1].
        stated_false_positive_rate: what the threshold was set for; None for the regression's own decision.
        fitted_on, calibrated_on: images, in words; empty where the model does not say.
        successful, all_attacked: separation of clean test images from those that were attacked with success, and
            from all attacked ones.
        centres: of each class, where the densities are reduced.
        unreduced: what they were before.
    """

    features: str
    threshold: float
    stated_false_positive_rate: float | None = None
    fitted_on: str = ""
    calibrated_on: str = ""
    successful: Separation | None = None
    all_attacked: Separation | None = None
    centres: int | None = None
    unreduced: UnreducedEntry | None = None


@dataclass(frozen=True)
class EvaluationEntry:
    """Describes one recorded evaluation, in the list `evaluations`.

    Attributes:
        title: tells it apart from the others.
        dataset, split: of the images.
        seed: of the sample, and of the attacks' random numbers.
        threat: norm, epsilon, pixel bounds.
        summary: figures.
        record: the folder of its record, from the model's folder on.
    """

    title: str
    dataset: str
    split: str
    seed: int
    threat: ThreatModel
    summary: Summary
    record: str


@dataclass(frozen=True)
class Card:
    """Says what a saved model is, how it was trained, what was measured.

    Attributes:
        name: of the model.
        dataset: see `DatasetEntry`.
        versions: of the packages that made it.
        processor: that its figures are from.
        job: what training was asked for; None for a model that `erkeras.save` wrote.
        training, evaluation: how training went, and what it reports; None likewise.
        detector: None where there is none.
        evaluations: what `erkeras attack --card` added.
        files: SHA-256 of every file of the model, by its path in the folder.
        format: of this file.
    """

    name: str
    dataset: DatasetEntry
    versions: dict[str, str]
    processor: str | None = None
    job: Job | None = None
    training: TrainingEntry | None = None
    evaluation: ReportEntry | None = None
    detector: DetectorEntry | None = None
    evaluations: tuple[EvaluationEntry, ...] = ()
    files: dict[str, str] = dataclasses.field(default_factory=dict)
    format: int = FORMAT

    @property
    def recipe(self) -> Recipe | None:
        """Gives the recipe of training, where the card has one."""
        return self.job.recipe if self.job else None

    @property
    def purified(self) -> bool:
        """Tells whether the model is a classifier behind a purifier."""
        return self.recipe is not None and self.recipe.generator_updates > 0


# Of the card and of all that it is made of: a key that is unknown is refused.
for _kind in (
    Card, DatasetEntry, DetectorEntry, EvaluationEntry, Job, PGDEntry, Recipe, ReportEntry, Separation, Summary,
    ThreatModel, TrainingEntry, UnreducedEntry,
):  # fmt: skip
    # The logs of a training that diverged hold what is no number; nothing else may.
    _config = {"extra": "forbid", "allow_inf_nan": _kind is TrainingEntry}
    setattr(_kind, "__pydantic_config__", _config)  # noqa: B010  mypy does not know the name
_ADAPTER = pydantic.TypeAdapter(Card)


def parse_card(text: str | bytes, source: Path) -> Card:
    """Makes a card of JSON.

    Args:
        text: JSON of format 2 or 3.
        source: named in errors.

    Raises:
        InputError: for another format, and where a key is missing, unknown or of another type.
    """
    try:
        found = pydantic.TypeAdapter(dict[str, Any]).validate_json(text)
    except pydantic.ValidationError as error:
        raise InputError(f"{source} is not a model card: train the model again, or copy its folder again.") from error
    number = found.get("format")
    if number not in (2, FORMAT):
        raise InputError(
            f"{source} has format {number!r} and this erkeras reads 2 and {FORMAT}: train the model again."
        )
    try:
        return _ADAPTER.validate_json(json.dumps(upgrade(found) if number == 2 else found), strict=True)
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        place = " ".join(".".join(map(str, first["loc"])).split())[:80] or "its keys"
        reason = first["msg"].removeprefix("Value error, ").rstrip(".")
        raise InputError(
            f"{source} is not a whole model card, at {place}: {reason}; train the model again, or copy its folder."
        ) from error
    except (KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(
            f"{source} lacks what a card of format 2 has ({error}): train the model again, or copy its folder again."
        ) from error


def card_text(card: Card) -> str:
    """Writes a card as JSON."""
    return json.dumps(dataclasses.asdict(card), indent=1)
