"""Images that do not fit into memory give what images in memory give."""

import dataclasses

import numpy as np
import pytest
from PIL import Image

from erkeras.data import load_dataset, storage, training_batches
from erkeras.detection import ERDetector, LIDDetector
from erkeras.errors import InputError
from erkeras.recipes import Job, find_recipe
from erkeras.stored import StoredPixels
from erkeras.training import build_model, train
from helpers.prepared import numbered, prepare


@pytest.fixture
def name(tmp_path):
    """Two classes of 150 images of 8 x 8 pixels, dark and bright."""
    random = np.random.RandomState(0)
    for label, low in (("dark", 0), ("light", 120)):
        (tmp_path / "set" / label).mkdir(parents=True)
        for number in range(150):
            pixels = random.randint(low, low + 130, (8, 8)).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / "set" / label / f"{number:03d}.png")
    return f"folder:{tmp_path / 'set'}"


@pytest.fixture
def on_disk(monkeypatch):
    def load(name):
        monkeypatch.setenv("ERKERAS_MEMORY", "0")
        dataset = load_dataset(name)
        monkeypatch.delenv("ERKERAS_MEMORY")
        for split in (dataset.train, dataset.validation, dataset.test):
            assert isinstance(split.pixels, StoredPixels)
        return dataset

    return load


def check_equal(stored, kept):
    for name in ("train", "validation", "test"):
        one, other = getattr(stored, name), getattr(kept, name)
        assert isinstance(other.pixels, np.ndarray)
        assert one.digest == other.digest
        np.testing.assert_array_equal(one.images, other.images)
        np.testing.assert_array_equal(one.indices, other.indices)
    assert (stored.class_names, stored.image_shape) == (kept.class_names, kept.image_shape)


def test_a_folder_on_disk_is_the_folder_in_memory(name, on_disk):
    stored, kept = on_disk(name), load_dataset(name)
    check_equal(stored, kept)
    drawn = stored.test.sample(20, seed=1)
    assert isinstance(drawn.pixels, np.ndarray)
    assert drawn.digest == kept.test.sample(20, seed=1).digest


def test_a_set_of_tensorflow_datasets_on_disk_is_that_in_memory(tmp_path, monkeypatch, on_disk):
    monkeypatch.setattr("erkeras.data.tensorflow_sets._PART", 7)
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    train, test = numbered(60), numbered(12, first=200)
    prepare(tmp_path, "train_and_test", {"train": train, "test": test})
    check_equal(on_disk("tfds:train_and_test"), load_dataset("tfds:train_and_test"))


@pytest.mark.parametrize("augment", [False, True])
def test_batches_are_the_same_from_any_step(name, on_disk, augment):
    stored, kept = on_disk(name).train, load_dataset(name).train
    straight = list(training_batches(kept, 16, 3, augment=augment).take(26).as_numpy_iterator())
    for epoch, step, count in ((0, 0, 26), (0, 5, 10), (1, 3, 9)):
        found = training_batches(stored, 16, 3, epoch, augment, first_step=step).take(count).as_numpy_iterator()
        first = epoch * (len(kept) // 16) + step
        for one, other in zip(found, straight[first : first + count], strict=True):
            np.testing.assert_array_equal(one[0], other[0])
            np.testing.assert_array_equal(one[1], other[1])


def test_batches_that_are_left_out_are_not_read(name, on_disk, monkeypatch):
    stored, read = on_disk(name).train, []
    files = stored.pixels.source.read
    monkeypatch.setattr(stored.pixels.source, "read", lambda rows: read.extend(rows) or files(rows))
    next(iter(training_batches(stored, 16, 3, first_step=10)))
    assert 16 <= len(read) <= 16 * 8  # those that lie ready


def test_detectors_learn_the_same_from_disk(name, on_disk):
    stored, kept = on_disk(name).train, load_dataset(name).train
    model = build_model(find_recipe("default", "digits", (8, 8, 1)), (8, 8, 1), 2, 10, seed=0)
    of_stored, of_kept = (ERDetector(model).fit(part.pixels, part.labels, 40) for part in (stored, kept))
    np.testing.assert_array_equal(of_stored.log_density(kept.images), of_kept.log_density(kept.images))
    references = [LIDDetector(model).fit(part.pixels).references for part in (stored, kept)]
    np.testing.assert_array_equal(*references)


def test_an_image_that_breaks_while_a_model_trains_is_one_sentence(name, tmp_path, monkeypatch):
    (path,) = (tmp_path / "set" / "dark").glob("007.png")
    content = bytearray(path.read_bytes())
    content[-20] ^= 255  # its size is still read, its pixels are not
    path.write_bytes(content)
    monkeypatch.setenv("ERKERAS_MEMORY", "0")
    recipe = dataclasses.replace(find_recipe("default", "digits", (8, 8, 1)), epochs=1)
    job = Job(name, recipe, limit=20, deterministic=False)
    with pytest.raises(InputError, match=r"007\.png is not an image that can be read: give a file of type"):
        train(job, tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_an_image_of_another_size_is_found_before_anything_is_trained(name, tmp_path, monkeypatch):
    Image.new("L", (9, 8)).save(tmp_path / "set" / "light" / "last.png")
    monkeypatch.setenv("ERKERAS_MEMORY", "0")
    with pytest.raises(InputError, match=r"last\.png is 9 x 8 pixels and .*000\.png is 8 x 8: give images of one size"):
        load_dataset(name)


@pytest.mark.parametrize("asked", ["much", "-1", "nan", ""])
def test_memory_is_a_number_of_gibibytes(name, monkeypatch, asked):
    monkeypatch.setenv("ERKERAS_MEMORY", asked)
    with pytest.raises(InputError, match=r"ERKERAS_MEMORY is '.*': give how many gibibytes"):
        load_dataset(name)


def test_an_eighth_of_the_memory_is_for_images(monkeypatch, tmp_path):
    monkeypatch.delenv("ERKERAS_MEMORY", raising=False)
    machine = storage.memory_for_images()
    assert 2**26 < machine < 2**50
    (tmp_path / "limit").write_text("8000000\n")
    (tmp_path / "none").write_text("max\n")
    monkeypatch.setattr(storage, "_LIMITS", (tmp_path / "none", tmp_path / "limit"))
    assert storage.memory_for_images() == 10**6
    assert storage.fits(1000, (10, 100, 1))
    assert not storage.fits(1001, (10, 100, 1))
    monkeypatch.setenv("ERKERAS_MEMORY", "0.5")
    assert storage.memory_for_images() == 2**29


def test_a_full_disk_is_one_sentence(monkeypatch):
    def parts():
        yield np.zeros((2, 4, 4, 1), np.uint8)
        raise OSError(28, "No space left on device")

    with pytest.raises(InputError, match=r"cannot be kept in .* \(No space left on device\): make room there, or set"):
        storage.StoredBytes(parts(), (4, 4, 1))
