"""Images that stay on disk until they are asked for."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np


class Source(Protocol):
    """Says what holds images: files that are decoded, or a file of bytes."""

    @property
    def image_shape(self) -> tuple[int, ...]: ...
    def read(self, rows: np.ndarray) -> np.ndarray: ...


class StoredPixels:
    """Stands for uint8 `[n, height, width, channels]` on disk: an index reads, and gives an array.

    Example:
        pixels[10:20]  # reads ten images

    Args:
        source: reads images by their rows, uint8.
        rows: int `[n]`, which of the source's images these are, in their order.

    Attributes:
        source: as given.
        failure: what the last `read_in_graph` raised, which TensorFlow wraps into an error of its own; None without.
    """

    dtype = np.dtype(np.uint8)
    ndim = 4

    def __init__(self, source: Source, rows: np.ndarray) -> None:
        self.source = source
        self._rows = np.asarray(rows)
        self.failure: Exception | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self._rows), *self.source.image_shape)

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, rows: Any) -> Any:
        return self.source.read(self._rows[rows])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """Reads all of them."""
        return self[:].astype(dtype or self.dtype, copy=False)

    def take(self, rows: np.ndarray | slice) -> StoredPixels:
        """Stands for some of them, and reads none."""
        return StoredPixels(self.source, self._rows[rows])

    def read_in_graph(self, rows: np.ndarray) -> np.ndarray:
        """Reads images as an operation of a graph; `failure` keeps what went wrong."""
        try:
            found: np.ndarray = self[rows]
        except Exception as error:
            self.failure = error
            raise
        return found


Pixels = np.ndarray | StoredPixels
