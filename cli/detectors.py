"""What `erkeras detect --evaluate` and `--table` do: models and options in, tables out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .options import import_modules

DETECTORS = ("kd", "lid", "er1", "er2")
ATTACKS = ("fgsm", "pgd", "cw")
#: The paper's tables beside the familiar one: what detectors are fitted on there.
_CROSSED = {"fgsm": 6, "pgd": 7, "cw": 8}
_TITLES = {"fgsm": "FGSM", "pgd": "PGD", "cw": "C&W"}


@dataclass(frozen=True)
class Protocol:
    """What the options say of the comparison."""

    detectors: tuple[str, ...]
    false_positive_rate: float | None
    with_detector: bool
    limit: int
    epsilon: float | None
    cw_bound: float | None
    confidence: float
    iterations: int
    steps: int
    seed: int
    record: Path | None
    modules: tuple[str, ...]


def compare_detectors(
    models: Sequence[Path], pair: tuple[str, str] | None, protocol: Protocol, picture: Path | None
) -> dict[str, Any]:
    """Judges detectors and shows it.

    Args:
        models: folders that erkeras train wrote.
        pair: attacks that detectors are fitted on and judged by; None for all, as Tables 5 to 8.
        picture: for the distributions of the scores.

    Returns:
        All figures, as plain values.
    """
    from erkeras.data import load_dataset
    from erkeras.errors import InputError
    from erkeras.recipes.detection import CARLINI_WAGNER_BOUNDS
    from erkeras.serving.folder import load_model, read_card

    if len({model.name for model in models}) < len(models):
        raise InputError("two of the models have the same name: give each once.")
    cards = {model: read_card(model) for model in models}
    name, chosen = _check(cards, pair is None, protocol.detectors)
    first_card = cards[models[0]]
    epsilon = first_card["evaluation"]["epsilon"] if protocol.epsilon is None else protocol.epsilon
    bound = CARLINI_WAGNER_BOUNDS.get(name, 1.0) if protocol.cw_bound is None else protocol.cw_bound

    from . import console

    console.load_tensorflow(for_attacks=True)
    from erkeras.evaluation import detection, draw_scores

    dataset = load_dataset(name)
    fitting, judging = detection.fitting_and_judging(dataset.test, protocol.seed)
    attacks = _attacks(pair, epsilon, bound, dataset.image_shape, protocol)
    seen: list[Any] = []
    known: list[dict[str, Any]] = []
    with console.RichProgress() as progress:
        for path in models:
            import_modules(protocol.modules)
            model = load_model("keras", path / "model.keras")
            halves = [
                _attacked_half(path, model, title, clean, attacks, name, protocol, progress)
                for title, clean in (("I", fitting), ("II", judging))
            ]
            count = sum(len(half.clean) + sum(len(part.right) for part in half.attacked.values()) for half in halves)
            of_model = []
            for detector in chosen[path]:
                progress.stage(f"{path.name}: {detector}", count + 1)
                fitted = detection.fit_named(detector, model, dataset.train, protocol.seed)
                progress.advance(1)
                of_model.append(detection.Seen(detector, path.name, fitted, halves[0], halves[1], progress.advance))
            seen += of_model
            if protocol.with_detector:
                known += _against_who_knows(of_model, attacks, epsilon, bound, dataset.image_shape, protocol, progress)
    pairs = [pair] if pair else [(first, second) for first in attacks for second in attacks]
    cells = [
        {
            **part.cell(*chosen_pair, positives, protocol.false_positive_rate).summary(),
            "paper": _paper(name, part, chosen_pair),
        }
        for chosen_pair in pairs
        for positives in detection.CONVENTIONS
        for part in seen
    ]
    if picture is not None:
        panels = {part.name.upper(): part.scores(*pairs[0], protocol.false_positive_rate) for part in seen}
        fitted_on, judged_by = (_TITLES[attack] for attack in pairs[0])
        title = f"{models[0].name}: fitted on {fitted_on}, judged by {judged_by}"
        draw_scores(picture, {key: panel for key, panel in panels.items() if panel}, title)
    report = {
        "dataset": name,
        "seed": protocol.seed,
        "set_i": fitting.indices.tolist(),
        "set_ii": judging.indices.tolist(),
        "attacks": {key: attack.get_config() for key, attack in attacks.items()},
        "cw_bound": bound,
        "false_positive_rate": protocol.false_positive_rate,
        "models": [str(model) for model in models],
        "cells": cells,
        "who_knows": known,
    }
    _show(report, len(fitting), len(judging), table=pair is None)
    return report


def _check(
    cards: dict[Path, dict[str, Any]], table: bool, asked: tuple[str, ...]
) -> tuple[str, dict[Path, tuple[str, ...]]]:
    """The data set of the models, and the detectors of each; refuses what cannot be compared."""
    from erkeras.data import check_dataset
    from erkeras.errors import InputError

    names = {card["dataset"]["name"] for card in cards.values()}
    if len(names) > 1:
        raise InputError(f"the models are of the data sets {', '.join(sorted(names))}: give models of one.")
    chosen = {model: _choose(model, card, asked) for model, card in cards.items()}
    if table and not asked and not {"kd", "er1"} <= {name for part in chosen.values() for name in part}:
        raise InputError("--table needs an undefended model (none or e-cla) and one with a code: give both.")
    (name,) = names
    check_dataset(name)
    return name, chosen


def _choose(model: Path, card: dict[str, Any], asked: tuple[str, ...]) -> tuple[str, ...]:
    """The detectors of a model, in the paper's order."""
    from erkeras.errors import InputError

    recipe = card["job"]["recipe"]
    if recipe.get("generator_updates"):
        raise InputError(f"{model} has a purifier, which no detector looks through: give another --defense.")
    undefended = not (recipe["coefficient"] or recipe["epsilon"] * recipe["training_ratio"] or recipe["noise"])
    fitting = (*(("kd", "lid") if undefended else ()), *(("er1", "er2") if recipe["bottleneck"] else ()))
    return tuple(name for name in DETECTORS if name in (asked or fitting))


