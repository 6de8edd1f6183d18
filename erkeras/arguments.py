"""Checks of numbers that several classes take."""

from __future__ import annotations

import numbers

from erkeras.errors import InputError


def check_counts(owner: str, **counts: object) -> None:
    """Checks that settings are whole numbers of 1 or more.

    Args:
        owner: what the settings belong to, as an error names it.
        counts: value by name.

    Raises:
        InputError: for the first that is none.
    """
    for name, value in counts.items():
        if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < 1:
            raise InputError(f"{owner}'s {name} is {value!r}: give a whole number of 1 or more.")
