"""The words of a report, for a reader who is not from the field; and the commands that it names."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence

from erkeras.attacks.named import ADAPTIVE, ATTACKS, BY_QUERIES
from erkeras.report.figures import fraction, of_hundred
from erkeras.report.sources import Curve, Measured, Reported
from erkeras.saved import percent
from erkeras.threat import ThreatModel

#: What each attack does, by its name.
_MEANINGS = {
    "fgsm": "one step along the gradient",
    "pgd": "many small steps along the gradient, from several starts",
    "apgd-ce": "steps along the gradient whose length adapts",
    "apgd-dlr": "the same, on a loss that the scale of the outputs does not change",
    "apgd-t": "the same, towards each of the other classes",
    "fab": "looks for the nearest image of another class",
    "fab-t": "looks for the nearest image of each other class",
    "square": "changes random squares; asks for outputs alone",
    "cw": "makes the smallest perturbation by an optimizer",
    "rays": "searches along rays; asks for labels alone",
}
#: What attacks are called, by name.
_NAMES = {"square": "Square", "cw": "C&W", "rays": "RayS"}
_EXAMPLES = 5


def heading(measured: Measured) -> str:
    """Names an evaluation as a reader says it."""
    names = [_NAMES.get(name, name.upper()) for name in measured.summary.attacks]
    found = re.match(r"autoattack (\w+)\b", measured.title)
    who = f"AutoAttack, version {found[1]}" if found else listed(names)
    if measured.with_detector:
        who = f"{listed([name.removesuffix('-DETECTOR') for name in names])} aimed at model and detector"
    where = f"{who}, {measured.threat.norm} epsilon {measured.threat.epsilon:g}"
    if measured.folder is None:
        return f"{where}, as training reports"
    return where if measured.split == "test" else f"{where}, {measured.split} images"


def curve_title(curve: Curve) -> str:
    """Says what a curve is of."""
    names = " + ".join(dict.fromkeys(curve.attacks)) + (", with detector" if curve.with_detector else "")
    return f"{names} on {curve.images:,} test images of {curve.dataset}, seed {curve.seed}"


def meaning(attack: str) -> str:
    """Says what an attack of a name does; empty for one that is not known."""
    plain = attack.removesuffix("-detector")
    words = _MEANINGS.get(plain, "")
    return f"{words}; aimed at the detector too" if words and plain != attack else words


def radius(threat: ThreatModel) -> str:
    """Says in words what an attacker may do to an image."""
    if threat.norm == "l_inf":
        levels = 255 * threat.epsilon / (threat.upper - threat.lower)
        return (
            f"Each pixel may change by at most {threat.epsilon:g}, where {threat.lower:g} is black and "
            f"{threat.upper:g} is white: {levels:.3g} of 255 steps of brightness."
        )
    return (
        f"The change of all pixels together may have a Euclidean length of at most {threat.epsilon:g}, where a pixel "
        f"goes from {threat.lower:g} to {threat.upper:g}."
    )


def summary(model: Reported, headline: Measured) -> list[tuple[str, str]]:
    """Writes the summary of a model: (lead, sentences) of each paragraph."""
    return [
        ("What was tested.", _tested(model, headline)),
        ("Against what.", _against(headline)),
        ("What the figure means.", _figure(headline)),
        ("What it does not mean.", _limits(model, headline)),
    ]


def _tested(model: Reported, headline: Measured) -> str:
    names = model.card.dataset.class_names
    listed = ", ".join(names[:_EXAMPLES]) + (", ..." if len(names) > _EXAMPLES else "")
    held = "None of them was used to train the model." if model.card.job else ""
    if headline.split != "test":
        held = "Settings may have been chosen on them, so the figure may be too high."
    return (
        f"The model sorts images into {len(names)} classes ({listed}). {headline.summary.images:,} {headline.split} "
        f"images of {headline.dataset} were attacked. {held}"
    ).strip()


def _against(headline: Measured) -> str:
    names = list(headline.summary.attacks)
    knows = "knows the model completely"
    if all(name in BY_QUERIES for name in names):
        knows = "does not see inside the model, and asks it about images"
    if headline.with_detector:
        knows = "knows the model and its detector completely"
    shown = listed([_NAMES.get(name, name.upper()) for name in names])
    ran = f"The attack was {shown}." if len(names) == 1 else f"The attacks {shown} came one after the other."
    return (
        f"The attacker {knows}, and changes each image a little so that the model gives a wrong label. "
        f"{radius(headline.threat)} {ran}"
    )


def _figure(headline: Measured) -> str:
    found = headline.summary
    robust, broken, wrong = of_hundred(found.clean_accuracy, found.robust_accuracy)
    interval = fraction(found.robust_accuracy, found.images)
    stays = "stay right, or are found by the detector," if headline.with_detector else "stay right"
    return (
        f"Of 100 such images about {robust} {stays} under every attack that was run. The attacks break {broken}, and "
        f"the model is wrong about {wrong} without any attack. The robust accuracy is "
        f"{percent(found.robust_accuracy)}. With {found.images:,} images chance alone moves it: the 95% interval goes "
        f"from {percent(interval.low)} to {percent(interval.high)}."
    )


def _limits(model: Reported, headline: Measured) -> str:
    parts = [
        "The figure is no guarantee. A stronger attack can only lower it. It says nothing about larger changes, about "
        "other changes, as rotation, blur or stickers, or about images of another kind."
    ]
    if set(headline.summary.attacks) <= {"fgsm", "pgd"}:
        parts.append("FGSM and PGD are weak tests. AutoAttack is the usual one, and is not in this report.")
    doubts = len(headline.summary.warnings)
    if doubts:
        parts.append(f"{'A warning makes' if doubts == 1 else f'{doubts} warnings make'} it doubtful: see Warnings.")
    if model.card.detector and not any(found.with_detector for found in model.measured):
        parts.append(
            "The detector's figures are of attackers who do not know it. One who does was not tested here, and gets "
            "past it more often."
        )
    return " ".join(parts)


def attack_command(model: Reported, measured: Measured) -> str:
    """Writes the command that makes an evaluation of the card again, with its record."""
    names = list(dict.fromkeys(name for name in re.split(r"\s+", measured.title) if name in ATTACKS))
    words = ["erkeras", "attack", str(model.folder)]
    for name in names:
        words += ["--attack", name]
    version = re.match(r"autoattack (plus|rand)\b", measured.title)
    words += ["--version", version[1]] if version else []
    words += ["--norm", measured.threat.norm, "--epsilon", f"{measured.threat.epsilon!r}"]
    words += ["--dataset", measured.dataset] if measured.dataset != model.card.dataset.name else []
    words += ["--split", measured.split] if measured.split != "test" else []
    words += ["--with-detector"] if measured.with_detector else []
    words += ["--limit", str(measured.summary.images), "--seed", str(measured.seed), "--card"]
    return shlex.join(words)


def training_command(model: Reported) -> str:
    """Writes the command that measures again what training reports."""
    report = model.card.evaluation
    assert report is not None
    words = ["erkeras", "attack", str(model.folder), "--attack", "fgsm", "--attack", "pgd"]
    words += ["--steps", str(report.pgd.steps), "--step-size", repr(report.pgd.step_size)]
    words += ["--restarts", str(report.pgd.restarts), "--norm", report.threat.norm]
    words += ["--epsilon", repr(report.threat.epsilon), "--limit", str(report.summary.images)]
    return shlex.join([*words, "--seed", str(report.seed)])


def curve_command(model: Reported, curve: Curve) -> str:
    """Writes the command that measures a curve again."""
    step = curve.epsilons[1] - curve.epsilons[0] if len(curve.epsilons) > 1 else 1.0
    words = ["erkeras", "curve", str(model.folder), *(word for name in curve.attacks for word in ("--attack", name))]
    words += ["--norm", curve.norm, "--epsilons", f"{curve.epsilons[0]:g}:{curve.epsilons[-1]:g}:{step:g}"]
    words += ["--dataset", curve.dataset] if curve.dataset != model.card.dataset.name else []
    words += ["--with-detector"] if curve.with_detector else []
    return shlex.join([*words, "--limit", str(curve.images), "--seed", str(curve.seed)])


def command(*words: object) -> str:
    """Writes a command of erkeras that a shell takes as it is meant."""
    return shlex.join(["erkeras", *map(str, words)])


def adaptive_command(model: Reported) -> str:
    """Writes the command that attacks a model and its detector at once."""
    return command("attack", model.folder, "--attack", ADAPTIVE[0], "--with-detector", "--card")


def listed(words: Sequence[str]) -> str:
    """Joins words as a sentence does."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
