import numpy as np
import pytest
from PIL import Image

from erkeras.data import check_dataset, load_dataset
from erkeras.errors import InputError


def write_folder(path, classes=("cat", "dog"), images=20, size=(6, 5), colour=True):
    random = np.random.RandomState(0)
    for name in classes:
        (path / name).mkdir(parents=True)
        for number in range(images):
            pixels = random.randint(0, 256, (*size, 3) if colour else size, np.uint8)
            Image.fromarray(pixels).save(path / name / f"{number:02d}.png")
    return path


def test_digits_are_split_without_overlap_and_stratified():
    digits = load_dataset("digits")
    splits = (digits.train, digits.validation, digits.test)
    assert [len(split) for split in splits] == [1149, 288, 360]
    assert sorted(np.concatenate([split.indices for split in splits])) == list(range(1797))
    assert digits.image_shape == (8, 8, 1)
    for split in splits:
        fractions = np.bincount(split.labels) / len(split)
        np.testing.assert_allclose(fractions, 0.1, atol=0.01)
        assert split.images.dtype == np.float32
        assert split.images.min() == 0
        assert split.images.max() == 1


def test_the_split_is_the_same_every_time():
    first, second = load_dataset("digits"), load_dataset("digits")
    np.testing.assert_array_equal(first.validation.indices, second.validation.indices)
    # Fixed for good: results are reported on these images.
    assert first.test.indices[:5].tolist() == [1, 4, 5, 7, 8]


def test_folder(tmp_path):
    folder = write_folder(tmp_path / "animals")
    assert check_dataset(f"folder:{folder}") == (6, 5, 3)
    dataset = load_dataset(f"folder:{folder}")
    assert dataset.class_names == ("cat", "dog")
    assert dataset.image_shape == (6, 5, 3)
    assert [len(dataset.train), len(dataset.validation), len(dataset.test)] == [25, 7, 8]
    index = int(dataset.test.indices[0])
    name, number = ("cat", index) if index < 20 else ("dog", index - 20)
    np.testing.assert_array_equal(dataset.test.pixels[0], np.asarray(Image.open(folder / name / f"{number:02d}.png")))


def test_grey_folder_has_one_channel(tmp_path):
    assert load_dataset(f"folder:{write_folder(tmp_path, colour=False)}").image_shape == (6, 5, 1)


def test_folder_with_one_file_in_colour_has_three_channels(tmp_path):
    folder = write_folder(tmp_path, colour=False)
    last = sorted(folder.rglob("*.png"))[-1]
    Image.new("RGB", (5, 6), "red").save(last)
    name = f"folder:{folder}"
    assert check_dataset(name) == load_dataset(name).image_shape == (6, 5, 3)


@pytest.mark.parametrize(("scale", "kind"), [(1.0, float), (255, int), (255, np.uint16), (1.003, np.float32)])
def test_npz_of_floats_and_of_whole_numbers(tmp_path, scale, kind):
    images = (np.random.RandomState(0).rand(40, 5, 4) * scale).astype(kind)
    images[0, 0, 0] = scale
    np.savez(tmp_path / "set.npz", images=images, labels=(np.arange(40) % 2)[:, np.newaxis])
    dataset = load_dataset(f"npz:{tmp_path / 'set.npz'}")
    assert dataset.image_shape == (5, 4, 1)
    expected = images[dataset.test.indices][..., np.newaxis] / (255 if scale == 255 else 1)
    np.testing.assert_allclose(dataset.test.images, np.minimum(expected, 1), atol=1e-6)


def test_npz_of_bytes_is_divided_by_255(tmp_path):
    np.savez(tmp_path / "set.npz", images=np.full((40, 5, 4, 3), 51, np.uint8), labels=np.arange(40) % 2)
    assert load_dataset(f"npz:{tmp_path / 'set.npz'}").train.images.max() == np.float32(0.2)


