"""Image files as bytes: whole ones, and ones whose head says what it likes."""

import io
import struct
import zlib

import numpy as np
from PIL import Image


def encoded(image, kind="PNG"):
    buffer = io.BytesIO()
    image.save(buffer, kind)
    return buffer.getvalue()


def png(pixels):
    """A PNG file of a grey image `[height, width, 1]` in [0, 1]."""
    return encoded(Image.fromarray(np.round(pixels[..., 0] * 255).astype(np.uint8)))


def png_that_says(width, height):
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(100))) + chunk(b"IEND", b"")


def jpeg_that_says(width, height):
    data = encoded(Image.new("L", (300, 200)), "JPEG")
    assert data.count(struct.pack(">HH", 200, 300)) == 1
    return data.replace(struct.pack(">HH", 200, 300), struct.pack(">HH", height, width))
