"""A file is the same pixels here and in a served model, or refused by both."""

import io
import os
import struct
import zlib

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from erkeras.data import read_labelled_paths
from erkeras.data.decoding import decode_image, list_images
from erkeras.errors import InputError
from erkeras.serving.export import decode

RANDOM = np.random.RandomState(0)
SMOOTH = np.cumsum(np.cumsum(RANDOM.randn(21, 34, 3), 0), 1)
COLOUR = np.clip(128 + 3 * SMOOTH, 0, 255).astype(np.uint8)
GREY = COLOUR[..., 0]


def encode(pixels, kind, mode=None, **options):
    stream = io.BytesIO()
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    (image.convert(mode) if mode else image).save(stream, kind, **options)
    return stream.getvalue()


def rotated():
    exif = Image.Exif()
    exif[0x112] = 6
    return exif


def with_gamma(png):
    chunk = b"gAMA" + struct.pack(">I", 100000)
    return png[:33] + struct.pack(">I", 4) + chunk + struct.pack(">I", zlib.crc32(chunk)) + png[33:]


FILES = {
    "grey PNG": encode(GREY, "PNG"),
    "colour PNG": encode(COLOUR, "PNG"),
    "PNG with transparency": encode(np.dstack([COLOUR, 255 - GREY]), "PNG"),
    "grey PNG with transparency": encode(np.dstack([GREY, 255 - GREY]), "PNG"),
    "palette PNG": encode(Image.fromarray(COLOUR).quantize(64), "PNG"),
    "PNG of 16 bits": encode((GREY.astype(np.uint16) << 8) | 200, "PNG"),
    "PNG of 1 bit": encode(GREY > 127, "PNG"),
    "animated PNG": encode(GREY, "PNG", save_all=True, append_images=[Image.fromarray(255 - GREY)]),
    "PNG with gamma": with_gamma(encode(COLOUR, "PNG")),
    "grey JPEG": encode(GREY, "JPEG"),
    "colour JPEG": encode(COLOUR, "JPEG", quality=95),
    "colour JPEG, few colours": encode(COLOUR, "JPEG", quality=40, subsampling=2),
    "progressive JPEG": encode(COLOUR, "JPEG", progressive=True),
    "JPEG of red, green, blue": encode(COLOUR, "JPEG", keep_rgb=True),
    "rotated JPEG": encode(COLOUR, "JPEG", exif=rotated()),
    "CMYK JPEG": encode(COLOUR, "JPEG", mode="CMYK"),
}


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", FILES)
def test_the_same_pixels(tmp_path, name, channels):
    (tmp_path / "image.png").write_bytes(FILES[name])
    here = decode_image(tmp_path / "image.png", channels)
    np.testing.assert_array_equal(decode(tf.constant(FILES[name]), channels), here)
    assert here.shape == (21, 34, channels)
    if "JPEG" not in name and channels == 3 and "palette" not in name and "1 bit" not in name:
        expected = COLOUR if "grey" not in name and not name.endswith(("16 bits", "animated PNG")) else GREY[..., None]
        np.testing.assert_array_equal(here, np.broadcast_to(expected, here.shape))


@pytest.mark.parametrize("kind", ["BMP", "GIF", "WEBP", "TIFF", "PPM", "EPS"])
def test_other_formats_are_refused_by_both(tmp_path, monkeypatch, kind):
    monkeypatch.setenv("PATH", "")  # whatever Pillow would start to read it is not there
    content = encode(COLOUR, kind)
    (tmp_path / "image.png").write_bytes(content)
    with pytest.raises(InputError, match="not an image that can be read"):
        decode_image(tmp_path / "image.png", 3)
    with pytest.raises(tf.errors.InvalidArgumentError, match="neither PNG nor JPEG"):
        decode(tf.constant(content), 3)


def test_an_image_of_another_format_is_not_left_out_without_a_word(tmp_path):
    Image.fromarray(GREY).save(tmp_path / "1.png")
    for name in ("._1.png", ".DS_Store", "Thumbs.db", "notes.txt"):
        (tmp_path / name).write_bytes(b"no image")
    assert list_images(tmp_path) == [tmp_path / "1.png"]
    Image.fromarray(GREY).save(tmp_path / "2.webp")
    with pytest.raises(InputError, match=r"2\.webp is an image of another format: convert it to PNG"):
        list_images(tmp_path)


@pytest.mark.parametrize("name", ["x.png", "x.npz"])
def test_a_pipe_is_refused_and_not_waited_for(tmp_path, name):
    os.mkfifo(tmp_path / name)
    with pytest.raises(InputError, match=rf"{name} is not an"):
        read_labelled_paths([tmp_path / name], (8, 8, 1))


def test_a_file_that_says_it_is_large_is_not_decoded(tmp_path):
    png = bytearray(encode(GREY, "PNG"))
    png[16:24] = struct.pack(">II", 60000, 60000)
    png[29:33] = struct.pack(">I", zlib.crc32(png[12:29]))
    (tmp_path / "large.png").write_bytes(png)
    with pytest.raises(InputError, match="60000 x 60000 pixels, and 16,777,216 are allowed"):
        decode_image(tmp_path / "large.png", 1)
