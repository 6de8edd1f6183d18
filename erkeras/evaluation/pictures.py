"""Pictures of attacked images, and of accuracies."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

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
            axis.set_xlabel(caption, color=GOOD if good else BAD, fontsize=8)
    axes[0][0].set_ylabel("clean")
    axes[1][0].set_ylabel("attacked")
    if title:
        figure.suptitle(title, fontsize=10)
    figure.savefig(path)


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
            axis.set_xlabel(caption, color=BAD if row == 2 else "black", fontsize=8)
    for row, name in enumerate(("clean", "perturbation", "adversarial")):
        axes[row][0].set_ylabel(name)
    if title:
        figure.suptitle(title, fontsize=10)
    figure.savefig(path)


def draw_curves(
    path: str | Path,
    epsilons: Sequence[float],
    curves: dict[str, Sequence[float]],
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
        axis.plot(epsilons, [100 * accuracy for accuracy in accuracies], marker="o", markersize=3, label=name)
    axis.set_xlabel(f"epsilon ({norm})")
    axis.set_ylabel("robust accuracy, %")
    axis.set_ylim(0, 101)
    axis.margins(x=0)
    axis.grid(alpha=0.3)
    axis.legend()
    if title:
        axis.set_title(title, fontsize=10)
    figure.savefig(path)
