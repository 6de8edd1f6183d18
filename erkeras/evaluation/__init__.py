"""Measuring robustness, and showing it."""

from erkeras.evaluation.pictures import draw_verdicts
from erkeras.evaluation.robustness import Robustness, evaluate_robustness

__all__ = ["Robustness", "draw_verdicts", "evaluate_robustness"]
