"""Images from files and arrays."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from erkeras import pixels
from erkeras.data.arrays import read_arrays, read_shape
from erkeras.data.decoding import SUFFIXES, decode_image, list_images, read_size, wrong_size
from erkeras.data.storage import ImageFiles, check_size, fits
from erkeras.errors import InputError
from erkeras.processors import available_processors
from erkeras.stored import Pixels, StoredPixels


def read_images(paths: list[Path], channels: int) -> Pixels:
    """Reads image files of one size: uint8 `[n, height, width, channels]`.

    Where they do not fit into memory (`erkeras.data.storage`), their sizes alone are read, and each image when it is
    asked for.

    Raises:
        InputError: where a file is not an image, or of another size than the first.
    """
    files = ImageFiles(paths, channels)
    in_memory = fits(len(paths), files.image_shape)
    images = np.empty((len(paths) if in_memory else 0, *files.image_shape), np.uint8)

    def read(rows: np.ndarray) -> None:
        for row in rows:
            if in_memory:
                images[row] = files.read([row])[0]
            else:
                check_size(paths[row], (*read_size(paths[row]), channels), paths[0], files.image_shape)

    workers = available_processors()
    with ThreadPoolExecutor(workers) as threads:  # Pillow decodes outside the interpreter's lock
        for _ in threads.map(read, np.array_split(np.arange(len(paths)), workers)):
            pass
    return images if in_memory else StoredPixels(files, np.arange(len(paths)))


def to_unit_range(images: np.ndarray, source: str) -> np.ndarray:
    """Checks an array of images, and makes it uint8 0..255 or float32 in [0, 1], `[n, height, width, channels]`.

    Args:
        images: `[n, height, width]` or `[n, height, width, channels]` with 1 or 3 channels; whole numbers in 0..255, or
            floats in [0, 1]. See `erkeras.pixels.as_images`.
        source: what the array is called in an error.

    Raises:
        InputError: for another shape, no image at all, NaN, or values outside these ranges.
    """
    if images.ndim == 3:
        images = images[..., np.newaxis]
    if images.ndim != 4 or images.shape[-1] not in (1, 3) or 0 in images.shape:
        raise InputError(
            f"{source} has images of shape {images.shape}: "
            "give [n, height, width] or [n, height, width, channels] with 1 or 3 channels and n of 1 or more."
        )
    return np.asarray(pixels.as_pixels(images, source))


def read_labelled_paths(paths: Sequence[Path], image_shape: Sequence[int]) -> tuple[list[str], np.ndarray]:
    """Reads image files, folders of them, and .npz files with an array `images`: names, and float32 images in [0, 1].

    Args:
        paths: one or more.
        image_shape: the (height, width, channels) that every image must have; colours are converted.

    Raises:
        InputError: where a path is missing, holds no image, or one of another size.
    """
    names: list[str] = []
    images: list[np.ndarray] = []
    for path in paths:
        if path.suffix == ".npz" and not path.is_dir():
            found = _read_images_of(path, image_shape)
            names += [f"{path}[{row}]" for row in range(len(found))]
            images.append(pixels.as_floats(found))
            continue
        files = list_images(path) if path.is_dir() else [path]
        if not files:
            raise InputError(f"{path} has no images: give a folder with files of type {', '.join(SUFFIXES)}.")
        names += map(str, files)
        images.append(pixels.as_floats(np.stack([decode_image(file, image_shape[2], image_shape) for file in files])))
    return names, np.concatenate(images)


def _read_images_of(path: Path, image_shape: Sequence[int]) -> np.ndarray:
    shape = read_shape(path, "images")  # of another size, they are not read
    whole = shape if len(shape) == 4 else (*shape, 1)
    if len(whole) == 4 and whole[1:] != tuple(image_shape) and whole[3] in (1, 3) and 0 not in whole:
        raise wrong_size(f"{path}[0]", whole[1:], image_shape)
    return to_unit_range(read_arrays(path, ("images",))["images"], str(path))