def _attacks(
    pair: tuple[str, str] | None, epsilon: float, bound: float, shape: Sequence[int], protocol: Protocol
) -> dict[str, Any]:
    from erkeras.attacks import FGSM, PGD, CarliniWagner
    from erkeras.judging import JUDGING_STEP_RATIO
    from erkeras.threat import ThreatModel

    threat = ThreatModel("l_inf", epsilon)
    made = {
        "fgsm": FGSM(threat),
        "pgd": PGD(threat, protocol.steps, JUDGING_STEP_RATIO * epsilon),
        "cw": CarliniWagner(
            ThreatModel.root_mean_square(bound, shape), confidence=protocol.confidence, iterations=protocol.iterations
        ),
    }
    return {name: attack for name, attack in made.items() if pair is None or name in pair}


def _attacked_half(
    path: Path,
    model: Any,
    title: str,
    clean: Any,
    attacks: dict[str, Any],
    dataset: str,
    protocol: Protocol,
    progress: Any,
) -> Any:
    """Set I or set II of one model, with every attack on it; C&W on `--limit` images, a quarter as many of set I."""
    from erkeras.evaluation import detection

    attacked = {}
    for key, attack in attacks.items():
        limit = protocol.limit if title == "II" else -(-protocol.limit // 4)
        part = detection.first(clean, limit) if key == "cw" else clean
        progress.stage(f"{path.name}: {key}, set {title}", len(part) * attack.work)
        record = _record(protocol, path, key, title, part, attack, dataset)
        attacked[key] = detection.attack_images(model, part, attack, protocol.seed, progress.advance, record)
    return detection.Half(clean, attacked)


def _record(protocol: Protocol, model: Path, attack_name: str, half: str, part: Any, attack: Any, dataset: str) -> Any:
    """The record of one attacked set, new or to go on with; None without --record."""
    from erkeras.errors import InputError
    from erkeras.evaluation import Record
    from erkeras.job import versions
    from erkeras.serving.folder import fingerprint

    if protocol.record is None:
        return None
    folder = protocol.record / f"{model.name}-{attack_name}-{half}"
    settings = {
        "model": str(model / "model.keras"),
        "digest": fingerprint(model / "model.keras"),
        "dataset": dataset,
        "split": f"test, set {half}",
        "seed": protocol.seed,
        "images": len(part),
        "image_shape": list(part.pixels.shape[1:]),
        "attacks": [{"name": attack.name, "config": attack.get_config()}],
        "versions": versions(),
    }
    if not folder.exists():
        return Record.create(folder, settings)
    record = Record.open(folder)
    differing = record.differs({key: value for key, value in settings.items() if key != "model"})
    if differing:
        raise InputError(f"{folder} was made with {differing}: give the same settings, or another --record.")
    return record


def _against_who_knows(
    seen: Sequence[Any],
    attacks: dict[str, Any],
    epsilon: float,
    bound: float,
    shape: Sequence[int],
    protocol: Protocol,
    progress: Any,
) -> list[dict[str, Any]]:
    """The detectors of one model against PGD that knows them, in both threat models."""
    from erkeras.attacks import PGD, aim_at_detector
    from erkeras.evaluation import detection
    from erkeras.judging import JUDGING_STEP_RATIO
    from erkeras.threat import ThreatModel

    chosen = {"l_inf": PGD(ThreatModel("l_inf", epsilon), protocol.steps, JUDGING_STEP_RATIO * epsilon)}
    if "cw" in attacks:
        chosen["l2"] = PGD(ThreatModel.root_mean_square(bound, shape), protocol.steps)
    rows = []
    for norm, attack in chosen.items():
        name, model = seen[0].model, seen[0].detector.model
        part = detection.first(seen[0].judging.clean, protocol.limit)
        work = len(part) * aim_at_detector(attack).work
        progress.stage(f"{name}: {norm}", work)
        alone = detection.accuracy_under(model, part, attack, protocol.seed, progress.advance)
        for detector in seen:
            for fitted_on in attacks:
                progress.stage(f"{name}: {norm}, knows {detector.name}", work)
                found = detector.against_who_knows(
                    fitted_on, attack, len(part), protocol.false_positive_rate, protocol.seed, progress.advance
                )
                words = {"detector": detector.name, "model": name, "fitted_on": fitted_on, "norm": norm}
                figures = found or {"acc_nadv": None, "acc_com": None}
                rows.append({**words, "images": len(part), **figures, "without_detector": alone})
    return rows


def _paper(dataset: str, seen: Any, pair: tuple[str, str]) -> dict[str, float] | None:
    from erkeras.recipes.detection import PAPER_FIGURES

    figures = PAPER_FIGURES.get(dataset, {}).get(pair, {}).get(seen.name)
    return dict(zip(("acc_nadv", "acc_com"), (figure / 100 for figure in figures), strict=True)) if figures else None


def _show(report: dict[str, Any], fitting: int, judging: int, table: bool) -> None:
    from erkeras.evaluation.detection import ALL

    from . import console

    cells = report["cells"]
    if not console.output.is_terminal:
        console.output.width = max(console.output.width, 180)  # a file has no edge
    where = f"{report['dataset']}, fitted on {fitting:,} test images, judged on {judging:,} others"
    if not table:
        console.print_table(where, _COLUMNS, [_row(cell) for cell in cells])
    else:
        familiar = [cell for cell in cells if cell["fitted_on"] == cell["judged_by"]]
        console.print_table(f"Table 5: {where}", _COLUMNS, [_row(cell) for cell in familiar])
        for attack, number in _CROSSED.items():
            rows = [cell for cell in cells if cell["fitted_on"] == attack != cell["judged_by"]]
            console.print_table(f"Table {number}: fitted on {_TITLES[attack]}", _COLUMNS, [_row(row) for row in rows])
    if report["who_knows"]:
        console.print_table(
            "Against PGD that knows the detector",
            ["detector", "model", "fitted on", "norm", "images", "ACC-NADV", "ACC-COM", "no detector"],
            [
                [
                    row["detector"].upper(),
                    row["model"],
                    _TITLES[row["fitted_on"]],
                    row["norm"],
                    str(row["images"]),
                    *(_percent(row[key]) for key in ("acc_nadv", "acc_com", "without_detector")),
                ]
                for row in report["who_knows"]
            ],
        )
    console.output.print(
        f"Positives: '{ALL}' are the attacked versions of all images that are right when clean, 'successful' those of "
        "them that are misclassified, in fitting and in judging; negatives are all clean images. No detector: what "
        "ACC-COM is without one."
    )


_COLUMNS = [
    "detector",
    "fitted on, judged by",
    "positives",
    "ACC-NADV, ACC-COM",
    "paper's",
    "no detector",
    "ACC-ADV, ACC-CLA",
    "AUROC",
    "found at 5% FPR",
]


def _row(cell: dict[str, Any]) -> list[str]:
    from erkeras.evaluation.detection import ALL

    separation, counts = cell["separation"] or {}, cell["counts"] or {"adversarial": 0}
    # With classification in it, the paper's ACC-COM can only be of all attacked images.
    paper = cell["paper"] if cell["positives"] == ALL else None
    auroc = separation.get("auroc")
    return [
        f"{cell['detector'].upper()}, {cell['model']}",
        f"{_TITLES[cell['fitted_on']]}, {_TITLES[cell['judged_by']]}",
        f"{cell['positives']} {counts['adversarial']:,}",
        f"{_percent(cell['acc_nadv'])}, {_percent(cell['acc_com'])}",
        f"{_percent(paper['acc_nadv'])}, {_percent(paper['acc_com'])}" if paper else "",
        _percent(cell["without_detector"]),
        f"{_percent(cell['acc_adv'])}, {_percent(cell['acc_cla'])}",
        "none" if auroc is None else f"{auroc:.3f}",
        _percent(separation.get("detection_rate_at_5")),
    ]


def _percent(portion: float | None) -> str:
    return "none" if portion is None else f"{100 * portion:.2f}"
