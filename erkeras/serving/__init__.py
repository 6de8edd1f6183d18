"""Saved models: the SavedModel that TF Serving loads, and the folder around it."""

from erkeras.lazy import lazy_names
from erkeras.serving.folder import find_model, load_model, read_card

_HOMES = dict.fromkeys(
    ("SIGNATURES", "detect_with", "export_classifier", "export_saved_model"), "erkeras.serving.export"
)
__all__ = ["find_model", "load_model", "read_card", *_HOMES]
__getattr__ = lazy_names(__name__, _HOMES)
