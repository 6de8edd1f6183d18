"""Measuring robustness, and showing it. The names load on first use: a record is opened without TensorFlow."""

from erkeras.lazy import lazy_names

_HOMES = {
    "Examples": "erkeras.evaluation.examples",
    "Record": "erkeras.evaluation.record",
    "as_lines": "erkeras.evaluation.record",
    "Robustness": "erkeras.evaluation.robustness",
    "evaluate_robustness": "erkeras.evaluation.robustness",
    "judge_by": "erkeras.evaluation.transfer",
    "accuracy_curve": "erkeras.evaluation.curves",
    "compare": "erkeras.evaluation.comparison",
    "read_rows": "erkeras.evaluation.comparison",
    "Verification": "erkeras.evaluation.verify",
    "verify_record": "erkeras.evaluation.verify",
    "draw_embedding": "erkeras.evaluation.embedding",
    "project_codes": "erkeras.evaluation.embedding",
    "draw_curves": "erkeras.evaluation.pictures",
    "draw_scores": "erkeras.evaluation.pictures",
    "draw_gallery": "erkeras.evaluation.pictures",
    "draw_verdicts": "erkeras.evaluation.pictures",
}
__all__ = [*_HOMES]
__getattr__ = lazy_names(__name__, _HOMES)
