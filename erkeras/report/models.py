"""One model as a part of the page: its summary, its evaluations, its detector, and how it was made."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from erkeras.report import charts, figures, words
from erkeras.report.charts import Chart
from erkeras.report.doubts import Doubt, doubts_of
from erkeras.report.evaluations import Missing, Section, Table, section
from erkeras.report.figures import Fraction, fraction
from erkeras.report.sources import Measured, Reported
from erkeras.saved import DETECTION_COLUMNS, defense_title, detection_rows, percent, results_rows


@dataclass(frozen=True)
class Part:
    """Holds a model in the page.

    Attributes:
        anchor: its place in the page.
        model: what it is about.
        headline: the evaluation whose figure stands above all.
        robust: its robust accuracy.
        facts: (term, value) of what the model is.
        hundred: 100 images as squares.
        summary: (lead, sentences) of each paragraph.
        doubts: warnings.
        sections: evaluations, the headline first.
        curves: accuracy over epsilon.
        curve_commands: that measure those of files again.
        baseline: the same network without a defense, beside it; None without one.
        detector: figures of the detector that training reports; None without.
        detector_sentences: what the detector is.
        adaptive: (title, accuracy) of evaluations by an attacker who knows the detector.
        command: that trained the model; empty where the card does not say.
        settings: tables of settings, versions and digests.
        missing_curve, missing_adaptive: what is not there, and how it is made.
    """

    anchor: str
    model: Reported
    headline: Measured
    robust: Fraction
    facts: tuple[tuple[str, str], ...]
    hundred: Chart
    summary: tuple[tuple[str, str], ...]
    doubts: tuple[Doubt, ...]
    sections: tuple[Section, ...]
    curves: tuple[Chart, ...]
    curve_commands: tuple[str, ...]
    baseline: Table | None
    detector: Table | None
    detector_sentences: tuple[str, ...]
    adaptive: tuple[tuple[str, Fraction], ...]
    command: str
    settings: tuple[Table, ...]
    missing_curve: tuple[Missing, ...]
    missing_adaptive: tuple[Missing, ...]


def part(model: Reported, anchor: str, budget: int) -> Part:
    """Makes the part of a model.

    Args:
        anchor: its place in the page.
        budget: characters that its pictures may have.
    """
    headline = headline_of(model)
    found = headline.summary
    recorded = sum(measured.examples is not None for measured in model.measured)
    curves = tuple(_curves(model))
    ordered = [headline, *(measured for measured in model.measured if measured is not headline)]
    return Part(
        anchor=anchor,
        model=model,
        headline=headline,
        robust=fraction(found.robust_accuracy, found.images),
        facts=tuple(_facts(model)),
        hundred=charts.hundred(*figures.of_hundred(found.clean_accuracy, found.robust_accuracy)),
        summary=tuple(words.summary(model, headline)),
        doubts=tuple(doubts_of(model)),
        sections=tuple(
            section(model, measured, f"{anchor}-evaluation-{number}", budget // max(recorded, 1))
            for number, measured in enumerate(ordered, start=1)
        ),
        curves=curves,
        curve_commands=tuple(words.curve_command(model, curve) for curve in model.curves),
        baseline=_baseline(model),
        detector=_detector(model),
        detector_sentences=tuple(_detector_sentences(model)),
        adaptive=tuple(
            (words.heading(one), fraction(one.summary.robust_accuracy, one.summary.images))
            for one in model.measured
            if one.with_detector
        ),
        command=model.card.job.command if model.card.job else "",
        settings=tuple(_settings(model)),
        missing_curve=() if curves else _missing_curve(model),
        missing_adaptive=_missing_adaptive(model),
    )


def headline_of(model: Reported) -> Measured:
    """Chooses the evaluation whose figure stands above all.

    The lowest robust accuracy on test images in the ball in which the card reports; an attacker who may be found by a
    detector comes last.
    """
    report = model.card.evaluation

    def order(measured: Measured) -> tuple[bool, bool, bool, float]:
        elsewhere = report is not None and measured.threat != report.threat
        return measured.with_detector, measured.split != "test", elsewhere, measured.summary.robust_accuracy

    return min(model.measured, key=order)


def _facts(model: Reported) -> list[tuple[str, str]]:
    card, data = model.card, model.card.dataset
    size = " x ".join(map(str, data.image_shape))
    facts = [("Folder", str(model.folder)), ("Data set", f"{data.name or 'not named'}, {size}")]
    if card.recipe:
        facts += [("Defense", defense_title(card.recipe)), ("Network", card.recipe.network)]
    facts.append(("Detector", _kind_of_detector(model) or "none"))
    return facts


def _kind_of_detector(model: Reported) -> str:
    detector = model.card.detector
    if detector is None:
        return ""
    return "ER2, on hidden layers and code" if detector.features == "combined" else "ER1, on the code"


def _curves(model: Reported) -> list[Chart]:
    """Accuracy over epsilon: of files, of attacks that minimise, and of evaluations in several balls."""
    drawn = []
    for curve in model.curves:
        series = [(model.name, curve.epsilons, values) for values in curve.accuracies.values()]
        drawn.append(charts.lines(words.curve_title(curve), f"epsilon ({curve.norm})", series))
    for measured in model.measured:
        found = figures.accuracy_over_distance(measured, measured.examples) if measured.examples else None
        if found:
            name = words.heading(measured)
            title = f"{name}, from the distances of its record"
            drawn.append(charts.lines(title, f"epsilon ({measured.threat.norm})", [(name, *found)]))
    groups: dict[tuple[object, ...], list[Measured]] = {}
    for measured in model.measured:
        what = (measured.threat.norm, measured.dataset, measured.split, measured.seed, measured.summary.images)
        groups.setdefault((*what, tuple(measured.summary.attacks)), []).append(measured)
    for group in groups.values():
        if len({measured.threat.epsilon for measured in group}) > 1:
            ordered = sorted(group, key=lambda measured: measured.threat.epsilon)
            epsilons = [0.0, *(measured.threat.epsilon for measured in ordered)]
            values = [ordered[0].summary.clean_accuracy, *(one.summary.robust_accuracy for one in ordered)]
            names = words.listed(list(ordered[0].summary.attacks))
            title = f"{names}, of {len(ordered)} evaluations"
            drawn.append(charts.lines(title, f"epsilon ({ordered[0].threat.norm})", [(names, epsilons, values)]))
    return drawn


def _baseline(model: Reported) -> Table | None:
    rows = results_rows(model.card)
    if len(rows) < 2:
        return None
    columns = tuple(rows[0][1])
    listed = tuple((name, *(cells.get(column, "") for column in columns)) for name, cells in rows)
    return Table("With and without the defense, as training reports", ("model", *columns), listed)


def _detector(model: Reported) -> Table | None:
    rows = detection_rows(model.card)
    if not rows:
        return None
    return Table("The detector, as training reports", tuple(DETECTION_COLUMNS), tuple(map(tuple, rows)))


def _detector_sentences(model: Reported) -> list[str]:
    detector = model.card.detector
    if detector is None:
        return []
    found = [f"The detector gives each image a score. Above {detector.threshold:.4g} it finds the image adversarial."]
    if detector.stated_false_positive_rate is not None:
        rate = percent(detector.stated_false_positive_rate)
        found.append(f"The threshold was set so that {rate} of clean validation images are found: false alarms.")
    if detector.fitted_on:
        found.append(f"It was fitted on {detector.fitted_on}, and calibrated on {detector.calibrated_on}.")
    if detector.successful:
        found.append(
            "AUROC is the chance that an attacked image gets a higher score than a clean one: 1 is perfect, 0.5 is "
            "guessing. The attacker of this table does not know the detector. The command that trained the model "
            "makes the table again."
        )
    return found


def _settings(model: Reported) -> list[Table]:
    card = model.card
    tables = []
    if card.job:
        elsewhere = ("recipe", "command")
        plain = {name: value for name, value in dataclasses.asdict(card.job).items() if name not in elsewhere}
        tables.append(_table("What training was asked for", plain))
        tables.append(_table("Recipe", dataclasses.asdict(card.job.recipe)))
    if card.training:
        entry = dataclasses.asdict(card.training)
        plain = {name: value for name, value in entry.items() if name not in ("warnings", "last_epoch")}
        tables.append(_table("How training went", {**plain, **card.training.last_epoch}))
    for measured in model.measured:
        if measured.record:
            tables.append(_record(measured))
    machine = {"processor": card.processor or "not said", **card.versions}
    tables.append(_table("Processor and versions that made the model", machine))
    tables.append(Table("SHA-256 of the model's files", ("file", "digest"), tuple(card.files.items())))
    return tables


def _record(measured: Measured) -> Table:
    assert measured.record is not None
    settings = measured.record.settings
    plain = {name: settings.get(name) for name in ("model", "digest", "images_digest", "dataset", "split", "seed")}
    plain |= {"internal_batch": measured.record.internal_batch, "processor": settings.get("processor", "not said")}
    versions = settings.get("versions")
    plain |= versions if isinstance(versions, dict) else {}
    for attack in settings["attacks"]:
        config = {name: value for name, value in attack.get("config", {}).items() if name != "threat"}
        plain[f"attack {attack['name']}"] = ", ".join(f"{name} {_text(value)}" for name, value in config.items())
    return _table(f"Record {measured.folder}", plain)


def _table(caption: str, values: Mapping[str, object]) -> Table:
    return Table(caption, ("setting", "value"), tuple((name, _text(value)) for name, value in values.items()))


def _text(value: object) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_text, value)) or "none"
    return str(value)


def _missing_curve(model: Reported) -> tuple[Missing, ...]:
    name = f"{model.folder.name}-curve"
    sentence = "Accuracy over epsilon was not measured. The first command measures it, and the second one shows it."
    files = ("--output", f"{name}.png", "--json", f"{name}.json")
    measure = words.command("curve", model.folder, *files)
    return (Missing(sentence, f"{measure}\n{words.command('report', model.folder, '--curve', files[-1])}"),)


def _missing_adaptive(model: Reported) -> tuple[Missing, ...]:
    if model.card.detector is None or any(measured.with_detector for measured in model.measured):
        return ()
    sentence = "Nobody has attacked model and detector at once. An attacker who knows the detector does so."
    return (Missing(sentence, words.adaptive_command(model)),)


def budget_of(models: Sequence[Reported], most: int) -> int:
    """Shares the characters that pictures may have among the models that have some."""
    return most // max(1, sum(any(one.examples is not None for one in model.measured) for model in models))
