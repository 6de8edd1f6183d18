"""Images beyond memory: whether they fit, and where they are read from where they do not."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from erkeras.data.decoding import decode_image
from erkeras.errors import InputError

#: Gibibytes of images that are kept in memory; by default an eighth of the machine's memory.
MEMORY_VARIABLE = "ERKERAS_MEMORY"
_FRACTION = 8
_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))


def fits(count: int, image_shape: tuple[int, ...]) -> bool:
    """Tells whether so many images are kept in memory.

    Raises:
        InputError: where ERKERAS_MEMORY is no number of 0 or more.
    """
    return count * int(np.prod(image_shape)) <= memory_for_images()


def memory_for_images() -> int:
    """Gives the bytes that images may take in memory; see `fits`."""
    asked = os.environ.get(MEMORY_VARIABLE)
    if asked is None:
        return _machine_memory() // _FRACTION
    try:
        gibibytes = float(asked)
    except ValueError:
        gibibytes = -1.0
    if not 0 <= gibibytes < 2**30:
        raise InputError(
            f"{MEMORY_VARIABLE} is {asked[:50]!r}: give how many gibibytes of images are kept in memory, as 0.5."
        )
    return int(gibibytes * 2**30)


def _machine_memory() -> int:
    known = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")] if hasattr(os, "sysconf") else [2**33]
    for path in _LIMITS:  # of a container
        try:
            known.append(int(path.read_text()))
        except (OSError, ValueError):
            continue
    return min(known)


class ImageFiles:
    """Reads image files of one size, and decodes each when it is needed.

    Args:
        paths: of the files.
        channels: 1 or 3.

    Raises:
        InputError: where the first is no image.
    """

    def __init__(self, paths: list[Path], channels: int) -> None:
        self.paths = paths
        self.image_shape: tuple[int, ...] = decode_image(paths[0], channels).shape

    def read(self, rows: Sequence[int] | np.ndarray) -> np.ndarray:
        """Decodes some files: uint8 `[n, height, width, channels]`.

        Raises:
            InputError: where one is not an image, or of another size than the first.
        """
        images = np.empty((len(rows), *self.image_shape), np.uint8)
        for place, row in enumerate(rows):
            image = decode_image(self.paths[row], self.image_shape[2])
            check_size(self.paths[row], image.shape, self.paths[0], self.image_shape)
            images[place] = image
        return images


def check_size(path: Path, shape: tuple[int, ...], first: Path, wanted: tuple[int, ...]) -> None:
    """Raises InputError for an image of another size than the first of a set."""
    if shape != wanted:
        raise InputError(
            f"{path} is {shape[1]} x {shape[0]} pixels and {first} is {wanted[1]} x {wanted[0]}: give images of one "
            "size."
        )


class StoredBytes:
    """Keeps images as bytes in a temporary file in TMPDIR. The file is deleted with the process.

    Args:
        parts: uint8 `[n, height, width, channels]`, one after the other.
        image_shape: (height, width, channels).

    Attributes:
        count: how many images there are.

    Raises:
        InputError: where the file cannot be written.
    """

    def __init__(self, parts: Iterable[np.ndarray], image_shape: tuple[int, ...]) -> None:
        self.image_shape = image_shape
        self.count = 0
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 (open as long as this is)
        try:
            for part in parts:
                self._file.write(np.ascontiguousarray(part, np.uint8).data)
                self.count += len(part)
            self._file.flush()
        except OSError as error:
            self._file.close()
            raise InputError(
                f"the images cannot be kept in {tempfile.gettempdir()} ({error.strerror or error}): make room there, "
                f"or set TMPDIR to another folder, or {MEMORY_VARIABLE} to more gibibytes of memory."
            ) from error

    def read(self, rows: np.ndarray) -> np.ndarray:
        """Reads some images: uint8 `[n, height, width, channels]`."""
        size = int(np.prod(self.image_shape))
        # No memory map: its pages would count as this process' memory.
        read = [os.pread(self._file.fileno(), size, int(row) * size) for row in rows]
        return np.frombuffer(b"".join(read), np.uint8).reshape(len(rows), *self.image_shape)
