"""Measuring robustness, and showing it."""

from erkeras.evaluation.curves import accuracy_curve
from erkeras.evaluation.examples import Examples
from erkeras.evaluation.pictures import draw_curves, draw_gallery, draw_verdicts
from erkeras.evaluation.record import Record, as_lines
from erkeras.evaluation.robustness import Robustness, evaluate_robustness
from erkeras.evaluation.verify import Verification, verify_record

__all__ = [
    "Examples",
    "Record",
    "Robustness",
    "Verification",
    "accuracy_curve",
    "as_lines",
    "draw_curves",
    "draw_gallery",
    "draw_verdicts",
    "evaluate_robustness",
    "verify_record",
]
