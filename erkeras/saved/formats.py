"""Converts older model cards into today's format."""

from __future__ import annotations

from typing import Any

_SUMMARY = (
    "images",
    "outputs",
    "clean_accuracy",
    "attacks",
    "robust_accuracy",
    "mean_boundary_distance",
    "forward_passes",
    "backward_passes",
    "warnings",
)


def upgrade(card: dict[str, Any]) -> dict[str, Any]:
    """Makes a card of format 3 of one of format 2, whose keys were those of `erkeras train` alone.

    Raises:
        KeyError, TypeError, AttributeError: where it lacks a key, or one is of another type.
    """
    report = card["evaluation"]
    baseline = report.get("baseline")
    return {
        **card,
        "format": 3,
        "job": {name: value for name, value in card["job"].items() if name != "erkeras"},
        "evaluation": {
            "split": report["split"],
            "threat": {"norm": report["norm"], "epsilon": report["epsilon"]},
            "pgd": report["pgd"],
            "seed": report["seed"],
            "indices": report["indices"],
            "summary": {name: report[name] for name in _SUMMARY},
            "baseline": baseline and {name: baseline[name] for name in _SUMMARY},
        },
    }