def npz(tmp_path, **arrays):
    np.savez(tmp_path / "bad.npz", **arrays)
    return f"npz:{tmp_path / 'bad.npz'}"


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"pixels": np.zeros((4, 2, 2))}, "has the arrays pixels: give"),
        ({"images": np.zeros((4, 2, 2))}, "give an .npz file with the arrays images, labels"),
        ({"images": np.full((4, 2, 2), np.nan), "labels": np.zeros(4, int)}, "16 values that are not numbers"),
        ({"images": np.full((4, 2, 2), -0.5), "labels": np.zeros(4, int)}, "from -0.5 to -0.5"),
        (
            {"images": np.full((4, 2, 2), 255.0), "labels": np.zeros(4, int)},
            "from 255 to 255.*: divide the images by",
        ),
        ({"images": np.full((4, 2, 2), 256), "labels": np.zeros(4, int)}, r"give whole numbers in 0\.\.255"),
        ({"images": np.zeros((4, 2, 2)), "labels": np.array([0, 1, 0, 3.7])}, "type float64"),
        ({"images": np.full((4, 2, 2), 256.0), "labels": np.zeros(4, int)}, "from 256 to 256"),
        ({"images": np.zeros((4, 2)), "labels": np.zeros(4, int)}, r"shape \(4, 2\)"),
        ({"images": np.zeros((0, 2, 2)), "labels": np.zeros(0, int)}, r"shape \(0, 2, 2, 1\)"),
        ({"images": np.zeros((4, 2, 2, 2)), "labels": np.zeros(4, int)}, "1 or 3 channels"),
        ({"images": np.array([["a"]]).reshape(1, 1, 1), "labels": np.zeros(1, int)}, "give an array of numbers"),
        ({"images": np.zeros((4, 2, 2)), "labels": np.zeros(3, int)}, r"shape \(3,\) for 4 images"),
        ({"images": np.zeros((4, 2, 2)), "labels": np.zeros(4)}, "type float64"),
        ({"images": np.zeros((4, 2, 2)), "labels": -np.ones(4, int)}, "0 or more"),
        ({"images": np.zeros((4, 2, 2)), "labels": np.zeros(4, int)}, "1 classes with labels from 0 to 0: give two"),
        ({"images": np.zeros((4, 2, 2)), "labels": np.array([1, 2, 3, 4])}, "4 classes with labels from 1 to 4"),
        ({"images": np.zeros((4, 2, 2)), "labels": np.array([0, 1, 3, 3])}, "3 classes with labels from 0 to 3"),
        ({"images": np.zeros((2, 2, 2)), "labels": np.array([0, 2**32], np.uint64)}, "labels from 0 to 4294967296"),
        ({"images": np.zeros((4, 2, 2), object), "labels": np.zeros(4, int)}, "plain arrays"),
    ],
)
def test_bad_npz(tmp_path, arrays, message):
    with pytest.raises(InputError, match=message):
        check_dataset(npz(tmp_path, **arrays))


def test_too_few_images_to_split(tmp_path):
    name = npz(tmp_path, images=np.zeros((4, 2, 2)), labels=np.arange(4))
    with pytest.raises(InputError, match="give enough to split"):
        load_dataset(name)


@pytest.mark.parametrize("content", [b"", b"not a zip", b"PK\x03\x04 truncated"])
def test_a_file_that_is_not_npz(tmp_path, content):
    (tmp_path / "bad.npz").write_bytes(content)
    with pytest.raises(InputError, match=r"not an \.npz file of plain arrays"):
        check_dataset(f"npz:{tmp_path / 'bad.npz'}")


def test_a_truncated_npz(tmp_path):
    np.savez(tmp_path / "whole.npz", images=np.random.rand(40, 9, 9), labels=np.zeros(40, int))
    whole = (tmp_path / "whole.npz").read_bytes()
    for size in (len(whole) // 2, len(whole) - 10):
        (tmp_path / "cut.npz").write_bytes(whole[:size])
        with pytest.raises(InputError, match="plain arrays"):
            check_dataset(f"npz:{tmp_path / 'cut.npz'}")


@pytest.mark.parametrize("name", ["nope", "", "folder:", "npz:", "digits:", "stl10:x", "tiny_imagenets", "zip:x"])
def test_unknown_names(name):
    with pytest.raises(InputError, match="there is no data set"):
        check_dataset(name)


def test_bad_folders(tmp_path):
    with pytest.raises(InputError, match="is not a folder"):
        check_dataset(f"folder:{tmp_path / 'missing'}")
    with pytest.raises(InputError, match="has 0 subfolders"):
        check_dataset(f"folder:{tmp_path}")
    write_folder(tmp_path / "set")
    (tmp_path / "set" / "empty").mkdir()
    with pytest.raises(InputError, match="empty has no images"):
        check_dataset(f"folder:{tmp_path / 'set'}")
    (tmp_path / "set" / "empty" / "bad.png").write_bytes(b"not an image")
    with pytest.raises(InputError, match=r"bad\.png is not an image"):
        load_dataset(f"folder:{tmp_path / 'set'}")
    Image.new("RGB", (7, 7)).save(tmp_path / "set" / "empty" / "bad.png")
    with pytest.raises(InputError, match=r"7 x 7 pixels and .* 5 x 6: give images of one size"):
        load_dataset(f"folder:{tmp_path / 'set'}")
