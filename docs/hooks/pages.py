"""Brings files of the repository into the site, and mends links that lead out of docs/."""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[2]
#: Pages outside docs/, which the site has under the same name.
OUTSIDE = ("CONTRIBUTING.md", "CHANGELOG.md")
_LINK = re.compile(r"(?<!!)\[([^\]]*)\]\(([^)\s#:]+)(#[^)\s]*)?\)")


def on_files(files: Files, config: Any) -> Files:
    """Adds the pages outside docs/."""
    for name in OUTSIDE:
        files.append(File.generated(config, name, content=(ROOT / name).read_text()))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Rewrites links: to pages outside docs/, from them, and to files that the site has not, which become text."""
    source = page.file.src_uri
    folder = posixpath.dirname(source if source in OUTSIDE else f"docs/{source}")

    def mended(found: re.Match[str]) -> str:
        text, target, anchor = found.group(1), found.group(2), found.group(3) or ""
        path = posixpath.normpath(posixpath.join(folder, target))
        if not (ROOT / path).exists():
            return found.group(0)  # a broken link, of which the strict build says so
        if path not in OUTSIDE and not path.startswith("docs/"):
            return text
        place = path.removeprefix("docs/")
        return f"[{text}]({posixpath.relpath(place, posixpath.dirname(source) or '.')}{anchor})"

    return _LINK.sub(mended, markdown)
