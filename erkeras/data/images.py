"""Images from files and arrays."""

from __future__ import annotations

import os
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image

from erkeras.errors import InputError

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp")


def list_images(folder: Path) -> list[Path]:
    """The image files of a folder, by their suffix, sorted."""
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)


def count_channels(paths: Iterable[Path]) -> int:
    """1 where all of the image files are grey, else 3.

    Raises:
        InputError: as `decode_image`.
    """
    for path in paths:
        with _opened(path) as image:
            if not image.mode.startswith(("1", "L", "I")):  # I: 16 bits of grey
                return 3
    return 1


def decode_image(path: Path, channels: int) -> np.ndarray:
    """One image file -> uint8 `[height, width, channels]`; of 16 bits, the higher 8, as TensorFlow decodes them.

    Args:
        path: a PNG, JPEG, BMP or WebP file.
        channels: 1 or 3.

    Raises:
        InputError: where the file is missing or not an image.
    """
    with _opened(path) as image:
        if image.mode.startswith("I"):  # Pillow's own conversion clips at 255
            image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
        pixels = np.asarray(image.convert("L" if channels == 1 else "RGB"), np.uint8)
    return pixels.reshape(*pixels.shape[:2], channels)


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    try:
        with Image.open(path) as image:
            yield image
    except FileNotFoundError:
        raise InputError(f"{path} does not exist: give the path of an image.") from None
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise InputError(
            f"{path} is not an image that can be read: give a file of type {', '.join(SUFFIXES)}."
        ) from error


def read_images(paths: list[Path], channels: int) -> np.ndarray:
    """Image files of one size -> uint8 `[n, height, width, channels]`.

    Raises:
        InputError: where a file is not an image, or of another size than the first.
    """
    first = decode_image(paths[0], channels)
    images = np.empty((len(paths), *first.shape), np.uint8)

    def decode(rows: np.ndarray) -> None:
        for row in rows:
            image = decode_image(paths[row], channels)
            if image.shape != first.shape:
                raise InputError(
                    f"{paths[row]} is {image.shape[1]} x {image.shape[0]} pixels and {paths[0]} is "
                    f"{first.shape[1]} x {first.shape[0]}: give images of one size."
                )
            images[row] = image

    workers = os.cpu_count() or 1
    with ThreadPoolExecutor(workers) as threads:  # Pillow decodes outside the interpreter's lock
        for _ in threads.map(decode, np.array_split(np.arange(len(paths)), workers)):
            pass
    return images


def to_unit_range(images: np.ndarray, source: str) -> np.ndarray:
    """An array of images -> uint8 0..255 or float32 in [0, 1], `[n, height, width, channels]`.

    Args:
        images: `[n, height, width]` or `[n, height, width, channels]` with 1 or 3 channels; unsigned bytes,
            or numbers in [0, 1], or numbers in [0, 255].
        source: what the array is called in an error.

    Raises:
        InputError: for another shape, no image at all, NaN, or values outside both ranges.
    """
    if images.ndim == 3:
        images = images[..., np.newaxis]
    if images.ndim != 4 or images.shape[-1] not in (1, 3) or 0 in images.shape:
        raise InputError(
            f"{source} has images of shape {images.shape}: "
            "give [n, height, width] or [n, height, width, channels] with 1 or 3 channels and n of 1 or more."
        )
    if images.dtype == np.uint8:
        return images
    if images.dtype.kind not in "fiub":
        raise InputError(f"{source} has images of type {images.dtype}: give numbers.")
    images = images.astype(np.float32)
    if not np.isfinite(images).all():
        raise InputError(f"{source} has pixels that are not finite numbers: give values in [0, 1] or [0, 255].")
    low, high = float(images.min()), float(images.max())
    if low < 0 or high > 255:
        raise InputError(f"{source} has pixels from {low:g} to {high:g}: give values in [0, 1] or [0, 255].")
    return images if high <= 1 else images / np.float32(255)


def read_labelled_paths(paths: Sequence[Path], image_shape: Sequence[int]) -> tuple[list[str], np.ndarray]:
    """Image files, folders of them, and .npz files with an array `images` -> names and float32 images in [0, 1].

    Args:
        paths: one or more.
        image_shape: the (height, width, channels) that every image must have; colours are converted.

    Raises:
        InputError: where a path is missing, holds no image, or one of another size.
    """
    names: list[str] = []
    images: list[np.ndarray] = []
    for path in paths:
        if path.suffix == ".npz":
            pixels = as_images(to_unit_range(read_arrays(path, ("images",))["images"], str(path)))
            found = [(f"{path}[{row}]", image) for row, image in enumerate(pixels)]
        else:
            files = list_images(path) if path.is_dir() else [path]
            if not files:
                raise InputError(f"{path} has no images: give a folder with files of type {', '.join(SUFFIXES)}.")
            found = [(str(file), as_images(decode_image(file, image_shape[2]))) for file in files]
        for name, image in found:
            if image.shape != tuple(image_shape):
                raise InputError(
                    f"{name} is {_size(image.shape)} and the model takes {_size(image_shape)}: resize the image."
                )
            names.append(name)
            images.append(image)
    return names, np.stack(images)


def as_images(pixels: np.ndarray) -> np.ndarray:
    """uint8 0..255 or floats in [0, 1] -> float32 in [0, 1]."""
    images = pixels.astype(np.float32, copy=False)
    return images / np.float32(255) if pixels.dtype == np.uint8 else images


def read_arrays(path: Path, names: tuple[str, ...]) -> dict[str, np.ndarray]:
    """Named arrays of an .npz file, never a pickle.

    Raises:
        InputError: where the file is missing, not an .npz, or lacks one of the arrays.
    """
    form = ", ".join(f"{name}=..." for name in names)
    try:
        with np.load(path, allow_pickle=False) as archive:
            missing = [name for name in names if name not in archive]
            if missing:
                raise InputError(
                    f"{path} has the arrays {', '.join(archive.files) or 'none'}: "
                    f"give an .npz file with the arrays {', '.join(names)}."
                )
            return {name: archive[name] for name in names}
    except FileNotFoundError:
        raise InputError(f"{path} does not exist: give the path of an .npz file.") from None
    except InputError:
        raise
    except (OSError, ValueError, EOFError, AttributeError, TypeError, zipfile.BadZipFile, zlib.error) as error:
        raise InputError(
            f"{path} is not an .npz file of plain arrays: write it with numpy.savez(path, {form})."
        ) from error


def _size(shape: Sequence[int]) -> str:
    height, width, channels = shape
    return f"{width} x {height} pixels of {channels} channel{'s' if channels > 1 else ''}"
