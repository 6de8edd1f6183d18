"""Files that are there whole or not at all: written beside, then renamed."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np


def write_text(path: Path, text: str) -> None:
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(text)
    os.replace(partial, path)


def write_arrays(path: Path, arrays: dict[str, Any]) -> None:
    """Compressed .npz of plain arrays, never a pickle."""
    partial = path.with_name(f".{path.name}.partial.npz")
    np.savez_compressed(partial, allow_pickle=False, **arrays)
    os.replace(partial, path)
