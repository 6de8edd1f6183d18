"""Saved models: the SavedModel that TF Serving loads, the folder around it, and a client for a server."""

from erkeras.lazy import lazy_names
from erkeras.serving.folder import find_model, load_model, read_card
from erkeras.serving.signatures import MOST_PIXELS, SIGNATURES

_HOMES = {
    **dict.fromkeys(
        ("detect_with", "export_classifier", "export_saved_model", "export_version"), "erkeras.serving.export"
    ),
    "Client": "erkeras.serving.client",
    "Served": "erkeras.serving.served",
}
__all__ = ["MOST_PIXELS", "SIGNATURES", "find_model", "load_model", "read_card", *_HOMES]
__getattr__ = lazy_names(__name__, _HOMES)
