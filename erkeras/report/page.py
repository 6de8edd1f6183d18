"""The page: one file of HTML that asks for nothing from elsewhere."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Sequence
from pathlib import Path

import jinja2
import markupsafe

from erkeras.errors import InputError
from erkeras.files import check_writable, write_text
from erkeras.report.comparison import comparisons, shared_curves
from erkeras.report.models import budget_of, part
from erkeras.report.sources import Reported, read_sources
from erkeras.report.words import heading
from erkeras.saved import percent
from erkeras.versions import __version__

#: Bytes that a page may have, and characters of it that pictures may have.
MOST, _PICTURES = 5_000_000, 3_000_000
#: What has no shape, or changes the direction of text around it.
_SHAPELESS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]")


def write_report(
    models: Sequence[str | Path],
    output: str | Path = "report.html",
    *,
    records: Sequence[str | Path] = (),
    curves: Sequence[str | Path] = (),
) -> int:
    """Writes a report of saved models: one file of HTML.

    Example:
        erkeras.write_report(["saved_models/digits-er-classifier"], "report.html")

    Args:
        models: folders that `erkeras train` or `erkeras.save` wrote.
        output: file to write.
        records: of these models, beside those that their cards name.
        curves: files that `erkeras curve --json` wrote.

    Returns:
        How many bytes the file has.

    Raises:
        InputError: as `read_sources`, for a file that cannot be written, or models that make too large a page.
    """
    check_writable(output)
    found = read_sources(*([Path(path) for path in paths] for paths in (models, records, curves)))
    text = render_report(found)
    size = len(text.encode())
    if size > MOST:
        raise InputError(f"the report has {size / 1e6:.1f} MB, and may have {MOST / 1e6:g}: give fewer models.")
    write_text(output, text)
    return size


def render_report(models: Sequence[Reported]) -> str:
    """Makes the page of models that `read_sources` gave."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("erkeras.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"percent": percent, "heading": heading}
    style = (Path(__file__).parent / "templates" / "style.css").read_text()
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    share = budget_of(models, _PICTURES)
    text = environment.get_template("page.html").render(
        title=_title(models),
        style=markupsafe.Markup(style),  # ours, and without a place for anybody's text
        style_digest=digest,
        parts_of_page=[part(model, f"model-{number}", share) for number, model in enumerate(models, start=1)],
        comparisons=comparisons(models) if len(models) > 1 else [],
        shared_curves=shared_curves(models),
        several=len(models) > 1,
        version=__version__,
    )
    return _SHAPELESS.sub("\ufffd", text)


def _title(models: Sequence[Reported]) -> str:
    return f"Robustness of {models[0].name}" if len(models) == 1 else f"Robustness of {len(models)} models"
