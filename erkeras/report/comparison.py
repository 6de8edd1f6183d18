"""Several models beside each other: their figures, and a paired test of each two on the same images."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from erkeras.evaluation.rows import paired_test, stands_after
from erkeras.report import charts
from erkeras.report.charts import Chart
from erkeras.report.evaluations import Missing, Table
from erkeras.report.figures import fraction
from erkeras.report.sources import Curve, Measured, Reported
from erkeras.report.words import curve_title, heading, listed
from erkeras.saved import percent

#: Below it two models count as different, by custom.
_LEVEL = 0.05


@dataclass(frozen=True)
class Comparison:
    """Holds an evaluation that models share: title, accuracies, paired tests, and what is missing."""

    title: str
    bars: Chart
    table: Table
    tests: Table | None
    sentence: str
    missing: tuple[Missing, ...]


def comparisons(models: Sequence[Reported]) -> list[Comparison]:
    """Makes a comparison of each evaluation that two or more models share, on the same images."""
    shared: dict[tuple[object, ...], list[tuple[Reported, Measured]]] = {}
    for model in models:
        for measured in model.measured:
            attacks = tuple(measured.summary.attacks)
            what = (measured.dataset, measured.split, measured.seed, measured.threat, measured.summary.images, attacks)
            shared.setdefault(what, []).append((model, measured))
    return [_compare(group) for group in shared.values() if len({model.folder for model, _ in group}) > 1]


def shared_curves(models: Sequence[Reported]) -> list[Chart]:
    """Draws each curve that two or more models share in one chart."""
    files: dict[Path, list[tuple[str, Curve]]] = {}
    for model in models:
        for curve in model.curves:
            files.setdefault(curve.source, []).append((model.name, curve))
    return [
        charts.lines(
            curve_title(group[0][1]),
            f"epsilon ({group[0][1].norm})",
            [(name, curve.epsilons, values) for name, curve in group for values in curve.accuracies.values()],
        )
        for group in files.values()
        if len(group) > 1
    ]


def _compare(group: list[tuple[Reported, Measured]]) -> Comparison:
    first = group[0][1]
    accuracies = [(model.name, fraction(one.summary.robust_accuracy, one.summary.images)) for model, one in group]
    rows = tuple(
        (
            model.name,
            percent(one.summary.clean_accuracy),
            *(percent(value) for value in one.summary.attacks.values()),
            f"{percent(robust.low)} to {percent(robust.high)}",
        )
        for (model, one), (_, robust) in zip(group, accuracies, strict=True)
    )
    tests = [_test(one, other) for one, other in itertools.combinations(group, 2)]
    done = tuple(row for row in tests if row)
    absent = [model.name for model, one in group if one.examples is None]
    missing = Missing(f"No paired test with {listed(absent)}: a test needs the records.") if absent else None
    told = (
        "A paired test looks only at images on which two models differ. p is the chance of a difference at least as "
        f"large between models that are equally robust (exact McNemar test). Below {_LEVEL} it counts as a difference"
    )
    if len(done) > 1:
        told += f"; with {len(done)} tests, below {_LEVEL / len(done):.2g}"
    columns = ("models", "images", "only the first stands", "only the second stands", "p", "clean: p")
    return Comparison(
        title=heading(first),
        bars=charts.bars(
            "Robust accuracy, with 95% intervals", [(name, value, "robust") for name, value in accuracies]
        ),
        table=Table(
            f"{first.summary.images:,} {first.split} images of {first.dataset}, seed {first.seed}",
            ("model", "clean", *(f"after {name}" for name in first.summary.attacks), "95% interval"),
            rows,
        ),
        tests=Table("Paired tests", columns, done) if done else None,
        sentence=f"{told}." if done else "",
        missing=(missing,) if missing else (),
    )


def _test(one: tuple[Reported, Measured], other: tuple[Reported, Measured]) -> tuple[str, ...] | None:
    """A row of the paired test of two models: on the images that both were attacked on."""
    first, second = one[1].examples, other[1].examples
    if first is None or second is None or one[0].folder == other[0].folder:
        return None
    _, rows, others = np.intersect1d(first.indices, second.indices, return_indices=True)
    if not len(rows):
        return None
    last = len(one[1].summary.attacks) - 1
    robust, clean = (
        paired_test(stands_after(first, number)[rows], stands_after(second, number)[others]) for number in (last, -1)
    )
    return (
        f"{one[0].name} and {other[0].name}",
        f"{robust.images:,}",
        f"{robust.first_alone:,}",
        f"{robust.second_alone:,}",
        f"{robust.p_value:.2g}",
        f"{clean.p_value:.2g}",
    )
