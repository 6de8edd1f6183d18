"""Tiny ImageNet from a small folder of the archive's layout."""

import shutil

import numpy as np
import pytest
from PIL import Image

from erkeras.data import check_dataset, load_dataset
from erkeras.errors import InputError

WNIDS = ("n03", "n01", "n02")  # wnids.txt is not sorted


def save(path, random, grey=False):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = random.randint(0, 256, (8, 6) if grey else (8, 6, 3), np.uint8)
    Image.fromarray(pixels).resize((64, 64)).save(path, format="JPEG")


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    """Three classes of 20 training images, every fifth of them grey, and 12 labelled validation images."""
    folder, random = tmp_path_factory.mktemp("set") / "tiny-imagenet-200", np.random.RandomState(0)
    for wnid in WNIDS:
        for number in range(20):
            save(folder / "train" / wnid / "images" / f"{wnid}_{number}.JPEG", random, grey=number % 5 == 0)
        (folder / "train" / wnid / f"{wnid}_boxes.txt").write_text("boxes are not read\n")
    rows = []
    for number in range(12):
        save(folder / "val" / "images" / f"val_{number}.JPEG", random)
        rows.append(f"val_{number}.JPEG\t{WNIDS[number % 3]}\t0\t32\t44\t62\n")
    (folder / "val" / "val_annotations.txt").write_text("".join(rows))
    save(folder / "test" / "images" / "test_0.JPEG", random)
    (folder / "wnids.txt").write_text("\n".join(WNIDS))
    (folder / "words.txt").write_text("n00\tentity\nn01\tgoldfish, Carassius auratus\nn03\tfire salamander\n")
    return folder


@pytest.fixture
def folder(original, tmp_path):
    """A copy to damage."""
    return shutil.copytree(original, tmp_path / "tiny-imagenet-200")


def decoded(path):
    return np.asarray(Image.open(path).convert("RGB"))


def test_splits_labels_and_names(original):
    name = f"tiny_imagenet:{original}"
    assert check_dataset(name) == (64, 64, 3)
    dataset = load_dataset(name)
    assert (dataset.name, dataset.image_shape, dataset.classes) == (name, (64, 64, 3), 3)
    # n02 has no line in words.txt.
    assert dataset.class_names == ("goldfish", "n02", "fire salamander")
    assert [len(dataset.train), len(dataset.validation), len(dataset.test)] == [54, 6, 12]
    np.testing.assert_array_equal(np.bincount(dataset.validation.labels), [2, 2, 2])
    assert sorted(np.concatenate([dataset.train.indices, dataset.validation.indices])) == list(range(60))
    np.testing.assert_array_equal(dataset.test.indices, np.arange(12))
    np.testing.assert_array_equal(dataset.test.labels, [2, 0, 1] * 4)


def test_every_image_is_its_file_in_three_channels(original):
    dataset = load_dataset(f"tiny_imagenet:{original}")
    # In the order of the files' names: n01_0, n01_1, n01_10, ...
    paths = [path for wnid in sorted(WNIDS) for path in sorted((original / "train" / wnid / "images").iterdir())]
    greys = 0
    for split in (dataset.train, dataset.validation):
        assert split.pixels.dtype == np.uint8
        for pixels, label, index in zip(split.pixels, split.labels, split.indices, strict=True):
            np.testing.assert_array_equal(pixels, decoded(paths[index]))
            assert paths[index].name.startswith(sorted(WNIDS)[label])
            greys += (pixels == pixels[..., :1]).all()
    assert greys == 12
    for pixels, index in zip(dataset.test.pixels, dataset.test.indices, strict=True):
        np.testing.assert_array_equal(pixels, decoded(original / "val" / "images" / f"val_{index}.JPEG"))


