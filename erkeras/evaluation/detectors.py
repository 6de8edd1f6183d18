"""Detectors of saved models compared, as Tables 5 to 8 and against an adaptive attacker."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from erkeras import attacks, data, detection, evaluation
from erkeras.attacks.named import AttackSettings
from erkeras.errors import InputError
from erkeras.evaluation.recorded import Evaluation, threat_of
from erkeras.evaluation.subject import Subject
from erkeras.progress import Progress
from erkeras.recipes.detection import CARLINI_WAGNER_BOUNDS, PAPER_FIGURES
from erkeras.threat import ThreatModel

if TYPE_CHECKING:
    from erkeras.evaluation.protocol import Half, Seen

#: Attacks that detectors are fitted on and evaluated by.
ATTACKS = ("fgsm", "pgd", "cw")
#: Images of set II that slow attacks get, where no limit is given.
_IMAGES = 500


@dataclass(frozen=True)
class DetectorComparison:
    """Says what a comparison of detectors is asked for.

    Example:
        asked = DetectorComparison((Path("saved_models/digits-er-classifier"),), pair=("fgsm", "pgd"))
        figures, seen = compare_detectors(asked)

    Attributes:
        models: folders that erkeras train or `erkeras.save` wrote, all of one data set.
        pair: attacks that detectors are fitted on and evaluated by; None for all nine pairs, as Tables 5 to 8.
        detectors: in `DETECTORS`, for every model; empty for the paper's choice (KD and LID on an undefended model, ER1
            and ER2 where there is a code).
        false_positive_rate: of the threshold, on set I; None for the regression's own decision, at 1/2.
        adaptive: also evaluate against an adaptive attacker.
        limit: how many images of set II C&W and the adaptive attacker get (C&W a quarter of that of set I); None: 500.
        epsilon: l_inf radius of FGSM and PGD; None for the one in which the first model's card reports.
        cw_bound: C&W's bound of the root mean square distance; None for the paper's of the data set, else 1.
        confidence, iterations: of C&W.
        steps, step_size: of PGD.
        seed: of everything that is drawn.
        record: folder for records of the attacks; those that are there serve again.
        modules: that register Keras classes of the user's own.
    """

    models: tuple[Path, ...]
    pair: tuple[str, str] | None = None
    detectors: tuple[str, ...] = ()
    false_positive_rate: float | None = None
    adaptive: bool = False
    limit: int | None = None
    epsilon: float | None = None
    cw_bound: float | None = None
    confidence: float | None = None
    iterations: int | None = None
    steps: int | None = None
    step_size: float | None = None
    seed: int = 0
    record: Path | None = None
    modules: tuple[str, ...] = ()

    def check(self) -> None:
        """Checks what can be checked without TensorFlow.

        Raises:
            InputError: for models of one name, of several data sets or without what is asked of them, and for settings
                of an attack that is not asked for.
        """
        if len({model.name for model in self.models}) < len(self.models):
            raise InputError("two of the models have the same name: give each once.")
        if len(self._datasets) != 1 or None in self._datasets:
            listed = ", ".join(sorted(str(name) for name in self._datasets))
            raise InputError(f"the models are of the data sets {listed}: give models of one.")
        data.check_dataset(self.dataset)
        chosen = {name for subject in self.subjects for name in self.detectors_of(subject)}
        if self.pair is None and not self.detectors and not {"kd", "er1"} <= chosen:
            raise InputError("--table needs an undefended model (none or e-cla) and one with a code: give both.")
        self._settings("pgd")
        if self.adaptive or {"fgsm", "pgd"} & set(self.attacks):
            self.threat("pgd", ())
        cw, pgd = "cw" in self.attacks, "pgd" in self.attacks or self.adaptive
        for name, works, needs in (
            *((name, cw, "the attack cw") for name in ("cw_bound", "confidence", "iterations")),
            ("limit", cw or self.adaptive, "the attack cw or the adaptive attacker"),
            *((name, pgd, "the attack pgd") for name in ("steps", "step_size")),
        ):
            if getattr(self, name) is not None and not works:
                raise InputError(f"{name.replace('_', ' ')} was given without {needs}: leave it out, or add one.")

    @cached_property
    def subjects(self) -> list[Subject]:
        """Finds the models."""
        found = [Subject.find(model, self.modules) for model in self.models]
        for subject in found:
            if subject.card is None:
                raise InputError(f"{subject.name} has no card.json: give folders of saved models of ours.")
        return found

    @property
    def _datasets(self) -> set[str | None]:
        return {subject.card.dataset.name for subject in self.subjects if subject.card}

    @property
    def dataset(self) -> str:
        """Gives the name of the models' data set."""
        return next(iter(self._datasets)) or ""

    @property
    def attacks(self) -> tuple[str, ...]:
        """Gives the names of the attacks, in the order of the tables."""
        return tuple(name for name in ATTACKS if self.pair is None or name in self.pair)

    def threat(self, attack: str, image_shape: Sequence[int]) -> ThreatModel:
        """Gives the threat model of an attack: C&W's l2 ball, or the l_inf ball of the others."""
        if attack == "cw":
            return ThreatModel.root_mean_square(self.bound, image_shape)
        return threat_of(self.subjects[0]) if self.epsilon is None else ThreatModel("l_inf", self.epsilon)

    @property
    def images(self) -> int:
        """Gives how many images of set II the slow attacks get."""
        return _IMAGES if self.limit is None else self.limit

    @property
    def bound(self) -> float:
        """Gives C&W's bound, as a root mean square."""
        return CARLINI_WAGNER_BOUNDS.get(self.dataset, 1.0) if self.cw_bound is None else self.cw_bound

    def _settings(self, attack: str) -> AttackSettings:
        options: dict[str, Any] = {
            "fgsm": {},
            "pgd": {"steps": self.steps, "step_size": self.step_size, "restarts": 1},
            "cw": {"confidence": self.confidence, "iterations": self.iterations},
        }[attack]
        return AttackSettings((attack,), **options)

    def detectors_of(self, subject: Subject) -> tuple[str, ...]:
        """Chooses the detectors of a model, in the paper's order.

        Raises:
            InputError: for a model with a purifier, or one that does not say how it was trained where no detectors are
                asked for.
        """
        recipe = subject.card.recipe if subject.card else None
        if recipe is None:
            if not self.detectors:
                raise InputError(f"{subject.name} does not say how it was trained: give --detector.")
            return tuple(name for name in detection.DETECTORS if name in self.detectors)
        if recipe.generator_updates:
            raise InputError(f"{subject.name} has a purifier, which no detector looks through: leave it out.")
        undefended = not (recipe.coefficient or recipe.epsilon * recipe.training_ratio or recipe.noise)
        fitting = (*(("kd", "lid") if undefended else ()), *(("er1", "er2") if recipe.bottleneck else ()))
        return tuple(name for name in detection.DETECTORS if name in (self.detectors or fitting))

    def evaluation(self, subject: Subject, attack: str, part: str, dataset: Any) -> Evaluation:
        """Makes the recorded evaluation of one attack on set I or II of one model."""
        limit = None
        if attack == "cw":
            limit = self.images if part == "II" else -(-self.images // 4)
        folder = self.record and self.record / f"{subject.short_name}-{attack}-{part}"
        sample = evaluation.Sample(self.dataset, "test", limit, self.seed, part)
        return Evaluation(
            subject,
            self._settings(attack),
            dataset=self.dataset,
            limit=limit,
            seed=self.seed,
            part=part,
            threat=self.threat(attack, dataset.image_shape),
            record=folder,
            resume=True,
            images=sample.load(dataset),
        )


def compare_detectors(asked: DetectorComparison, progress: Progress | None = None) -> tuple[dict[str, Any], list[Seen]]:
    """Compares the detectors of saved models.

    Args:
        asked: see `DetectorComparison`.
        progress: hears of a stage for each attack and detector.

    Returns:
        All figures, as plain values, and what each detector saw.

    Raises:
        InputError: as `DetectorComparison.check`, and for records of other settings.
    """
    asked.check()
    progress = progress or Progress()
    dataset = data.load_dataset(asked.dataset)
    seen: list[Seen] = []
    adaptive: list[dict[str, Any]] = []
    for subject in asked.subjects:
        of_model = _look(asked, subject, dataset, progress)
        seen += of_model
        if asked.adaptive:
            adaptive += _against_adaptive(asked, of_model, dataset.image_shape, progress)
    parts = [evaluation.Sample(asked.dataset, "test", None, asked.seed, part).load(dataset) for part in ("I", "II")]
    report = {
        "dataset": asked.dataset,
        "seed": asked.seed,
        "set_i": parts[0].indices.tolist(),
        "set_ii": parts[1].indices.tolist(),
        "attacks": {
            name: asked._settings(name).make(asked.threat(name, dataset.image_shape))[0].get_config()
            for name in asked.attacks
        },
        "cw_bound": asked.bound,
        "false_positive_rate": asked.false_positive_rate,
        "models": [str(model) for model in asked.models],
        "cells": _cells(asked, seen),
        "adaptive": adaptive,
    }
    return report, seen


def _look(asked: DetectorComparison, subject: Subject, dataset: Any, progress: Progress) -> list[Seen]:
    """Attacks both sets of one model, and shows them to each of its detectors."""
    model = subject.load()
    fitting, evaluating = (_attacked_half(asked, subject, model, part, dataset, progress) for part in ("I", "II"))
    count = sum(
        len(half.clean) + sum(len(part.right) for part in half.attacked.values()) for half in (fitting, evaluating)
    )
    seen = []
    for name in asked.detectors_of(subject):
        progress.stage(f"{subject.short_name}: {name}", count + 1)
        fitted = detection.fit_named_detector(name, model, dataset.train, asked.seed)
        progress.advance(1)
        seen.append(evaluation.protocol.Seen(name, subject.short_name, fitted, fitting, evaluating, progress))
    return seen


def _attacked_half(
    asked: DetectorComparison, subject: Subject, model: Any, part: str, dataset: Any, progress: Progress
) -> Half:
    attacked = {}
    for name in asked.attacks:
        run = asked.evaluation(subject, name, part, dataset)
        run.victim = model  # one for all attacks, with all that is compiled for it
        found = run.run(progress, f"{subject.short_name}: {name}, set {part}")
        attacked[name] = evaluation.protocol.within_ball(model, run.images, found)
    clean = evaluation.Sample(asked.dataset, "test", None, asked.seed, part).load(dataset)
    return evaluation.protocol.Half(clean, attacked)


def _against_adaptive(
    asked: DetectorComparison, seen: Sequence[Seen], image_shape: Sequence[int], progress: Progress
) -> list[dict[str, Any]]:
    """The detectors of one model against an adaptive attacker, in both threat models."""
    threats = {"l_inf": asked.threat("pgd", image_shape)}
    if "cw" in asked.attacks:
        threats["l2"] = asked.threat("cw", image_shape)
    rows = []
    for norm, threat in threats.items():
        step_size = asked.step_size if norm == "l_inf" else None  # it is in pixels
        attack = attacks.PGD(threat, asked.steps or 40, step_size)
        name, clean = seen[0].model, seen[0].evaluating.clean
        part = clean.take(np.arange(min(asked.images, len(clean))))
        model = seen[0].detector.model
        alone = evaluation.protocol.accuracy_under(model, part, attack, asked.seed, progress, f"{name}: {norm}")
        for detector in seen:
            for fitted_on in asked.attacks:
                stage = f"{name}: {norm}, adaptive to {detector.name}"
                found = detector.against_adaptive(
                    fitted_on, attack, part, asked.false_positive_rate, asked.seed, progress, stage
                )
                words = {"detector": detector.name, "model": name, "fitted_on": fitted_on, "norm": norm}
                figures = found or {"acc_nadv": None, "acc_com": None}
                rows.append({**words, "images": len(part), **figures, "without_detector": alone})
    return rows


def _cells(asked: DetectorComparison, seen: Sequence[Seen]) -> list[dict[str, Any]]:
    pairs = [asked.pair] if asked.pair else [(first, second) for first in asked.attacks for second in asked.attacks]
    return [
        {
            **part.cell(*pair, positives, asked.false_positive_rate).summary(),
            "paper": _paper(asked.dataset, part.name, pair),
        }
        for pair in pairs
        for positives in evaluation.protocol.CONVENTIONS
        for part in seen
    ]


def _paper(dataset: str, detector: str, pair: tuple[str, str]) -> dict[str, float] | None:
    figures = PAPER_FIGURES.get(dataset, {}).get(pair, {}).get(detector)
    return dict(zip(("acc_nadv", "acc_com"), (figure / 100 for figure in figures), strict=True)) if figures else None
