"""Folders of images that have splits of their own."""

import shutil

import numpy as np
import pytest
from PIL import Image

from erkeras.data import check_dataset, load_dataset
from erkeras.errors import InputError


def write(folder, images=20, first=0, size=(6, 5), mode="L"):
    """Writes images of one value each, which tells the image."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(images):
        Image.new(mode, size[::-1], first + number if mode == "L" else (first + number, 0, 0)).save(
            folder / f"{number:03d}.png"
        )


@pytest.fixture
def animals(tmp_path):
    """Three splits: ants are 0 and on, bees 100 and on; of the others 50 and 60 more."""
    for split, more, images in (("train", 0, 30), ("validation", 50, 4), ("test", 60, 3)):
        for name, first in (("ant", 0), ("bee", 100)):
            write(tmp_path / split / name, images, first + more)
    return tmp_path


def values(split):
    return split.pixels[:, 0, 0, 0].tolist()


def test_three_splits_are_kept(animals):
    name = f"folder:{animals}"
    assert check_dataset(name) == (6, 5, 1)
    dataset = load_dataset(name)
    assert dataset.class_names == ("ant", "bee")
    assert values(dataset.train) == [*range(30), *range(100, 130)]
    assert values(dataset.validation) == [50, 51, 52, 53, 150, 151, 152, 153]
    assert values(dataset.test) == [60, 61, 62, 160, 161, 162]
    for split in (dataset.train, dataset.validation, dataset.test):
        assert split.labels.tolist() == [value >= 100 for value in values(split)]
        assert split.indices.tolist() == list(range(len(split)))


@pytest.mark.parametrize("called", ["val", "valid"])
def test_validation_has_other_names(animals, called):
    expected = load_dataset(f"folder:{animals}").validation.digest
    (animals / "validation").rename(animals / called)
    assert load_dataset(f"folder:{animals}").validation.digest == expected


def test_without_validation_it_is_carved_from_the_training_images(animals):
    shutil.rmtree(animals / "validation")
    dataset = load_dataset(f"folder:{animals}")
    assert [len(dataset.train), len(dataset.validation), len(dataset.test)] == [54, 6, 6]
    assert sorted(values(dataset.train) + values(dataset.validation)) == [*range(30), *range(100, 130)]
    assert np.array_equal(
        values(dataset.validation), dataset.validation.indices % 30 + dataset.validation.indices // 30 * 100
    )


def test_without_test_the_validation_images_are_for_reporting(animals):
    shutil.rmtree(animals / "test")
    dataset = load_dataset(f"folder:{animals}")
    assert values(dataset.test) == [50, 51, 52, 53, 150, 151, 152, 153]
    assert [len(dataset.train), len(dataset.validation)] == [54, 6]


def test_training_images_alone_are_split_as_a_folder_of_classes_is(animals):
    for split in ("validation", "test"):
        shutil.rmtree(animals / split)
    nested, plain = load_dataset(f"folder:{animals}"), load_dataset(f"folder:{animals / 'train'}")
    for split in ("train", "validation", "test"):
        assert getattr(nested, split).digest == getattr(plain, split).digest


def test_a_class_may_lack_images_to_report_on(animals):
    shutil.rmtree(animals / "test" / "ant")
    dataset = load_dataset(f"folder:{animals}")
    assert dataset.test.labels.tolist() == [1, 1, 1]
    assert dataset.classes == 2


def test_one_file_in_colour_makes_all_splits_coloured(animals):
    write(animals / "test" / "bee", 1, mode="RGB")
    name = f"folder:{animals}"
    assert check_dataset(name) == load_dataset(name).image_shape == (6, 5, 3)
    assert load_dataset(name).test.pixels.shape == (6, 6, 5, 3)


def test_classes_may_have_the_names_of_splits(tmp_path):
    """Trains, and valves that somebody calls val."""
    for number, name in enumerate(("train", "val", "ant")):
        write(tmp_path / name, 20, 100 * number)
    dataset = load_dataset(f"folder:{tmp_path}")
    assert dataset.class_names == ("ant", "train", "val")
    assert [len(dataset.train), len(dataset.validation), len(dataset.test)] == [38, 10, 12]


def test_what_a_mac_leaves_is_no_split_and_no_class(animals):
    for place in (animals, animals / "test"):
        (place / "__MACOSX").mkdir()
        (place / ".hidden").mkdir()
        (place / "._1.png").write_bytes(b"")
    (animals / "README.txt").write_text("animals")
    assert len(load_dataset(f"folder:{animals}").test) == 6


def only_one_class(animals):
    shutil.rmtree(animals / "train" / "bee")


def no_training_images(animals):
    shutil.rmtree(animals / "train")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda animals: write(animals / "val" / "ant"), r"has the splits validation and val: keep one"),
        (lambda animals: (animals / "valid").mkdir(), r"has the splits validation and valid: keep one"),
        (no_training_images, r"has the splits test, validation: give a set with a split train"),
        (only_one_class, r"train has 1 subfolders: give one with a subfolder for each class"),
        (lambda animals: write(animals / "test" / "cow"), r"test/cow is a class that .*train lacks: give training"),
        (lambda animals: write(animals / "extra"), r"has the splits test, train, validation and extra, which is none"),
        (lambda animals: write(animals / "test"), r"test/000.png is in no class: put the images of .*test into"),
        (lambda animals: write(animals / "train"), r"train/000.png is in no class"),
        (lambda animals: (animals / "validation" / "ant2").mkdir(), r"validation/ant2 has no images: put files"),
        (
            lambda animals: write(animals / "test" / "bee", 1, size=(7, 7)),
            r"test/bee/000.png is 7 x 7 pixels and .*train/ant/000.png is 5 x 6: give images of one size",
        ),
    ],
)
def test_folders_that_do_not_tell_what_they_hold(animals, spoil, message):
    spoil(animals)
    with pytest.raises(InputError, match=message) as caught:
        load_dataset(f"folder:{animals}")
    assert len(str(caught.value).splitlines()) == 1


def test_a_split_without_classes_is_refused(animals):
    shutil.rmtree(animals / "test")
    (animals / "test").mkdir()
    with pytest.raises(InputError, match="test has no subfolders: give one for each class, or move test away"):
        check_dataset(f"folder:{animals}")
