"""Types of options that several commands share. Checked before TensorFlow is loaded."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import click


class FiniteFloat(click.FloatRange):
    """A float within a range; not NaN, which a plain range lets through."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        number = super().convert(value, param, ctx)
        if math.isnan(number):
            self.fail(f"{value!r} is not a number.", param, ctx)
        return number


PATH = click.Path(path_type=Path)
EPSILON = FiniteFloat(0, 1)
RADIUS = FiniteFloat(0)
COUNT = click.IntRange(1)
SEED = click.IntRange(0, 2**31 - 1)


def writable(path: Path | None) -> Path | None:
    """The path of a file to write, if its folder is there.

    Raises:
        InputError: where it is not.
    """
    from erkeras.errors import InputError

    if path is not None and (path.is_dir() or not path.absolute().parent.is_dir()):
        raise InputError(f"{path} cannot be written: give a file in a folder that exists.")
    return path
