import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from erkeras.data import read_labelled_paths
from erkeras.data.decoding import count_channels
from erkeras.errors import InputError


def test_files_folders_and_arrays_together(tmp_path):
    pixels = np.arange(64, dtype=np.uint8).reshape(8, 8)
    Image.fromarray(pixels).save(tmp_path / "one.png")
    (tmp_path / "more").mkdir()
    Image.fromarray(np.stack([pixels] * 3, axis=-1)).save(tmp_path / "more" / "colour.png")
    np.savez(tmp_path / "array.npz", images=np.stack([pixels / 255] * 2))
    paths = [tmp_path / "one.png", tmp_path / "more", tmp_path / "array.npz"]
    names, images = read_labelled_paths(paths, (8, 8, 1))
    assert names[1:] == [str(tmp_path / "more" / "colour.png"), f"{paths[2]}[0]", f"{paths[2]}[1]"]
    assert images.dtype == np.float32
    for image in images:
        np.testing.assert_allclose(image[..., 0], pixels / 255, atol=1e-6)


@pytest.mark.parametrize("channels", [1, 3])
def test_of_16_bits_of_grey_the_higher_8(tmp_path, channels):
    values = np.array([[0, 255, 256, 4096, 65535]], np.uint16)
    Image.fromarray(values).save(tmp_path / "deep.png")
    _, images = read_labelled_paths([tmp_path / "deep.png"], (1, 5, channels))
    np.testing.assert_allclose(images[0, 0] * 255, np.tile([[0], [0], [1], [16], [255]], channels), atol=1e-4)
    assert count_channels([tmp_path / "deep.png"]) == 1
    encoded = (tmp_path / "deep.png").read_bytes()
    np.testing.assert_allclose(tf.io.decode_image(encoded, channels) / 255, images[0], atol=1e-6)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: path / "missing.png", "does not exist"),
        (lambda path: path, "has no images"),
        (lambda path: (path / "text.png").write_text("hello") and path / "text.png", "not an image"),
        (lambda path: Image.new("L", (9, 8)).save(path / "wide.png") or path / "wide.png", "9 x 8 pixels of 1 channel"),
        (
            lambda path: np.savez(path / "a.npz", labels=[1]) or path / "a.npz",
            "give an .npz file with the arrays images",
        ),
    ],
)
def test_bad_paths(tmp_path, make, message):
    with pytest.raises(InputError, match=message):
        read_labelled_paths([make(tmp_path)], (8, 8, 1))
