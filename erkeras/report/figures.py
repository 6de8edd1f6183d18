"""The numbers of a report, made of examples and answers."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from erkeras.evaluation.answers import Answers
from erkeras.evaluation.examples import STANDING, UNANSWERED, WRONG_WHEN_CLEAN, Examples
from erkeras.report.sources import Measured, Reported

#: Classes up to which a matrix is shown; of more, the most frequent confusions.
MOST_CLASSES = 20
_CONFUSIONS, _BINS, _POINTS = 15, 24, 80
FOUND, NO_NUMBER = "found by the detector", "no number"


@dataclass(frozen=True)
class Fraction:
    """Holds a fraction of images and its 95% interval."""

    value: float
    low: float
    high: float


def fraction(value: float, images: int) -> Fraction:
    """Gives a fraction with the 95% interval of Wilson (1927).

    Args:
        value: in [0, 1].
        images: of how many it is.
    """
    from scipy.stats import binomtest

    interval = binomtest(round(value * images), images).proportion_ci(0.95, method="wilson")
    return Fraction(value, float(interval.low), float(interval.high))


def of_hundred(summary_clean: float, robust: float) -> tuple[int, int, int]:
    """Rounds three parts to 100 images: robust, broken, wrong when clean; the largest remainders are rounded up."""
    parts = 100 * np.array([robust, summary_clean - robust, 1 - summary_clean])
    whole = np.floor(parts + 1e-9).astype(int)
    for row in np.argsort(whole - parts, kind="stable")[: 100 - int(whole.sum())]:
        whole[row] += 1
    return int(whole[0]), int(whole[1]), int(whole[2])


@dataclass(frozen=True)
class ClassRow:
    """Holds one class under attack: its images, its accuracies, and the most frequent label of broken images."""

    name: str
    images: int
    clean: Fraction
    robust: Fraction
    taken_for: str


def per_class(model: Reported, examples: Examples) -> list[ClassRow]:
    """Makes a row for each class that has images, by label."""
    rows = []
    for label in np.unique(examples.labels).tolist():
        mine = examples.labels == label
        broken = examples.predictions[mine & (examples.broken_by >= 0)]
        taken_for = ""
        if len(broken):
            ((other, times),) = Counter(broken.tolist()).most_common(1)
            taken_for = f"{model.class_name(other)} ({times} of {len(broken)})"
        count = int(mine.sum())
        clean = float(np.mean(examples.broken_by[mine] != WRONG_WHEN_CLEAN))
        robust = float(np.mean(examples.broken_by[mine] == STANDING))
        rows.append(
            ClassRow(model.class_name(label), count, fraction(clean, count), fraction(robust, count), taken_for)
        )
    return rows


@dataclass(frozen=True)
class Confusion:
    """Counts the labels that images of each class get under attack.

    Attributes:
        columns: names of classes, and of other ends.
        rows: (class, [(count, shade from 0 to 10, whether it is the class itself)]).
        frequent: (class, taken for, count), the most frequent confusions; for many classes, in the matrix' place.
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[str, tuple[tuple[int, int, bool], ...]], ...]
    frequent: tuple[tuple[str, str, int], ...]


def confusion(model: Reported, measured: Measured, examples: Examples) -> Confusion:
    """Counts what images are taken for under attack; a standing image counts for its own class."""
    standing = examples.broken_by == STANDING
    right = examples.predictions == examples.labels
    found = standing & ~right & measured.with_detector
    lost = examples.broken_by == UNANSWERED
    taken = np.where(standing, examples.labels, examples.predictions)
    ends = [(FOUND, found)] if measured.with_detector else []
    ends += [(NO_NUMBER, lost)] if lost.any() else []
    pairs = Counter(zip(examples.labels.tolist(), taken.tolist(), strict=True))
    for _, kind in ends:
        pairs.subtract(zip(examples.labels[kind].tolist(), taken[kind].tolist(), strict=True))
    ordered = sorted((-count, pair) for pair, count in pairs.items() if count and pair[0] != pair[1])
    frequent = tuple(
        (model.class_name(label), model.class_name(other), -count) for count, (label, other) in ordered[:_CONFUSIONS]
    )
    labels = sorted({*examples.labels.tolist(), *(other for (_, other), count in pairs.items() if count)})
    if len(labels) > MOST_CLASSES:
        return Confusion((), (), frequent)
    rows = []
    for label in np.unique(examples.labels).tolist():
        counts = [pairs[label, other] for other in labels]
        counts += [int(np.sum(kind & (examples.labels == label))) for _, kind in ends]
        shades = [math.ceil(10 * count / sum(counts)) for count in counts]
        own = [other == label for other in (*labels, *(None for _ in ends))]
        rows.append((model.class_name(label), tuple(zip(counts, shades, own, strict=True))))
    columns = (*(model.class_name(label) for label in labels), *(name for name, _ in ends))
    return Confusion(columns, tuple(rows), frequent)


