"""Image files as pixels: PNG and JPEG, to the same pixels as a served model decodes them.

A file becomes 8 bits of red, green and blue; grey is then (19595 red + 38470 green + 7471 blue + 32768) >> 16. Of 16
bits the higher 8 count. Transparency, colour profiles, gamma and the rotation in EXIF are not applied. Pillow decodes
JPEG by the accurate integer transform, as `erkeras.serving.export` asks of TensorFlow.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image

from erkeras.errors import InputError
from erkeras.files import read_regular

SUFFIXES = (".png", ".jpg", ".jpeg")
#: Of image files that are not read, so that none is left out without a word.
_OTHERS = (".avif", ".bmp", ".gif", ".heic", ".jp2", ".jxl", ".ppm", ".pgm", ".tif", ".tiff", ".webp")
_FORMATS = ("PNG", "JPEG")
#: The most pixels, as in a served model, and the most bytes of a file.
MOST_PIXELS, _MOST_BYTES = 2**24, 2**28


def list_images(folder: Path) -> list[Path]:
    """Lists the image files of a folder, by their suffix, sorted. Hidden files, as `._1.png` of a Mac, are none.

    Raises:
        InputError: where the folder cannot be read, or holds an image of another format.
    """
    try:
        paths = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except OSError as error:
        raise InputError(f"{folder} cannot be read ({error.strerror}): give a folder of images.") from error
    for path in paths:
        if path.suffix.lower() in _OTHERS:
            raise InputError(f"{path} is an image of another format: convert it to PNG, or move it away.")
    return [path for path in paths if path.suffix.lower() in SUFFIXES]


def count_channels(paths: Iterable[Path]) -> int:
    """Counts 1 where all of the image files are grey, else 3.

    Raises:
        InputError: as `decode_image`.
    """
    for path in paths:
        with _opened(path) as image:
            if not image.mode.startswith(("1", "L", "I")):  # I: 16 bits of grey
                return 3
    return 1


def decode_image(path: Path, channels: int, image_shape: Sequence[int] | None = None) -> np.ndarray:
    """Decodes one image file to uint8 `[height, width, channels]`; see the module for how.

    Args:
        path: a PNG or JPEG file.
        channels: 1 or 3.
        image_shape: the shape that it must have; another is refused before it is decoded.

    Raises:
        InputError: where the file is missing, not an image, too large, or of another shape.
    """
    with _opened(path) as image:
        shape = (image.height, image.width, channels)
        if image_shape is not None and shape != tuple(image_shape):
            raise wrong_size(path, shape, image_shape)
        pixels = np.asarray(_as_rgb(image).convert("L" if channels == 1 else "RGB"), np.uint8)
    return pixels.reshape(*pixels.shape[:2], channels)


def read_size(path: Path) -> tuple[int, int]:
    """Reads height and width of an image file, and decodes nothing.

    Raises:
        InputError: where the file is missing, not an image, or too large.
    """
    with _opened(path) as image:
        return image.height, image.width


def wrong_size(source: object, shape: Sequence[int], wanted: Sequence[int]) -> InputError:
    """Makes the error for an image that is not of a model's size."""
    return InputError(f"{source} is {_size(shape)} and the model takes {_size(wanted)}: resize the image.")


def _as_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):  # Pillow's own conversion clips at 255
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.mode == "CMYK":
        # As TensorFlow does. Pillow takes the inks for inverted, which only Adobe's files are.
        inks = np.asarray(image).astype(np.int32)
        light = 255 - inks if "adobe" in image.info else inks
        return Image.fromarray((light[..., 3:] * light[..., :3] // 255).astype(np.uint8))
    return image.convert("RGB")


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    try:
        content = read_regular(path, _MOST_BYTES)
        _check_size(path, *_size_of_png(content))
        with Image.open(io.BytesIO(content), formats=_FORMATS) as image:
            _check_size(path, *image.size)
            yield image
    except FileNotFoundError:
        raise InputError(f"{path} does not exist: give the path of an image.") from None
    except InputError:
        raise
    except Exception as error:  # whatever Pillow makes of a damaged file
        raise InputError(
            f"{path} is not an image that can be read: give a file of type {', '.join(SUFFIXES)}."
        ) from error


def _size_of_png(content: bytes) -> tuple[int, int]:
    # Before Pillow looks, which warns of a large one in words of its own.
    known = content[:8] == b"\x89PNG\r\n\x1a\n" and len(content) >= 24
    return struct.unpack(">II", content[16:24]) if known else (0, 0)


def _check_size(path: Path, width: int, height: int) -> None:
    if width * height > MOST_PIXELS:
        raise InputError(
            f"{path} is not an image that can be read: it says that it has {width} x {height} pixels, and "
            f"{MOST_PIXELS:,} are allowed."
        )


def _size(shape: Sequence[int]) -> str:
    height, width, channels = shape
    return f"{width} x {height} pixels of {channels} channel{'s' if channels > 1 else ''}"
