"""Shows the examples of docstrings as code: `Example:` and the indented lines after it."""

from __future__ import annotations

import re
import textwrap
from typing import Any

import griffe

_EXAMPLE = re.compile(r"^Example:\n((?:(?: {4}.*)?\n)*(?: {4}.*))", re.MULTILINE)


def _as_code(found: re.Match[str]) -> str:
    code = textwrap.dedent(found.group(1)).strip("\n")
    return f"**Example**\n\n```python\n{code}\n```\n"


class ExamplesAsCode(griffe.Extension):
    """Turns the example of each docstring into a block of code."""

    def on_object(self, *, obj: griffe.Object, **options: Any) -> None:
        """Rewrites the docstring before it is parsed."""
        if obj.docstring is not None:
            obj.docstring.value = _EXAMPLE.sub(_as_code, obj.docstring.value)
