"""The figures of a trained model: FGSM and PGD on its test images, its detector, and the picture of both."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from erkeras.data import Dataset, Split
from erkeras.job import Job, Progress

#: Steps of the PGD that judges, each of epsilon / 30: on MNIST 40 steps of 0.01, as Madry et al.
JUDGING_STEPS, JUDGING_STEP_RATIO = 40, 1 / 30
#: Through a purifier, which makes each look at an image thousands of times dearer: one internal batch of images, and
#: PGD-10 with one restart.
PURIFIED_IMAGES = 128
PURIFIED_STEPS, PURIFIED_STEP_RATIO = 10, 1 / 4
#: With fewer successful attacks on validation images, the detector learns from all attacked ones.
_FEWEST_POSITIVES = 10
#: Images of each class that the detector's densities stand on, and the centres that they are reduced to in a compact
#: one, of all images.
_IMAGES, _COMPACT_CENTRES = 1000, 50


def judging_attacks(
    epsilon: float, restarts: int, steps: int = JUDGING_STEPS, step_ratio: float = JUDGING_STEP_RATIO
) -> list[Any]:
    """FGSM and PGD within an l_inf ball."""
    from erkeras.attacks import FGSM, PGD
    from erkeras.threat import ThreatModel

    threat = ThreatModel("l_inf", epsilon)
    return [FGSM(threat), PGD(threat, steps, step_ratio * epsilon, restarts)]


def _pgd_settings(job: Job) -> dict[str, Any]:
    """Restarts, steps and their length, as a portion of epsilon, of the PGD that judges."""
    if job.recipe.generator_updates:
        return {"restarts": 1, "steps": PURIFIED_STEPS, "step_ratio": PURIFIED_STEP_RATIO}
    return {"restarts": job.restarts, "steps": JUDGING_STEPS, "step_ratio": JUDGING_STEP_RATIO}


def judge(model: Any, split: Split, job: Job, progress: Progress, name: str) -> Any:
    """The `Robustness` of a job's model on images under FGSM and PGD, as a stage of progress with a name."""
    from erkeras.evaluation import evaluate_robustness

    attacks = judging_attacks(job.recipe.epsilon, **_pgd_settings(job))
    progress.stage(name, len(split) * sum(attack.work for attack in attacks))
    return evaluate_robustness(model, split, attacks, seed=job.seed, progress=progress.advance)


def evaluation_settings(job: Job) -> dict[str, Any]:
    """What a card says of how its figures were found."""
    pgd = _pgd_settings(job)
    return {
        "split": "test",
        "norm": "l_inf",
        "epsilon": job.recipe.epsilon,
        "pgd": {
            "steps": pgd["steps"],
            "step_size": pgd["step_ratio"] * job.recipe.epsilon,
            "restarts": pgd["restarts"],
        },
        "seed": job.seed,
    }


def fit_detector(
    model: Any, dataset: Dataset, job: Job, robustness: Any, test: Split, progress: Progress
) -> tuple[Any, dict[str, Any]]:
    """A job's ER-Detector, fitted on training and calibrated on validation images.

    Args:
        robustness: of the model on `test`; its images judge the detector.

    Returns:
        The detector, and what the card says of it.
    """
    from erkeras.detection import ERDetector

    validation = dataset.validation.sample(job.limit, job.seed)
    found = judge(model, validation, dataclasses.replace(job, restarts=1), progress, "attacking validation")
    progress.stage("fitting detector", 1)
    enough = int(found.successful.sum()) >= _FEWEST_POSITIVES
    positives = found.examples.images[found.successful if enough else found.right_when_clean]
    attacked = robustness.examples.images

    def calibrate() -> dict[str, Any]:
        detector.calibrate(validation.images, positives)
        return {
            "threshold": detector.threshold,
            "successful": detector.evaluate(test.images, attacked[robustness.successful]),
            "all_attacked": detector.evaluate(test.images, attacked[robustness.right_when_clean]),
        }

    limit = None if job.compact else _IMAGES
    detector = ERDetector(model, job.features)
    detector.fit(dataset.train.pixels, dataset.train.labels, limit, job.seed)
    result = {
        "features": job.features,
        "fitted_on": f"clean training images, {f'at most {limit:,}' if limit else 'all'} of each class",
        "calibrated_on": f"validation images, clean and {'successfully attacked' if enough else 'attacked'} by PGD",
        **calibrate(),
        "stated_false_positive_rate": detector.false_positive_rate,
    }
    if job.compact:
        whole = detector.log_density(test.images)
        detector.reduce(_COMPACT_CENTRES, job.seed)
        unreduced = {key: result[key] for key in ("successful", "all_attacked")}
        result |= {**calibrate(), "centres": _COMPACT_CENTRES, "unreduced": unreduced}
        error = detector.log_density(test.images) - whole
        unreduced["log_density_standard_deviation"] = float(whole.std())
        unreduced["log_density_root_mean_square_error"] = float((error**2).mean() ** 0.5)
    progress.advance(1)
    return detector, result


def draw(path: Path, detector: Any, test: Split, robustness: Any, dataset: Dataset, job: Job) -> None:
    """The first image of each class (at most ten) that was right when clean, and what the attacks made of it."""
    from erkeras.evaluation import draw_verdicts

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
    draw_verdicts(path, clean, adversarial, captions, title)


def _captions(detector: Any, images: Any, predictions: Any, dataset: Dataset) -> list[tuple[str, int, bool]]:
    if detector is None:
        return [(dataset.class_names[label], int(label), False) for label in predictions]
    detection = detector.predict(images)
    return [
        (f"{dataset.class_names[label]}\n{'adversarial' if verdict else 'natural'}", int(label), bool(verdict))
        for label, verdict in zip(detection.label, detection.verdict, strict=True)
    ]
