"""Shows a result in a notebook: a small table of HTML."""

from __future__ import annotations

import html
from collections.abc import Sequence


def html_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], notes: Sequence[str] = ()) -> str:
    """Writes a table as HTML, every text escaped.

    Args:
        title: above it.
        columns: their names.
        rows: as many texts as columns each; the first names the row.
        notes: sentences below it.
    """
    head = "".join(f'<th scope="col">{html.escape(column)}</th>' for column in columns)
    lines = []
    for name, *cells in rows:
        others = "".join(f"<td>{html.escape(cell)}</td>" for cell in cells)
        lines.append(f'<tr><th scope="row">{html.escape(name)}</th>{others}</tr>')
    below = "".join(f"<p>{html.escape(note)}</p>" for note in notes)
    caption = f"<caption>{html.escape(title)}</caption>"
    return f"<table>{caption}<thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table>{below}"
