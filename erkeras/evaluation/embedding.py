"""Codes in two dimensions, clean and attacked (Figures 5 and 6)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from erkeras.errors import InputError
from erkeras.evaluation.pictures import plain, save

#: t-SNE's, and the fewest points it works with.
_PERPLEXITY = 30.0
_FEWEST = 10


def embed_codes(model: Any, clean: np.ndarray, attacked: np.ndarray, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Projects the codes that a model gives images, clean and attacked; see `project_codes`.

    Args:
        model: an `ERClassifier`.
        clean, attacked: float32 `[n, height, width, channels]`.
        seed: of t-SNE's random numbers.

    Raises:
        InputError: for a model without codes, and as `project_codes`.
    """
    if not hasattr(model, "encoder"):
        raise InputError(f"a model of type {type(model).__name__} has no codes: give an ERClassifier.")
    codes = [model.encoder.predict(images, batch_size=250, verbose=0) for images in (clean, attacked)]
    return project_codes(codes[0], codes[1], seed)


def project_codes(clean: np.ndarray, attacked: np.ndarray, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Projects clean and attacked codes at once by t-SNE, so that the two share their axes.

    Args:
        clean, attacked: float `[n, code_size]`, 10 images or more.
        seed: of t-SNE's random numbers.

    Returns:
        Points of the clean and of the attacked codes, each float `[n, 2]`.

    Raises:
        InputError: for too few images.
    """
    from sklearn.manifold import TSNE

    n = len(clean)
    if n < _FEWEST:
        raise InputError(f"there are {n} images to embed: give {_FEWEST} or more.")
    codes = np.concatenate([clean, attacked]).astype(np.float64)
    perplexity = min(_PERPLEXITY, (len(codes) - 1) / 3)
    points = TSNE(perplexity=perplexity, init="pca", random_state=seed).fit_transform(codes)
    return points[:n], points[n:]


def draw_embedding(
    path: str | Path,
    clean: np.ndarray,
    attacked: np.ndarray,
    labels: np.ndarray,
    successful: np.ndarray,
    class_names: Sequence[str],
    title: str = "",
) -> None:
    """Draws two panels, clean and attacked: one colour a class, a triangle where the attack succeeded.

    Args:
        path: PNG file to write.
        clean, attacked: points, float `[n, 2]`.
        labels: int `[n]`, the true ones.
        successful: bool `[n]`.
        class_names: by label.
        title: above the picture.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11.0, 5.2), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, 2, sharex=True, sharey=True)
    panels = (("clean", clean, np.zeros(len(labels), bool)), ("attacked", attacked, successful))
    for axis, (name, points, triangles) in zip(axes, panels, strict=True):
        for marker, size, rows in ((".", 22, ~triangles), ("v", 20, triangles)):
            for label in range(len(class_names)):
                of_class = rows & (labels == label)
                axis.scatter(*points[of_class].T, s=size, marker=marker, color=_colour(label), linewidths=0)
        axis.set_title(name if not triangles.any() else f"{name} (triangles: {triangles.sum()} misclassified)")
        axis.set_xticks([])
        axis.set_yticks([])
    for label, name in enumerate(class_names[:20]):
        axes[1].scatter([], [], color=_colour(label), label=plain(name))
    for text in figure.legend(loc="outside right center", fontsize=8, frameon=False).get_texts():
        text.set_parse_math(False)
    if title:
        figure.suptitle(plain(title), fontsize=10, parse_math=False)
    save(figure, path)


def _colour(label: int) -> tuple[float, ...]:
    from matplotlib import colormaps

    return colormaps["tab20" if label >= 10 else "tab10"](label % 20)
