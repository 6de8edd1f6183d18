"""Sets of tensorflow-datasets; small ones are prepared here and really read."""

import socket
import subprocess
import sys

import numpy as np
import pytest
import tensorflow_datasets as tfds

from erkeras.data import check_dataset, load_dataset
from erkeras.errors import InputError
from helpers.prepared import numbered, prepare


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder of prepared sets."""
    folder = tmp_path_factory.mktemp("tensorflow_datasets")
    train, validation, test = numbered(60), numbered(9, first=100), numbered(12, first=200)
    prepare(folder, "all_splits", {"train": train, "validation": validation, "test": test})
    prepare(folder, "train_and_test", {"train": train, "test": test, "extra": validation}, config="small")
    prepare(
        folder,
        "train_and_validation",
        {"train": train, "validation": validation},
        ["ant", "bee", "cow"],
        others=[("boxes", tfds.features.Sequence(np.int64))],
    )
    prepare(folder, "train_alone", {"train": train})
    prepare(folder, "test_alone", {"test": test})
    prepare(folder, "gaps", {"train": (train[0], train[1] * 2 + 1), "test": (test[0], test[1] * 2 + 1)}, classes=9)
    prepare(folder, "new_class", {"train": train, "test": (test[0], test[1] + 1)}, classes=9)
    prepare(folder, "unlabelled", {"train": train, "test": (test[0], test[1] * 0 - 1)})
    prepare(folder, "one_class", {"train": (train[0], train[1] * 0)})
    prepare(folder, "damaged", {"train": train})
    (file,) = (folder / "damaged" / "1.0.0").glob("*.tfrecord*")
    file.write_bytes(file.read_bytes()[:-5])
    return folder


@pytest.fixture
def prepared(folder, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(folder))
    return folder


def firsts(split):
    """The value of every image, which is its place."""
    return split.pixels[:, 0, 0, 0].tolist()


def test_all_splits_are_kept(prepared):
    assert check_dataset("tfds:all_splits") == (6, 5, 1)
    dataset = load_dataset("tfds:all_splits")
    for split, count, first in ((dataset.train, 60, 0), (dataset.validation, 9, 100), (dataset.test, 12, 200)):
        places = np.arange(first, first + count)
        assert firsts(split) == places.tolist()
        assert split.labels.tolist() == (places % 3).tolist()
        assert split.indices.tolist() == list(range(count))
    assert (dataset.name, dataset.class_names, dataset.image_shape) == ("tfds:all_splits", ("0", "1", "2"), (6, 5, 1))


def test_validation_images_are_carved_from_the_training_images(prepared):
    for name in ("tfds:train_and_test", "tfds:train_and_test/small"):
        dataset = load_dataset(name)
        assert firsts(dataset.test) == list(range(200, 212))
        assert np.bincount(dataset.validation.labels).tolist() == [2, 2, 2]
        assert sorted([*firsts(dataset.train), *firsts(dataset.validation)]) == list(range(60))
        assert firsts(dataset.validation) == dataset.validation.indices.tolist()


def test_without_test_images_the_validation_images_are_for_reporting(prepared):
    dataset = load_dataset("tfds:train_and_validation")
    assert firsts(dataset.test) == list(range(100, 109))
    assert [len(dataset.train), len(dataset.validation)] == [54, 6]
    assert dataset.class_names == ("ant", "bee", "cow")


def test_training_images_alone_are_split_as_a_folder_is(prepared):
    dataset = load_dataset("tfds:train_alone")
    assert [len(dataset.train), len(dataset.validation), len(dataset.test)] == [38, 10, 12]
    assert sorted(firsts(dataset.train) + firsts(dataset.validation) + firsts(dataset.test)) == list(range(60))


def test_a_class_without_any_image_is_left_out(prepared):
    dataset = load_dataset("tfds:gaps")
    assert dataset.class_names == ("1", "3", "5")
    assert dataset.test.labels.tolist() == (np.arange(200, 212) % 3).tolist()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("test_alone", "tfds:test_alone has the splits test: give a set with a split train"),
        ("new_class", "the label 3 in its split test, of which it has no training image: give"),
        ("unlabelled", "the label -1 in its split test, which marks an image without one: give"),
        ("one_class", "training images of 1 class: give a set of two classes"),
        ("damaged", r"cannot be read from .*damaged/1.0.0 \(DataLossError\): remove that folder"),
    ],
)
def test_splits_that_cannot_be_used(prepared, name, message):
    with pytest.raises(InputError, match=message):
        load_dataset(f"tfds:{name}")


def test_a_label_beyond_the_classes_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    prepare(tmp_path, "relabelled", {"train": numbered(60)})
    place = tmp_path / "relabelled" / "1.0.0"
    text = (place / "features.json").read_text()
    assert '"numClasses": "3"' in text
    (place / "features.json").write_text(text.replace('"numClasses": "3"', '"numClasses": "2"'))
    (place / "label.labels.txt").write_text("0\n1\n")
    with pytest.raises(InputError, match="tfds:relabelled has the label 2 and 2 classes: prepare the set again"):
        load_dataset("tfds:relabelled")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("glue", "tfds:glue has the features idx, label, sentence, and no image with a class as its label: give"),
        ("moving_mnist", "has the features image_sequence, and no image"),
        ("cats_vs_dogs", r"has images of shape \(None, None, 3\)"),
        ("no_such_set", r"there is no set no_such_set in tensorflow-datasets [\d.]+, nor a prepared one in .*: give"),
        ("mnist_corrupted/no_such", r"there is no set mnist_corrupted/no_such .* \(ValueError\)"),
        ("all_splits/no_such", "there is no set all_splits/no_such in"),
        ("huggingface:x", "'huggingface:x' is no name of a set"),
        ("mnist/a/b", "'mnist/a/b' is no name of a set"),
        ("../all_splits", "is no name of a set"),
        ("mnist\n", "is no name of a set"),
    ],
)
def test_sets_that_are_none(prepared, name, message):
    for look in (check_dataset, load_dataset):
        with pytest.raises(InputError, match=message) as caught:
            look(f"tfds:{name}")
        assert len(str(caught.value).splitlines()) == 1


def test_a_set_is_checked_without_tensorflow(folder):
    program = """
