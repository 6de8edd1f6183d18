"""Keeps in a record, for a report, what a model and its detector say of its images.

RECORD/answers.npz, of n images in the order of the record:
    clean_margins, margins   float32 [n], the label's logit less the highest other one, clean and attacked
    clean_scores, scores     float32 [n], log odds of the adversarial score less the threshold's: found where above 0
    rows                     int64 [m], the images that a report shows
    clean_images             [m, height, width, channels], these before the attack
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from erkeras import attacks, detection, files, saved
from erkeras.data import Split, read_arrays
from erkeras.data.arrays import list_arrays
from erkeras.errors import InputError
from erkeras.evaluation.examples import STANDING, Examples
from erkeras.pixels import as_floats

if TYPE_CHECKING:
    from erkeras.attacks import Victim
    from erkeras.evaluation.subject import Subject

ANSWERS = "answers.npz"
#: Images that a report shows of each kind.
SHOWN = 12
#: How far margins and scores may be off, as a fraction of the largest: processors round otherwise.
_ROUNDING = 0.01
_MARGINS, _SCORES = ("clean_margins", "margins"), ("clean_scores", "scores")


@dataclass(frozen=True)
class Answers:
    """Says how near each of n images is to being broken, and what the detector says of it.

    Attributes:
        clean_margins, margins: float32 `[n]`, the label's logit less the highest other one, clean and attacked.
        clean_scores, scores: float32 `[n]`, log odds of the adversarial score less the threshold's; None without a
            detector.
        rows: int64 `[m]`, images that a report shows.
        clean_images: float32 `[m, height, width, channels]`, these before the attack.
    """

    clean_margins: np.ndarray
    margins: np.ndarray
    clean_scores: np.ndarray | None
    scores: np.ndarray | None
    rows: np.ndarray
    clean_images: np.ndarray

    def differs(self, other: Answers) -> bool:
        """Tells whether other answers are more than a rounding away."""
        pairs: list[tuple[np.ndarray | None, np.ndarray | None]]
        pairs = [(self.clean_margins, other.clean_margins), (self.margins, other.margins)]
        pairs += [(self.clean_scores, other.clean_scores), (self.scores, other.scores)]
        pairs += [(self.clean_images, other.clean_images)]
        return not all(_near(one, two) for one, two in pairs)


def ask(
    subject: Subject, victim: Victim, clean: Split, examples: Examples, internal_batch: int, scored: bool
) -> Answers:
    """Asks a model, and its detector where it has one, about the images of a record.

    Args:
        subject: the model that was attacked.
        victim: the same, as it was attacked.
        clean: the images before the attacks.
        examples: what became of them.
        internal_batch: how many images the model sees at once.
        scored: whether the victim gives its detector's scores beside the logits already.

    Raises:
        InputError: for a model that gives labels alone, or a detector that does not fit.
    """
    with_detector = scored or (subject.card is not None and subject.card.detector is not None)
    if with_detector and not scored:
        assert subject.file is not None
        detector = detection.ERDetector.load(subject.file.parent / saved.DETECTOR, victim.model)
        victim = attacks.Victim(detector.outputs)
    outputs = [victim.outputs_for(images, "logits", internal_batch) for images in (clean.images, examples.images)]
    before, after = (_split(part, clean.labels, with_detector) for part in outputs)
    rows = rows_to_show(examples, after[0])
    return Answers(before[0], after[0], before[1], after[1], rows, clean.take(rows).images)


def rows_to_show(examples: Examples, margins: np.ndarray | None = None) -> np.ndarray:
    """Chooses the images that a report shows: the broken ones, and then the standing ones nearest to being broken.

    Broken ones come in the order of their perturbation's norm. A standing image is nearer the smaller the margin of its
    attacked version is, or the smaller the perturbation is, where an attack went on outside the ball.

    Args:
        margins: of the attacked images; without them no standing ones are chosen.
    """
    broken, standing = (np.flatnonzero(kind) for kind in (examples.broken_by >= 0, examples.broken_by == STANDING))
    distance = np.round(examples.distance, 4)
    if margins is None:
        return broken[np.argsort(distance[broken], kind="stable")][:SHOWN]
    crossed = (margins < 0) & (examples.predictions != examples.labels)
    nearest = np.lexsort((np.where(crossed, distance, margins)[standing], crossed[standing]))
    worst = np.lexsort((margins[broken], distance[broken]))
    return np.concatenate([broken[worst][:SHOWN], standing[nearest][:SHOWN]])


def write_answers(folder: Path, answers: Answers) -> None:
    """Keeps answers in the folder of a record, in the place of those that it has."""
    arrays = {name: value for name, value in vars(answers).items() if value is not None}
    exact = np.round(answers.clean_images * 255)
    if np.allclose(exact / 255, answers.clean_images, atol=1e-6):
        arrays["clean_images"] = exact.astype(np.uint8)
    files.write_arrays(folder / ANSWERS, arrays)


def read_answers(folder: Path, examples: Examples) -> Answers | None:
    """Reads the answers that a record keeps; None where it keeps none.

    Args:
        folder: of the record.
        examples: that it holds.

    Raises:
        InputError: where they cannot be read, or are of other images.
    """
    path = folder / ANSWERS
    if not path.exists():
        return None
    names = [*_MARGINS, "rows", "clean_images"]
    with_scores = set(_SCORES) <= set(list_arrays(path, names))
    found = read_arrays(path, (*names, *(_SCORES if with_scores else ())))
    columns = [found[name] for name in (*_MARGINS, *_SCORES) if name in found]
    rows, images = found["rows"], found["clean_images"]
    fits = all(column.shape == (len(examples),) and column.dtype.kind == "f" for column in columns)
    fits &= rows.ndim == 1 and rows.dtype.kind == "i" and images.shape == (len(rows), *examples.images.shape[1:])
    if not fits or (len(rows) and not (rows.min() >= 0 and rows.max() < len(examples))):
        raise InputError(f"{path} is of other images than the record: make it again with erkeras verify --keep.")
    clean, attacked = (found.get(name) for name in _SCORES)
    return Answers(found["clean_margins"], found["margins"], clean, attacked, rows, as_floats(images))


def _split(outputs: np.ndarray, labels: np.ndarray, with_detector: bool) -> tuple[np.ndarray, np.ndarray | None]:
    """Margins and scores of a model's outputs `[n, classes]`, or `[n, 2 classes]` with a detector."""
    classes = outputs.shape[1] // 2 if with_detector else outputs.shape[1]
    logits, each = outputs[:, :classes], np.arange(len(outputs))
    others = logits.copy()
    others[each, labels] = -np.inf
    margins = (logits[each, labels] - others.max(axis=1)).astype(np.float32)
    if not with_detector:
        return margins, None
    return margins, outputs[each, classes + logits.argmax(axis=1)].astype(np.float32)


def _near(one: np.ndarray | None, other: np.ndarray | None) -> bool:
    if one is None or other is None:
        return one is other
    finite = one[np.isfinite(one)]
    largest = max(1.0, float(np.abs(finite).max(initial=0)))
    return one.shape == other.shape and bool(np.allclose(one, other, atol=_ROUNDING * largest, equal_nan=True))