def test_the_first_classes_keep_their_images_and_indices(original):
    whole, part = load_dataset(f"tiny_imagenet:{original}"), load_dataset(f"tiny_imagenet:{original}:2")
    assert check_dataset(part.name) == (64, 64, 3)
    assert part.class_names == whole.class_names[:2]
    assert [len(part.train), len(part.validation), len(part.test)] == [36, 4, 8]
    chosen = whole.test.take(np.flatnonzero(whole.test.labels < 2))
    for field in ("pixels", "labels", "indices"):
        np.testing.assert_array_equal(getattr(part.test, field), getattr(chosen, field))
    pictures = {
        index: pixels
        for split in (whole.train, whole.validation)
        for index, pixels in zip(split.indices, split.pixels, strict=True)
    }
    for index, pixels in zip(part.train.indices, part.train.pixels, strict=True):
        np.testing.assert_array_equal(pixels, pictures[index])


def test_where_it_is_looked_for_without_a_path(original, tmp_path, monkeypatch):
    monkeypatch.delenv("TINY_IMAGENET_DIR", raising=False)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"^tiny-imagenet-200 is not a folder: give .*TINY_IMAGENET_DIR"):
        check_dataset("tiny_imagenet")
    monkeypatch.setenv("TINY_IMAGENET_DIR", str(original))
    assert check_dataset("tiny_imagenet") == (64, 64, 3)
    assert load_dataset("tiny_imagenet::2").classes == 2
    monkeypatch.delenv("TINY_IMAGENET_DIR")
    monkeypatch.chdir(original.parent)
    assert load_dataset("tiny_imagenet").classes == 3


def test_without_words_the_classes_are_called_by_their_wnids(folder):
    (folder / "words.txt").unlink()
    assert load_dataset(f"tiny_imagenet:{folder}").class_names == ("n01", "n02", "n03")


def cut(path, size):
    path.write_bytes(path.read_bytes()[:size])


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / "wnids.txt").unlink(), r"wnids\.txt cannot be read \(FileNotFoundError\)"),
        (lambda folder: (folder / "wnids.txt").write_text("n01\n"), r"wnids\.txt names 1 classes"),
        (lambda folder: (folder / "val" / "val_annotations.txt").unlink(), "annotations.txt cannot be read"),
        # In the middle of the second line's wnid, and at the end of the second line.
        (lambda folder: cut(folder / "val" / "val_annotations.txt", 38), r"has 'val_1.JPEG\\tn' in line 2, not a"),
        (
            lambda folder: cut(folder / "val" / "val_annotations.txt", 52),
            r"labels 2 images and .*images has 12, val_10",
        ),
        (lambda folder: (folder / "val" / "images" / "val_7.JPEG").unlink(), r"12 images and .* 11, val_7\.JPEG"),
        (lambda folder: shutil.rmtree(folder / "val" / "images"), "val/images has no images of type"),
        (lambda folder: shutil.rmtree(folder / "train" / "n02"), "train/n02/images has no images of type"),
        (
            lambda folder: [path.unlink() for path in (folder / "train" / "n03" / "images").iterdir()],
            "train/n03/images has no images of type",
        ),
        (
            lambda folder: (folder / "val" / "val_annotations.txt").write_text(
                (folder / "val" / "val_annotations.txt").read_text().replace("n02", "n01")
            ),
            "val has no image of n02",
        ),
    ],
)
def test_missing_and_damaged_parts(folder, damage, message):
    damage(folder)
    with pytest.raises(InputError, match=message) as caught:
        check_dataset(f"tiny_imagenet:{folder}")
    assert str(caught.value).endswith("or set TINY_IMAGENET_DIR to it.")


@pytest.mark.parametrize("classes", ["0", "1", "4", "200"])
def test_a_number_of_classes_that_there_is_not(original, classes):
    with pytest.raises(InputError, match=f"asks for {classes} of 3 classes: give 2 to 3"):
        check_dataset(f"tiny_imagenet:{original}:{classes}")


def test_damaged_and_odd_images(folder):
    (folder / "train" / "n01" / "images" / "n01_3.JPEG").write_bytes(b"not an image")
    with pytest.raises(InputError, match=r"n01_3\.JPEG is not an image"):
        load_dataset(f"tiny_imagenet:{folder}")
    Image.new("RGB", (63, 64)).save(folder / "train" / "n01" / "images" / "n01_3.JPEG")
    with pytest.raises(InputError, match=r"n01_3\.JPEG is 63 x 64 pixels and .* 64 x 64"):
        load_dataset(f"tiny_imagenet:{folder}")