import os, sys
from erkeras.data import check_dataset
from erkeras.errors import InputError
print(check_dataset("tfds:fashion_mnist"))
os.environ["TFDS_DATA_DIR"] = sys.argv[1]
print(check_dataset("tfds:all_splits"))
try:
    check_dataset("tfds:glue")
except InputError as error:
    print(error)
print("tensorflow.python" in sys.modules)
"""
    command = [sys.executable, "-c", program, folder]
    found = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    *shapes, error, loaded = found.stdout.splitlines()
    assert shapes == ["(28, 28, 1)", "(6, 5, 1)"]
    assert error.startswith("tfds:glue has the features idx, label, sentence, and no image")
    assert (loaded, found.stderr) == ("False", "")


def test_a_broken_tensorflow_datasets_is_one_sentence(tmp_path):
    (tmp_path / "tensorflow_datasets.py").write_text("raise ImportError('no room')")
    program = f"""
import sys
sys.path.insert(0, {str(tmp_path)!r})
from erkeras.data import check_dataset
check_dataset("tfds:mnist")
"""
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    message = "tensorflow-datasets failed when asked for tfds:mnist (ImportError: no room): see that"
    assert message in found.stderr.splitlines()[-1]


def test_stl10_of_generated_images(tmp_path, monkeypatch):
    """Its own archive is 2.6 GB; here 200 and 50 images of its shape, and the check that no others are read."""
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    random, asked = np.random.RandomState(0), []
    parts = {
        split: (random.randint(0, 256, (count, 96, 96, 3), np.uint8), np.arange(count) % 10)
        for split, count in (("train", 200), ("test", 50), ("unlabelled", 3))
    }
    prepare(tmp_path, "stl10", parts, classes=10, shape=(96, 96, 3))
    as_dataset = tfds.core.DatasetBuilder.as_dataset

    def asking(self, split, **options):
        asked.append(split)
        return as_dataset(self, split=split, **options)

    monkeypatch.setattr(tfds.core.DatasetBuilder, "as_dataset", asking)
    dataset = load_dataset("stl10")
    assert asked == ["train", "test"]
    assert check_dataset("stl10") == check_dataset("tfds:stl10") == dataset.image_shape == (96, 96, 3)
    assert dataset.classes == 10
    assert [len(dataset.train), len(dataset.validation), len(dataset.test)] == [180, 20, 50]
    np.testing.assert_array_equal(np.bincount(dataset.validation.labels), np.full(10, 2))
    assert sorted(np.concatenate([dataset.train.indices, dataset.validation.indices])) == list(range(200))
    for split, part in ((dataset.validation, "train"), (dataset.test, "test")):
        np.testing.assert_array_equal(split.pixels, parts[part][0][split.indices])
        np.testing.assert_array_equal(split.labels, parts[part][1][split.indices])


def test_mnist_is_the_same_by_both_of_its_names(tmp_path, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    parts = {"train": numbered(240, 10, (28, 28, 1)), "test": numbered(20, 10, (28, 28, 1))}
    prepare(tmp_path, "mnist", parts, classes=10, shape=(28, 28, 1), version=str(tfds.builder("mnist").version))
    first, second = load_dataset("mnist"), load_dataset("tfds:mnist")
    assert len(first.validation) == 20  # a twelfth
    for split in ("train", "validation", "test"):
        assert getattr(first, split).digest == getattr(second, split).digest


def test_real_sets_have_their_splits():
    real = [name for name in ("mnist", "cifar10") if tfds.builder(name).is_prepared()]
    if not real:
        pytest.skip("neither mnist nor cifar10 is prepared in the folder of tensorflow-datasets")
    for name in real:
        dataset = load_dataset(name)
        assert len(dataset.validation) == 5000
        assert len(dataset.test) == 10000
        assert not set(dataset.validation.indices.tolist()) & set(dataset.train.indices.tolist())
        assert dataset.test.pixels.dtype == np.uint8


@pytest.mark.parametrize(
    ("name", "key"),
    [("mnist", "mnist"), ("tfds:fashion_mnist", "fashion_mnist"), ("tfds:mnist_corrupted/fog", "mnist_corrupted/fog")],
)
def test_a_set_that_is_not_there_says_what_to_run(tmp_path, monkeypatch, name, key):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: (_ for _ in ()).throw(socket.gaierror("no network")))
    message = rf"the data set {key} is not prepared in {tmp_path} and .*\(URLError\).* tfds.load\('{key}'\)"
    with pytest.raises(InputError, match=message):
        load_dataset(name)
