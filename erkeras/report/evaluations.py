"""One evaluation as a part of the page: its tables, charts and galleries, and what is missing of it."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from erkeras.evaluation.examples import WRONG_WHEN_CLEAN
from erkeras.report import charts, figures, words
from erkeras.report.charts import Chart
from erkeras.report.figures import Confusion, Fraction, fraction
from erkeras.report.pictures import Gallery, Picture, drawn_by_training, galleries
from erkeras.report.sources import Measured, Reported
from erkeras.saved import clean_title, percent

#: Classes up to which each has a row; of more, those at both ends.
_MOST_ROWS = 20
_NUMERIC = re.compile(r"-?[\d.,]+(e[-+]\d+)?%?( to [\d.,]+%?)?$")
_STYLES = {"clean": "s0", "attacked, still right": "s2", "attacked, broken": "s1"}


@dataclass(frozen=True)
class Table:
    """Holds a table: what it shows, its columns and its rows of text. The first column names the row."""

    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    @property
    def numeric(self) -> tuple[bool, ...]:
        """Tells which columns hold numbers alone, beside the first, which names the row."""
        columns = range(1, len(self.columns))
        texts = [[row[column] for row in self.rows if row[column]] for column in columns]
        return False, *(bool(cells) and all(map(_NUMERIC.match, cells)) for cells in texts)


@dataclass(frozen=True)
class Missing:
    """Says what the report would show, why it does not, and the commands that make it, one a line."""

    sentence: str
    command: str = ""


@dataclass(frozen=True)
class Section:
    """Holds an evaluation in the page.

    Attributes:
        anchor: its place in the page.
        measured: what it is about.
        robust: its robust accuracy and interval.
        sentences: what was done, in words.
        verify: command that verifies its figures.
        bars: accuracy after each attack.
        attacks: the same as a table.
        classes, confusion: None without a record.
        galleries: none without a record.
        picture: that training drew; None for other evaluations.
        charts: distances, margins, scores, ROC; those that there are.
        missing: what is not there.
    """

    anchor: str
    measured: Measured
    robust: Fraction
    sentences: tuple[str, ...]
    verify: str
    bars: Chart
    attacks: Table
    classes: Table | None
    confusion: Confusion | None
    galleries: tuple[Gallery, ...]
    picture: Picture | None
    charts: tuple[Chart, ...]
    missing: tuple[Missing, ...]


def section(model: Reported, measured: Measured, anchor: str, budget: int) -> Section:
    """Makes the part of an evaluation.

    Args:
        anchor: its place in the page.
        budget: characters that its pictures may have.
    """
    found = measured.summary
    rows = [
        ("clean", clean_title(found), found.clean_accuracy),
        *((name, name, value) for name, value in found.attacks.items()),
    ]
    accuracies = [(name, title, fraction(value, found.images)) for name, title, value in rows]
    examples = measured.examples
    of_training = measured.folder is None
    verify = words.training_command(model) if of_training else words.command("verify", measured.folder)
    return Section(
        anchor=anchor,
        measured=measured,
        robust=fraction(found.robust_accuracy, found.images),
        sentences=_sentences(measured),
        verify=verify,
        bars=charts.bars(
            "Accuracy after each attack, with 95% intervals",
            [
                (title, value, "clean" if number == 0 else "robust")
                for number, (_, title, value) in enumerate(accuracies)
            ],
        ),
        attacks=_attacks(measured, accuracies),
        classes=_classes(model, measured) if examples else None,
        confusion=figures.confusion(model, measured, examples) if examples else None,
        galleries=tuple(galleries(model, measured, budget)) if examples else (),
        picture=drawn_by_training(model) if of_training else None,
        charts=tuple(_charts(measured)),
        missing=tuple(_missing(model, measured)),
    )


def _sentences(measured: Measured) -> tuple[str, ...]:
    found = measured.summary
    parts = [
        f"{found.images:,} {measured.split} images of {measured.dataset}, {measured.threat.norm}, epsilon "
        f"{measured.threat.epsilon:g}, seed {measured.seed}. The model's outputs were taken for {found.outputs}.",
        "Each attack gets the images that still stand. So each row is the accuracy after its attack and all before it.",
    ]
    if measured.with_detector:
        parts.append("An image counts as broken only where the model is wrong and its detector lets the image pass.")
    if found.mean_boundary_distance is not None:
        parts.append(f"The mean distance to the decision boundary is {found.mean_boundary_distance:.4f}.")
    return tuple(parts)


def _attacks(measured: Measured, accuracies: list[tuple[str, str, Fraction]]) -> Table:
    found = measured.summary
    rows = []
    for number, (name, title, value) in enumerate(accuracies):
        passes = [""] * 2
        if number and name in found.forward_passes:
            passes = [f"{count.get(name, 0):,}" for count in (found.forward_passes, found.backward_passes)]
        does = words.meaning(name) if number else "no attack"
        rows.append((title, does, percent(value.value), f"{percent(value.low)} to {percent(value.high)}", *passes))
    columns = ("attack", "what it does", "accuracy after it", "95% interval", "forward passes", "backward passes")
    return Table("Accuracy after each attack", columns, tuple(rows))


def _classes(model: Reported, measured: Measured) -> Table:
    assert measured.examples is not None
    found = figures.per_class(model, measured.examples)
    caption = "Accuracy of each class"
    if len(found) > _MOST_ROWS:
        order = sorted(found, key=lambda row: row.robust.value)
        found = order[: _MOST_ROWS // 2] + order[-_MOST_ROWS // 2 :]
        caption = f"Accuracy of the {_MOST_ROWS // 2} least and the {_MOST_ROWS // 2} most robust classes"
    rows = tuple(
        (
            row.name,
            f"{row.images:,}",
            percent(row.clean.value),
            percent(row.robust.value),
            f"{percent(row.robust.low)} to {percent(row.robust.high)}",
            row.taken_for or "none broken",
        )
        for row in found
    )
    clean = clean_title(measured.summary)
    return Table(caption, ("class", "images", clean, "robust", "95% interval", "mostly taken for"), rows)


def _charts(measured: Measured) -> list[Chart]:
    examples, answers = measured.examples, measured.answers
    if examples is None:
        return []
    found = []
    norm, epsilon = measured.threat.norm, measured.threat.epsilon
    distances = figures.spread(examples)
    spread = figures.histogram({"broken images": distances}) if distances is not None else None
    if spread:
        title, axis = "How large the perturbations are that break images", f"norm of the perturbation ({norm})"
        found.append(charts.histogram(title, axis, spread, {"broken images": "s1"}, epsilon))
    if answers is None:
        return found
    margins = figures.histogram({"clean": answers.clean_margins, "attacked": answers.margins}, 0.005)
    if margins:
        title, axis = "How far images are from a wrong label", "margin: the label's logit less the highest other"
        found.append(charts.histogram(title, axis, margins, {"clean": "s0", "attacked": "s1"}, 0))
    if answers.scores is None or answers.clean_scores is None:
        return found
    kinds = figures.scores_of(examples, answers)
    scores = figures.histogram(kinds, 0.01)
    if scores:
        title, axis = "The detector's scores", "log odds above the threshold; to the right: found"
        found.append(charts.histogram(title, axis, scores, _STYLES, 0))
    broken, attacked = kinds["attacked, broken"], answers.scores[examples.broken_by != WRONG_WHEN_CLEAN]
    curves = [
        figures.curve_of_detector("broken images", answers.clean_scores, broken),
        figures.curve_of_detector("all attacked images", answers.clean_scores, attacked),
    ]
    drawn = [curve for curve in curves if curve]
    if drawn:
        found.append(charts.roc("What the detector finds, over its false alarms (ROC)", drawn))
    return found


def _missing(model: Reported, measured: Measured) -> list[Missing]:
    if measured.folder is None:
        if any(other.folder for other in model.measured):
            return []
        sentence = (
            "Training keeps no record, so there are no figures of each class and no other images here. AutoAttack with "
            "a record gives both, and is the stronger test."
        )
        return [Missing(sentence, words.command("attack", model.folder, "--attack", "autoattack", "--card"))]
    if measured.record is None:
        return [
            Missing(
                f"The record {measured.folder} is not there. It would show accuracies of each class, the confusion "
                "matrix, images, and distances.",
                words.attack_command(model, measured),
            )
        ]
    found = []
    if measured.answers is None:
        detector = ", and what the detector says of them" if model.card.detector else ""
        found.append(
            Missing(
                "The record does not keep what the model says of its images. With it the report shows clean images, "
                f"perturbations, and the images nearest to being broken{detector}.",
                words.command("verify", measured.folder, "--keep"),
            )
        )
    known = [one.examples for one in model.measured if one.examples]
    if not any(figures.spread(examples) is not None for examples in known) and np.any(known[0].broken_by >= 0):
        found.append(
            Missing(
                "Almost all perturbations have the same norm, since these attacks use the whole ball. How far images "
                "are from being broken says an attack that looks for the smallest perturbation.",
                words.command("attack", model.folder, "--attack", "rays", "--limit", 100, "--card"),
            )
        )
    return found