@dataclass(frozen=True)
class Histogram:
    """Counts of several kinds of images in the same bins: edges `[bins + 1]`, and by kind the values of a bar."""

    edges: tuple[float, ...]
    counts: dict[str, tuple[int, ...]]
    totals: dict[str, int]


def histogram(kinds: dict[str, np.ndarray], cut: float = 0.0) -> Histogram | None:
    """Counts values in bins that all kinds share; None without a value.

    Args:
        kinds: values by kind; what is no number is left out.
        cut: fraction at each end whose values count in the outermost bars.
    """
    finite = {name: values[np.isfinite(values)].astype(float) for name, values in kinds.items()}
    everything = np.concatenate(list(finite.values())) if finite else np.zeros(0)
    if not len(everything):
        return None
    low, high = (float(edge) for edge in np.quantile(everything, [cut, 1 - cut]))
    edges = np.linspace(low, max(high, low + 1e-6 * max(1, abs(low))), _BINS + 1)
    counts = {
        name: tuple(np.histogram(np.clip(values, edges[0], edges[-1]), edges)[0].tolist())
        for name, values in finite.items()
        if len(values)
    }
    return Histogram(tuple(edges.tolist()), counts, {name: len(finite[name]) for name in counts})


def spread(examples: Examples) -> np.ndarray | None:
    """Gives the norms of the perturbations that broke images; None where nearly all are the same.

    An attack in a ball uses all of it. Only one that minimises the perturbation says how far a boundary is.
    """
    distances = examples.distance[examples.broken_by >= 0]
    if len(distances) < 2:
        return None
    middle = np.quantile(distances, [0.1, 0.9])
    return distances if middle[1] - middle[0] > 0.02 * middle[1] else None


def accuracy_over_distance(measured: Measured, examples: Examples) -> tuple[list[float], list[float]] | None:
    """Gives epsilons and the robust accuracy at each, where one attack found a nearest image for each image.

    An image stands at every epsilon below the norm of its perturbation.
    """
    if measured.summary.mean_boundary_distance is None:
        return None
    right = examples.broken_by != WRONG_WHEN_CLEAN
    distances = np.sort(examples.distance[right].astype(float))
    chosen = np.unique(np.concatenate([[0.0], np.quantile(distances, np.linspace(0, 1, _POINTS))]))
    stands = len(distances) - np.searchsorted(distances, chosen, side="right")
    stands[0] = len(distances)
    return chosen.tolist(), (stands / len(examples)).tolist()


@dataclass(frozen=True)
class Roc:
    """Holds a ROC curve, its area, and the point of the detector's threshold (false positives, found)."""

    name: str
    false_positives: tuple[float, ...]
    found: tuple[float, ...]
    area: float
    threshold: tuple[float, float]
    natural: int
    adversarial: int


def curve_of_detector(name: str, natural: np.ndarray, adversarial: np.ndarray) -> Roc | None:
    """Makes the ROC curve of scores, which are above 0 where an image is found; None without adversarial images."""
    from sklearn.metrics import roc_auc_score, roc_curve

    natural, adversarial = (np.nan_to_num(values.astype(float)) for values in (natural, adversarial))
    if not (len(natural) and len(adversarial)):
        return None
    truth, scores = np.repeat([0, 1], [len(natural), len(adversarial)]), np.concatenate([natural, adversarial])
    x, y, _ = roc_curve(truth, scores)
    rows = _thinned(len(x))
    point = (float(np.mean(natural > 0)), float(np.mean(adversarial > 0)))
    area = float(roc_auc_score(truth, scores))
    return Roc(name, tuple(x[rows].tolist()), tuple(y[rows].tolist()), area, point, len(natural), len(adversarial))


def scores_of(examples: Examples, answers: Answers) -> dict[str, np.ndarray]:
    """Sorts a detector's scores by what became of the images: clean ones, and attacked ones that stood or broke."""
    assert answers.clean_scores is not None
    assert answers.scores is not None
    return {
        "clean": answers.clean_scores,
        "attacked, still right": answers.scores[examples.broken_by == STANDING],
        "attacked, broken": answers.scores[examples.broken_by >= 0],
    }


def _thinned(count: int) -> Sequence[int]:
    if count <= 4 * _POINTS:
        return range(count)
    return np.unique(np.linspace(0, count - 1, 4 * _POINTS).astype(int)).tolist()
