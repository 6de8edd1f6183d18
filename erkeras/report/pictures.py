"""Images of a report as PNG inside the page: clean, perturbation, attacked."""

from __future__ import annotations

import base64
import io
import math
from dataclasses import dataclass

import numpy as np

from erkeras.evaluation.answers import rows_to_show
from erkeras.evaluation.examples import STANDING
from erkeras.report.sources import Measured, Reported

#: The longest side of a picture; a larger image is made smaller.
_LONGEST = 128
#: What training draws, and the bytes that it may have.
_DRAWN, _LARGEST = "attacked.png", 300_000


@dataclass(frozen=True)
class Picture:
    """Holds a picture: its data, and words for a reader who does not see it."""

    data: str
    words: str


@dataclass(frozen=True)
class Tile:
    """Holds one image of a gallery.

    Attributes:
        index: original index in the data set.
        label: true class.
        pictures: clean, perturbation and attacked; without kept answers the attacked one alone.
        before, after: what model and detector say, clean and attacked.
        wrong: whether the attacked image is misclassified.
        facts: further words.
    """

    index: int
    label: str
    pictures: tuple[Picture, ...]
    before: tuple[str, ...]
    after: tuple[str, ...]
    wrong: bool
    facts: tuple[str, ...]


@dataclass(frozen=True)
class Gallery:
    """Holds images of one kind.

    Attributes:
        broken: whether these are the broken ones, or those nearest to being broken.
        tiles: those that are shown.
        of: how many there are.
        factor: by which perturbations are amplified; None where they are not shown.
        scored: whether the detector's verdicts are shown.
    """

    broken: bool
    tiles: tuple[Tile, ...]
    of: int
    factor: float | None
    scored: bool


def galleries(model: Reported, measured: Measured, budget: int) -> list[Gallery]:
    """Makes the galleries of an evaluation with a record.

    Args:
        budget: characters that its pictures may have in the page.
    """
    examples, answers = measured.examples, measured.answers
    assert examples is not None
    rows = answers.rows if answers else rows_to_show(examples)
    found = []
    for broken in (True, False):
        chosen = rows[(examples.broken_by[rows] >= 0) == broken]
        if not len(chosen):
            continue
        factor = _factor(measured, chosen)
        tiles: list[Tile] = []
        left = budget // 2
        for row in chosen.tolist():
            tile = _tile(model, measured, row, factor)
            left -= sum(len(picture.data) for picture in tile.pictures)
            if left < 0:
                break
            tiles.append(tile)
        of = int(np.sum((examples.broken_by >= 0) if broken else (examples.broken_by == STANDING)))
        found.append(Gallery(broken, tuple(tiles), of, factor, bool(answers and answers.scores is not None)))
    return found


def drawn_by_training(model: Reported) -> Picture | None:
    """Takes the picture that training drew into the model's folder; None where there is none, or a large one."""
    path = model.folder / _DRAWN
    if _DRAWN not in model.card.files or path.stat().st_size > _LARGEST:
        return None
    words = "Test images, clean and attacked, with the labels that the model gives and the detector's verdicts"
    return Picture(_data(path.read_bytes()), words)


def png(image: np.ndarray) -> str:
    """Makes a data URI of an image, float `[height, width, channels]` in [0, 1]."""
    from PIL import Image

    pixels = np.round(np.clip(np.nan_to_num(image), 0, 1) * 255).astype(np.uint8)
    if pixels.shape[-1] < 3:
        picture = Image.fromarray(pixels[..., 0])
    else:
        picture = Image.fromarray(np.ascontiguousarray(pixels[..., :3]))
    if max(picture.size) > _LONGEST:
        scale = _LONGEST / max(picture.size)
        size = [max(1, round(side * scale)) for side in picture.size]
        picture = picture.resize((size[0], size[1]), Image.Resampling.BOX)
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", optimize=True)
    return _data(buffer.getvalue())


def _data(content: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(content).decode()}"


def _clean(measured: Measured, row: int) -> np.ndarray | None:
    answers = measured.answers
    if answers is None:
        return None
    return np.asarray(answers.clean_images[np.flatnonzero(answers.rows == row)[0]])


def _factor(measured: Measured, rows: np.ndarray) -> float | None:
    """How much perturbations are amplified, so that the largest one goes from grey to black or white."""
    if measured.answers is None or measured.examples is None:
        return None
    attacked = measured.examples.images
    largest = max(float(np.nan_to_num(np.abs(attacked[row] - _clean(measured, row))).max()) for row in rows.tolist())
    exact = 0.5 / max(largest, 1e-6)
    unit = 10.0 ** (math.floor(math.log10(exact)) - 1)
    return math.floor(exact / unit + 1e-3) * unit


def _tile(model: Reported, measured: Measured, row: int, factor: float | None) -> Tile:
    examples, answers = measured.examples, measured.answers
    assert examples is not None
    index, label = int(examples.indices[row]), model.class_name(int(examples.labels[row]))
    attacked, clean = examples.images[row], _clean(measured, row)
    pictures = [Picture(png(attacked), f"Image {index}, {label}, attacked")]
    if clean is not None and factor is not None:
        pictures = [
            Picture(png(clean), f"Image {index}, {label}, clean"),
            Picture(png(0.5 + factor * (attacked - clean)), f"Perturbation of image {index}, times {factor:g}"),
            *pictures,
        ]
    prediction = int(examples.predictions[row])
    before = [model.class_name(int(examples.clean_predictions[row]))]
    after = [model.class_name(prediction)]
    facts = [f"{measured.threat.norm} {float(examples.distance[row]):.3g}"]
    if answers is not None:
        facts.append(f"margin {answers.clean_margins[row]:.2f}, then {answers.margins[row]:.2f}")
        if answers.scores is not None and answers.clean_scores is not None:
            before.append(_verdict(float(answers.clean_scores[row])))
            after.append(_verdict(float(answers.scores[row])))
    number = int(examples.broken_by[row])
    if number >= 0:
        facts.insert(0, f"broken by {list(measured.summary.attacks)[number]}")
    return Tile(
        index, label, tuple(pictures), tuple(before), tuple(after), prediction != examples.labels[row], tuple(facts)
    )


def _verdict(score: float) -> str:
    """A detector's verdict and its score, as log odds from the threshold's."""
    return f"{'found' if score > 0 else 'let pass'} ({score:+.2f})"
