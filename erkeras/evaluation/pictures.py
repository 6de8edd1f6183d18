"""Pictures of attacked images, and of accuracies."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from erkeras.files import replacing

if TYPE_CHECKING:
    from matplotlib.figure import Figure

GOOD, BAD = "#1b7837", "#b2182b"


def draw_verdicts(
    path: str | Path,
    clean: np.ndarray,
    adversarial: np.ndarray,
    captions: Sequence[tuple[str, bool, str, bool]],
    title: str = "",
) -> None:
    """Draws each image above its attacked version, each with a caption.

    Args:
        path: PNG file to write.
        clean, adversarial: float `[n, height, width, channels]` in [0, 1].
        captions: for each image the caption of the clean one, whether that is good (green, else red), and the
            same for the attacked one.
        title: above the picture.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    columns = len(clean)
    figure = Figure(figsize=(1.25 * columns, 3.7), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(2, columns, squeeze=False)
    for column, (top, top_good, bottom, bottom_good) in enumerate(captions):
        rows = ((clean, top, top_good), (adversarial, bottom, bottom_good))
        for row, (images, caption, good) in enumerate(rows):
            axis = axes[row][column]
            image = images[column]
            axis.imshow(image[..., 0] if image.shape[-1] == 1 else image, cmap="gray_r", vmin=0, vmax=1)
            axis.set_xticks([])
            axis.set_yticks([])
            axis.set_xlabel(plain(caption), color=GOOD if good else BAD, fontsize=8, parse_math=False)
    axes[0][0].set_ylabel("clean")
    axes[1][0].set_ylabel("attacked")
    if title:
        figure.suptitle(plain(title), fontsize=10, parse_math=False)
    save(figure, path)


def draw_gallery(
    path: str | Path,
    clean: np.ndarray,
    adversarial: np.ndarray,
    captions: Sequence[tuple[str, str]],
    title: str = "",
) -> None:
    """Draws each image, the perturbation and the adversarial image, one column an image.

    Args:
        path: PNG file to write.
        clean, adversarial: float `[n, height, width, channels]` in [0, 1].
        captions: for each image the label of the clean one and of the adversarial one.
        title: above the picture.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    columns = len(clean)
    perturbations = adversarial - clean
    # One scale for all: grey (white, for grey images) is no change.
    reach = max(float(np.abs(perturbations).max(initial=0)), 1e-6)
    figure = Figure(figsize=(1.25 * columns + 0.4, 5.0), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(3, columns, squeeze=False)
    for column, (before, after) in enumerate(captions):
        rows = (
            (clean[column], before, {"cmap": "gray_r", "vmin": 0, "vmax": 1}),
            (
                perturbations[column],
                f"up to {np.abs(perturbations[column]).max():.3g}",
                {"cmap": "RdBu_r", "vmin": -reach, "vmax": reach},
            ),
            (adversarial[column], after, {"cmap": "gray_r", "vmin": 0, "vmax": 1}),
        )
        for row, (image, caption, scale) in enumerate(rows):
            axis = axes[row][column]
            if image.shape[-1] == 1:
                axis.imshow(image[..., 0], **scale)
            else:
                axis.imshow(image if row != 1 else 0.5 + image / (2 * reach))
            axis.set_xticks([])
            axis.set_yticks([])
            axis.set_xlabel(plain(caption), color=BAD if row == 2 else "black", fontsize=8, parse_math=False)
    for row, name in enumerate(("clean", "perturbation", "adversarial")):
        axes[row][0].set_ylabel(name)
    if title:
        figure.suptitle(plain(title), fontsize=10, parse_math=False)
    save(figure, path)


def draw_curves(
    path: str | Path,
    epsilons: Sequence[float],
    curves: Mapping[str, Sequence[float]],
    title: str = "",
    norm: str = "l_inf",
) -> None:
    """Draws robust accuracy over epsilon, one line for each model or attack.

    Args:
        path: PNG file to write.
        epsilons: at which the accuracies were measured.
        curves: accuracies in [0, 1] by name.
        title: above the picture.
        norm: of epsilon, for the axis.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.0, 4.0), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    axis = figure.subplots()
    for name, accuracies in curves.items():
        axis.plot(epsilons, [100 * accuracy for accuracy in accuracies], marker="o", markersize=3, label=plain(name))
    axis.set_xlabel(f"epsilon ({norm})")
    axis.set_ylabel("robust accuracy, %")
    axis.set_ylim(0, 101)
    axis.margins(x=0)
    axis.grid(alpha=0.3)
    for text in axis.legend(*axis.get_legend_handles_labels()).get_texts():
        text.set_parse_math(False)
    if title:
        axis.set_title(plain(title), fontsize=10, parse_math=False)
    save(figure, path)


def draw_scores(path: str | Path, panels: dict[str, dict[str, Any]], title: str = "") -> None:
    """Draws how a detector's scores are distributed: natural images, failed and successful attacks, the threshold.

    Args:
        path: PNG file to write.
        panels: by detector the log odds `natural`, `failed` and `successful` (float `[n]`, the last two may be empty),
            and those of the `threshold`.
        title: above the picture.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    kinds = (("natural", GOOD), ("failed", "#888888"), ("successful", BAD))
    names = {"natural": "clean", "failed": "attacked, classified correctly", "successful": "attacked, misclassified"}
    figure = Figure(figsize=(6.4, 0.9 + 2.1 * len(panels)), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(panels), 1, squeeze=False)[:, 0]
    for axis, (name, panel) in zip(axes, panels.items(), strict=True):
        everything = np.concatenate([panel[kind] for kind, _ in kinds])
        # A few far away would leave the others one bar: they count in the outermost bars.
        low, high = np.quantile(everything, [0.01, 0.99])
        low, high = min(low, panel["threshold"]), max(high, panel["threshold"])
        bins = np.linspace(low, max(high, low + 1e-6), 61)
        for kind, colour in kinds:
            count = len(panel[kind])
            if count:
                axis.hist(
                    np.clip(panel[kind], bins[0], bins[-1]),
                    bins,
                    weights=np.full(count, 100 / count),
                    color=colour,
                    alpha=0.5,
                    label=f"{names[kind]} ({count:,})",
                )
        axis.axvline(panel["threshold"], color="black", linewidth=1, label="threshold")
        axis.set_title(plain(name), fontsize=9, parse_math=False)
        axis.set_ylabel("% of its kind", fontsize=8)
        axis.tick_params(labelsize=8)
        axis.legend(fontsize=7)
    axes[-1].set_xlabel("log odds of the adversarial score; the outermost bars hold what lies beyond", fontsize=8)
    if title:
        figure.suptitle(plain(title), fontsize=10, parse_math=False)
    save(figure, path)


def plain(text: str) -> str:
    """Gives a user's text as a picture can show it: what has no shape becomes a question mark.

    A `$` is none of a formula where the text is drawn with `parse_math=False`.
    """
    shown = "".join(letter if letter.isprintable() or letter == "\n" else "?" for letter in text)
    return f"\u200b{shown}" if shown.startswith("_") else shown  # matplotlib leaves such a label out of a legend


def save(figure: Figure, path: str | Path) -> None:
    """Writes a figure, whole or not at all, to a file of the kind that its suffix names, else PNG.

    Raises:
        InputError: where it cannot be written.
    """
    kind = Path(path).suffix[1:].lower()
    with warnings.catch_warnings(), replacing(path) as file:
        warnings.filterwarnings("ignore", "Glyph .* missing from", UserWarning)  # it is drawn as a box
        figure.savefig(file, format=kind if kind in figure.canvas.get_supported_filetypes() else "png")
