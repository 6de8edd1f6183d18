"""Pictures of attacked images."""

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
