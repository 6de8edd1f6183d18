"""The metadata block of a model's README.md, as model hubs read it: YAML between two lines of dashes."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

from erkeras.saved.card import Card, Summary

#: A name that hubs take for a data set; others are paths, which mean nothing elsewhere.
_PLAIN = re.compile(r"[A-Za-z0-9][\w.-]*$")
_TASK = "image-classification"


def metadata(card: Card) -> str:
    """Writes the block: library, task, tags, data set, and the accuracies of the evaluations.

    `huggingface_hub.ModelCard` reads it, as every program that reads the YAML above a README.md.
    """
    tags = ["adversarial-robustness", "erkeras", *([card.recipe.defense] if card.recipe else [])]
    lines = ["---", "library_name: keras", f"pipeline_tag: {_TASK}", "tags:", *(f"- {_text(tag)}" for tag in tags)]
    name = card.dataset.name
    if name and _PLAIN.match(name):
        lines += ["datasets:", f"- {_text(name)}"]
    results = list(_results(card))
    if results:
        lines += ["metrics:", "- accuracy", "model-index:", f"- name: {_text(card.name)}", "  results:", *results]
    return "\n".join([*lines, "---"])


def _results(card: Card) -> Iterator[str]:
    report = card.evaluation
    if report:
        yield from _result(card.dataset.name or "images", report.split, report.threat.norm, report.threat.epsilon,
                           report.summary)  # fmt: skip
    for found in card.evaluations:
        yield from _result(found.dataset, found.split, found.threat.norm, found.threat.epsilon, found.summary)


def _result(dataset: str, split: str, norm: str, epsilon: float, summary: Summary) -> Iterator[str]:
    yield "  - task:"
    yield f"      type: {_TASK}"
    yield "    dataset:"
    yield f"      name: {_text(dataset)}"
    yield f"      type: {_text(dataset)}"
    yield f"      split: {_text(split)}"
    yield "    metrics:"
    robust = f"Robust accuracy, {' + '.join(summary.attacks)}, {norm} epsilon {epsilon:g}"
    for name, value in (("Clean accuracy", summary.clean_accuracy), (robust, summary.robust_accuracy)):
        yield "    - type: accuracy"
        yield f"      value: {value:.6f}"
        yield f"      name: {_text(name)}"


def _text(text: str) -> str:
    """A string of YAML: JSON's, without what YAML does not take as it is."""
    quoted = json.dumps(text, ensure_ascii=False)
    return "".join(letter if letter.isprintable() else _escaped(letter) for letter in quoted)


def _escaped(letter: str) -> str:
    number = ord(letter)
    if 0xD800 <= number < 0xE000:  # of a file name that is no UTF-8
        return "?"
    return f"\\U{number:08X}" if number > 0xFFFF else f"\\u{number:04X}"
