"""Brings docstrings into the form that the site reads: examples as code, and one entry for each argument."""

from __future__ import annotations

import re
import textwrap
from typing import Any

import griffe

_EXAMPLE = re.compile(r"^Example:\n((?:(?: {4}.*)?\n)*(?: {4}.*))", re.MULTILINE)
#: An entry of several names, as `lower, upper: bounds of a pixel`, with its further lines.
_TOGETHER = re.compile(r"^ {4}(\w+(?:, \w+)+): (.*(?:\n {8}.*)*)", re.MULTILINE)


def _as_code(found: re.Match[str]) -> str:
    code = textwrap.dedent(found.group(1)).strip("\n")
    return f"**Example**\n\n```python\n{code}\n```\n"


def _one_by_one(found: re.Match[str]) -> str:
    names, text = found.groups()
    return "\n".join(f"    {name}: {text}" for name in names.split(", "))


class Readable(griffe.Extension):
    """Rewrites each docstring before it is parsed."""

    def on_object(self, *, obj: griffe.Object, **options: Any) -> None:
        """Rewrites the docstring of one object."""
        if obj.docstring is not None:
            obj.docstring.value = _TOGETHER.sub(_one_by_one, _EXAMPLE.sub(_as_code, obj.docstring.value))
