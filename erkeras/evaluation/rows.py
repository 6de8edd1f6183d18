"""Saved models beside each other: one row a defense, its mean and spread over seeds, and a paired test of two rows.

Reads cards and records alone, without TensorFlow.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from erkeras.errors import InputError
from erkeras.evaluation.examples import STANDING, Examples
from erkeras.evaluation.record import Record
from erkeras.recipes import Recipe
from erkeras.saved import Card, EvaluationEntry, defense_title, read_card


@dataclass(frozen=True)
class Trained:
    """Holds one saved model and one of its evaluations.

    Attributes:
        folder: of the model.
        defense: what the paper calls its row.
        seed: of training.
        recipe: all settings of training.
        minutes: of the last run of training.
        evaluation: of the card, as `erkeras attack --card` wrote it.
    """

    folder: Path
    defense: str
    seed: int
    recipe: Recipe
    minutes: float
    evaluation: EvaluationEntry

    @property
    def accuracies(self) -> dict[str, float]:
        """Lists the accuracies, clean and after each attack."""
        summary = self.evaluation.summary
        return {"clean": summary.clean_accuracy, **summary.attacks}

    def standing(self, name: str) -> dict[int, bool]:
        """Tells, by original index, whether the image stands clean and under every attack up to the one of a name."""
        examples = Record.open(self.folder / self.evaluation.record).read()
        stands = stands_after(examples, list(self.accuracies).index(name) - 1)
        return dict(zip(examples.indices.tolist(), stands.tolist(), strict=True))


@dataclass(frozen=True)
class Row:
    """Holds the models of one recipe, which differ by seed alone."""

    models: tuple[Trained, ...]

    @property
    def defense(self) -> str:
        return self.models[0].defense

    @property
    def minutes(self) -> float:
        """Gives the mean over the models."""
        return statistics.mean(model.minutes for model in self.models)

    def accuracy(self, name: str) -> tuple[float, float, float]:
        """Gives mean, lowest and highest over the models."""
        values = [model.accuracies[name] for model in self.models]
        return statistics.mean(values), min(values), max(values)


@dataclass(frozen=True)
class Paired:
    """Compares two rows on the same images and seeds.

    Attributes:
        images: pairs (image, seed).
        first_alone, second_alone: how many stand under the one and not under the other.
        p_value: of the exact McNemar test (two-sided), for rows that are equally robust. Images of several seeds count
            as if they were independent, which they are not quite: it is rather too small than too large.
    """

    images: int
    first_alone: int
    second_alone: int
    p_value: float


def read_rows(folders: Sequence[Path], title: str | None = None) -> list[Row]:
    """Reads the rows of saved models, in the order in which they come.

    Args:
        folders: that `erkeras train` wrote, each with an evaluation in its card.
        title: of the evaluation; by default the only one that all models have.

    Raises:
        InputError: for a model without such an evaluation, evaluations of different images, or no one evaluation
            that all models have.
    """
    cards = {folder: read_card(folder) for folder in folders}
    titles = [{found.title for found in card.evaluations} for card in cards.values()]
    shared = sorted(set.intersection(*titles)) if titles else []
    if title is None:
        if len(shared) != 1:
            raise InputError(
                f"{len(cards)} models share the evaluations {', '.join(shared) or 'none'}: give each the same one with "
                "erkeras attack --card, and its title if there are more."
            )
        title = shared[0]
    elif title not in shared:
        raise InputError(f"not all models have an evaluation {title!r}: give one of {', '.join(shared) or 'none'}.")
    models = [_trained(folder, card, title) for folder, card in cards.items()]
    images = {(model.evaluation.dataset, model.evaluation.seed, model.evaluation.summary.images) for model in models}
    if len(images) > 1:
        raise InputError(
            f"the evaluations {title!r} are of different images: attack all on one --dataset with one --seed and "
            "--limit."
        )
    rows: dict[Recipe, list[Trained]] = {}
    for model in models:
        rows.setdefault(model.recipe, []).append(model)
    return [Row(tuple(sorted(row, key=lambda model: model.seed))) for row in rows.values()]


def compare_rows(first: Row, second: Row, name: str) -> Paired:
    """Tests two rows in pairs, seed by seed and image by image.

    Args:
        name: of the last attack that an image has to stand, or "clean".

    Raises:
        InputError: where they have no seed in common.
    """
    seeds = [{model.seed: model for model in row.models} for row in (first, second)]
    shared = sorted(seeds[0].keys() & seeds[1].keys())
    if not shared:
        raise InputError(f"{first.defense} and {second.defense} have no seed in common: train both with one.")
    pairs = []
    for seed in shared:
        one, other = (models[seed].standing(name) for models in seeds)
        pairs += [(one[index], other[index]) for index in one]
    stands = np.array(pairs)
    return paired_test(stands[:, 0], stands[:, 1])


def stands_after(examples: Examples, number: int) -> np.ndarray:
    """Tells, bool `[n]`, which images stand clean and under the attacks up to a number; -1 is before the first."""
    return np.asarray((examples.broken_by == STANDING) | (examples.broken_by > number))


def paired_test(first: np.ndarray, second: np.ndarray) -> Paired:
    """Tests whether of the same images as many stand under the one as under the other: bool `[n]` each."""
    from scipy.stats import binomtest

    first_alone, second_alone = int(np.sum(first & ~second)), int(np.sum(~first & second))
    discordant = first_alone + second_alone
    p_value = float(binomtest(first_alone, discordant).pvalue) if discordant else 1.0
    return Paired(len(first), first_alone, second_alone, p_value)


def _trained(folder: Path, card: Card, title: str) -> Trained:
    if card.job is None or card.training is None:
        raise InputError(f"{folder} does not say how it was trained: give models that erkeras train wrote.")
    evaluation = next(found for found in card.evaluations if found.title == title)
    minutes = card.training.seconds_of_last_run / 60
    return Trained(folder, defense_title(card.job.recipe), card.job.seed, card.job.recipe, minutes, evaluation)
