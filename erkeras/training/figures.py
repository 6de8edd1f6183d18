"""The figures of a trained model: FGSM and PGD on its test images, its detector, and the picture of both."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from erkeras import detection, evaluation
from erkeras.attacks.named import report_attacks
from erkeras.data import Dataset, Split
from erkeras.progress import Progress
from erkeras.recipes import Job
from erkeras.saved import DetectorEntry, PGDEntry, ReportEntry, Summary, UnreducedEntry
from erkeras.threat import ThreatModel

if TYPE_CHECKING:
    from erkeras.attacks import FGSM, PGD
    from erkeras.detection import ERDetector, Separation
    from erkeras.evaluation import Robustness

#: Through a purifier, which makes each look at an image thousands of times dearer: one internal batch of images, and
#: PGD-10 with one restart.
_PURIFIED_IMAGES, _PURIFIED_STEPS = 128, 10
#: With fewer successful attacks on validation images, the detector learns from all attacked ones.
_FEWEST_POSITIVES = 10
#: Images of each class that the detector's densities stand on, and the centres that they are reduced to in a compact
#: one, of all images.
_IMAGES, _COMPACT_CENTRES = 1000, 50


def attacks_of(job: Job) -> tuple[FGSM, PGD]:
    """Makes the attacks that a job reports."""
    threat = ThreatModel(job.recipe.norm, job.recipe.epsilon)
    if job.recipe.generator_updates:
        return report_attacks(threat, steps=_PURIFIED_STEPS, restarts=1)
    return report_attacks(threat, restarts=job.restarts)


def limit_of(job: Job) -> int | None:
    """Says how many test images a job attacks, or None for all."""
    if not job.recipe.generator_updates:
        return job.limit
    return min(job.limit or _PURIFIED_IMAGES, _PURIFIED_IMAGES)


def evaluate(model: Any, split: Split, job: Job, progress: Progress, stage: str) -> Robustness:
    """Attacks a job's model on images by FGSM and PGD, as a stage of progress with a name."""
    return evaluation.evaluate_robustness(model, split, attacks_of(job), seed=job.seed, progress=progress, stage=stage)


def report(job: Job, test: Split, robustness: Robustness, baseline: Summary | None) -> ReportEntry:
    """Makes what a card reports of a job's model.

    Args:
        test: the images.
        robustness: of the model on them.
        baseline: figures of the same network without any defense.
    """
    _, pgd = attacks_of(job)
    return ReportEntry(
        split="test",
        threat=pgd.threat,
        pgd=PGDEntry(pgd.steps, pgd.step_length, pgd.restarts),
        seed=job.seed,
        indices=tuple(test.indices.tolist()),
        summary=robustness.summary(),
        baseline=baseline,
    )


def fit_detector(model: Any, dataset: Dataset, job: Job) -> ERDetector:
    """Fits a job's ER-Detector on clean training images."""
    detector = detection.ERDetector(model, job.features)
    return detector.fit(dataset.train.pixels, dataset.train.labels, None if job.compact else _IMAGES, job.seed)


def describe_detector(
    detector: ERDetector, dataset: Dataset, job: Job, test: Split, robustness: Robustness, found: Robustness
) -> DetectorEntry:
    """Calibrates a job's detector, reduces it where the job is compact, and makes what the card says of it.

    Args:
        detector: fitted.
        test: the images on which it is evaluated.
        robustness: of the model on `test`.
        found: of the model on validation images, on which it is calibrated.
    """
    validation = dataset.validation.sample(job.limit, job.seed)
    enough = int(found.successful.sum()) >= _FEWEST_POSITIVES
    positives = found.examples.images[found.successful if enough else found.right_when_clean]

    def calibrate() -> tuple[Separation, Separation]:
        detector.calibrate(validation.images, positives)
        attacked = robustness.examples.images
        return (
            detector.evaluate(test.images, attacked[robustness.successful]),
            detector.evaluate(test.images, attacked[robustness.right_when_clean]),
        )

    separations, unreduced = calibrate(), None
    if job.compact:
        whole = detector.log_density(test.images)
        before = separations
        detector.reduce(_COMPACT_CENTRES, job.seed)
        separations = calibrate()
        error = detector.log_density(test.images) - whole
        unreduced = UnreducedEntry(*before, float(whole.std()), float(np.mean(error**2) ** 0.5))
    images = "all" if job.compact else f"at most {_IMAGES:,}"
    return DetectorEntry(
        features=job.features,
        threshold=detector.threshold,
        stated_false_positive_rate=detector.false_positive_rate,
        fitted_on=f"clean training images, {images} of each class",
        calibrated_on=f"validation images, clean and {'successfully attacked' if enough else 'attacked'} by PGD",
        successful=separations[0],
        all_attacked=separations[1],
        centres=_COMPACT_CENTRES if job.compact else None,
        unreduced=unreduced,
    )


def draw(
    path: Path, detector: ERDetector | None, test: Split, robustness: Robustness, dataset: Dataset, job: Job
) -> None:
    """Draws the first image of each class (at most ten) that was right when clean, and what the attacks made of it."""
    right = robustness.right_when_clean
    of_classes = [(right & (test.labels == label)).nonzero()[0] for label in range(dataset.classes)]
    rows = [int(places[0]) for places in of_classes if len(places)][:10]
    if not rows:
        return
    examples = robustness.examples
    clean, adversarial = test.images[rows], examples.images[rows]
    befores = _captions(detector, clean, examples.clean_predictions[rows], dataset)
    afters = _captions(detector, adversarial, examples.predictions[rows], dataset)
    captions = []
    for row, before, after in zip(rows, befores, afters, strict=True):
        truth = int(test.labels[row])
        captions.append((before[0], before[1] == truth and not before[2], after[0], after[1] == truth or after[2]))
    title = f"Clean and attacked at epsilon {job.recipe.epsilon:g}: the label given"
    title += ", and the detector's verdict" if detector else ""
    evaluation.draw_verdicts(path, clean, adversarial, captions, title)


def _captions(
    detector: ERDetector | None, images: np.ndarray, predictions: np.ndarray, dataset: Dataset
) -> list[tuple[str, int, bool]]:
    if detector is None:
        return [(dataset.class_names[label], int(label), False) for label in predictions]
    found = detector.predict(images)
    return [
        (f"{dataset.class_names[label]}\n{'adversarial' if verdict else 'natural'}", int(label), bool(verdict))
        for label, verdict in zip(found.label, found.verdict, strict=True)
    ]
