"""Damaged files of every kind: an error of one sentence or a right answer, at once and without much memory.

python -m pytest tests/fuzz --fuzz 5000 --fuzz-seed 1
"""

import contextlib
import io
import json
import resource
import shutil
import signal

import numpy as np
import pytest
from PIL import Image

from erkeras.data import check_dataset, load_dataset, read_labelled_paths
from erkeras.errors import InputError
from erkeras.evaluation import Examples, Record
from erkeras.saved import find_model, load_model, read_card
from fuzz.damage import choose, damage_archive, damage_arrays, damage_bytes, damage_json, dump
from helpers.commands import refused, run
from helpers.prepared import numbered, prepare

#: Seconds for one input, and KiB of memory for all.
_LONGEST, _MOST = 20, 2**20


@contextlib.contextmanager
def harmless(seed):
    """Lets nothing but an InputError of one sentence through, in time."""

    def late(*_):
        raise TimeoutError(f"no end in {_LONGEST} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(_LONGEST)
    try:
        yield
    except InputError as refusal:
        if not str(refusal).rstrip().endswith("."):
            raise AssertionError(f"the input of seed {seed} is refused without a sentence: {refusal}") from refusal
    except BaseException as error:
        raise AssertionError(f"the input of seed {seed} ended in {type(error).__name__}: {error}") from error
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


@pytest.fixture(autouse=True)
def _little_memory():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield
    spent = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert spent < _MOST, f"{spent / 2**10:.0f} MiB"


def encoded(kind, mode):
    pixels = np.random.RandomState(0).randint(0, 256, (8, 8, 3)).astype(np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(stream, kind)
    return stream.getvalue()


IMAGES = [encoded(kind, mode) for kind, mode in (
    ("PNG", "L"), ("PNG", "RGB"), ("PNG", "RGBA"), ("PNG", "P"), ("PNG", "1"), ("PNG", "I;16"), ("JPEG", "L"),
    ("JPEG", "RGB"), ("JPEG", "CMYK"), ("EPS", "RGB"), ("GIF", "L"), ("BMP", "RGB"), ("TIFF", "L"), ("WEBP", "RGB"),
    ("PPM", "RGB"), ("ICO", "RGB"), ("PDF", "RGB"),
)]  # fmt: skip


def test_images(draws, tmp_path):
    for seed in draws(250):
        random = np.random.RandomState(seed)
        path = tmp_path / choose(random, ("x.png", "x.jpg", "x.jpeg", "x.bin"))
        path.write_bytes(damage_bytes(choose(random, IMAGES), random))
        with harmless(seed):
            _, found = read_labelled_paths([path], (8, 8, choose(random, (1, 3))))
            assert found.shape[:3] == (1, 8, 8)
            assert 0 <= found.min() <= found.max() <= 1


def test_arrays(draws, tmp_path):
    random = np.random.RandomState(0)
    arrays = {"images": random.rand(40, 8, 8, 1).astype(np.float32), "labels": np.arange(40) % 3}
    path = tmp_path / "x.npz"
    for seed in draws(250):
        path.write_bytes(damage_arrays(arrays, np.random.RandomState(seed)))
        with harmless(seed):
            _, found = read_labelled_paths([path], (8, 8, 1))
            assert 0 <= found.min() <= found.max() <= 1
        with harmless(seed):
            check_dataset(f"npz:{path}")
            load_dataset(f"npz:{path}")


def test_arrays_of_splits(draws, tmp_path):
    random = np.random.RandomState(0)
    arrays = {}
    for split, count in (("train", 40), ("val", 6), ("test", 9)):
        arrays[f"x_{split}"] = random.randint(0, 256, (count, 8, 8), np.uint8)
        arrays[f"y_{split}"] = np.arange(count) % 3
    path = tmp_path / "x.npz"
    for seed in draws(250):
        path.write_bytes(damage_arrays(arrays, np.random.RandomState(seed)))
        with harmless(seed):
            check_dataset(f"npz:{path}")
            dataset = load_dataset(f"npz:{path}")
            assert (
                dataset.train.images.shape[1:] == dataset.validation.images.shape[1:] == dataset.test.images.shape[1:]
            )
            assert max(dataset.validation.labels.max(), dataset.test.labels.max()) < dataset.classes


def test_folders(draws, tmp_path):
    for seed in draws(12):
        random = np.random.RandomState(seed)
        folder = tmp_path / str(seed[1])
        for name in ("cat", "dog", choose(random, (".hidden", "$x$", "__MACOSX", "[b]", "_"))):
            (folder / name).mkdir(parents=True)
            for number in range(random.randint(12)):
                content = choose(random, IMAGES[:2])
                content = damage_bytes(content, random) if random.randint(20) == 0 else content
                prefix = choose(random, ("", "", "", "", "._"))
                (folder / name / f"{prefix}{number}{choose(random, ('.png', '.PNG', '.png', '.db'))}").write_bytes(
                    content
                )
        with harmless(seed):
            check_dataset(f"folder:{folder}")
            load_dataset(f"folder:{folder}")


def test_folders_of_splits(draws, tmp_path):
    for seed in draws(20):
        random = np.random.RandomState(seed)
        folder = tmp_path / str(seed[1])
        odd = ("val", "valid", "Test", "extra", ".hidden", "train/cat/train", "test/new", "__MACOSX")
        for split in ("train", "test", choose(random, ("validation", *odd))):
            for name in ("cat", "dog", choose(random, ("", "cat", "_"))):
                (folder / split / name).mkdir(parents=True, exist_ok=True)
                for number in range(choose(random, (20, 20, 1, 0))):
                    content = choose(random, IMAGES[:2])
                    content = damage_bytes(content, random) if random.randint(100) == 0 else content
                    (folder / split / name / f"{number}.png").write_bytes(content)
        with harmless(seed):
            check_dataset(f"folder:{folder}")
            load_dataset(f"folder:{folder}")


def test_prepared_sets(draws, tmp_path, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    prepare(tmp_path, "own", {"train": numbered(30), "test": numbered(6)})
    contents = {path: path.read_bytes() for path in (tmp_path / "own").rglob("*") if path.is_file()}
    for seed in draws(40):
        random = np.random.RandomState(seed)
        for path, content in contents.items():
            path.write_bytes(damage_bytes(content, random) if random.randint(3) == 0 else content)
        with harmless(seed):
            check_dataset("tfds:own")
            load_dataset("tfds:own")


def test_tiny_imagenet(draws, tmp_path):
    (tmp_path / "val" / "images").mkdir(parents=True)
    lists = {
        "wnids.txt": b"n1\nn2\n",
        "words.txt": b"n1\tcat, pet\nn2\tdog\n",
        "val/val_annotations.txt": b"1.png\tn1\t0\n2.png\tn2\t0\n",
    }
    for number in ("1", "2"):
        (tmp_path / "val" / "images" / f"{number}.png").write_bytes(IMAGES[1])
        (tmp_path / "train" / f"n{number}" / "images").mkdir(parents=True)
        (tmp_path / "train" / f"n{number}" / "images" / "1.png").write_bytes(IMAGES[1])
    for seed in draws(40):
        random = np.random.RandomState(seed)
        for name, content in lists.items():
            (tmp_path / name).write_bytes(damage_bytes(content, random) if random.randint(2) else content)
        with harmless(seed):
            check_dataset(f"tiny_imagenet:{tmp_path}")


@pytest.fixture(scope="module")
def record(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fuzz") / "record"
    entry = {"name": "pgd", "class": "PGD", "config": {"threat": {"norm": "l_inf", "epsilon": 0.1}}}
    settings = {"model": "x", "digest": None, "dataset": "digits", "split": "test", "limit": 3, "seed": 0, "images": 3}
    record = Record.create(folder, {**settings, "image_shape": [2, 2, 1], "attacks": [entry], "threat": None})
    three, one = np.arange(3), np.zeros((3, 1), np.int64)
    images = np.zeros((3, 2, 2, 1), np.float32)
    record.append(Examples(three, three, three, three * 0, three, three.astype(np.float32), one, one, images), [1.0])
    return folder


def test_records(draws, record, tmp_path):
    folder = tmp_path / "record"
    for seed in draws(250):
        random = np.random.RandomState(seed)
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(record, folder)
        name = choose(random, ("settings.json", "examples.jsonl", "images.npy", "result.json", "images.npz"))
        path = folder / name
        if name == "images.npz":
            path.write_bytes(damage_arrays({"images": np.zeros((3, 2, 2, 1), np.float32)}, random))
        elif name == "images.npy" or random.randint(2):
            path.write_bytes(damage_bytes(path.read_bytes(), random))
        else:
            lines = path.read_text().splitlines() if name == "examples.jsonl" else [path.read_text()]
            lines[0] = dump(damage_json(json.loads(lines[0]), random))
            path.write_text("\n".join([*lines, ""]), errors="surrogatepass")
        with harmless(seed):
            found = Record.open(folder)
            assert len(found.read()) <= found.settings["images"]
            found.result()
            found.seconds()


def test_cards(draws, saved_model, tmp_path):
    whole = json.loads((saved_model / "card.json").read_text())
    shutil.copytree(saved_model, tmp_path / "model")
    for seed in draws(150):
        random = np.random.RandomState(seed)
        text = dump(damage_json(whole, random)).encode()
        (tmp_path / "model" / "card.json").write_bytes(damage_bytes(text, random) if random.randint(3) == 0 else text)
        with harmless(seed):
            read_card(tmp_path / "model")


def test_keras_files(draws, tmp_path):
    import keras

    model = keras.Sequential([keras.Input((4, 4, 1)), keras.layers.Flatten(), keras.layers.Dense(3, activation="relu")])
    path = tmp_path / "x.keras"
    model.save(path)
    content = path.read_bytes()
    for seed in draws(60):
        random = np.random.RandomState(seed)
        path.write_bytes(
            damage_archive(content, random, ["config.json", "config.json", "model.weights.h5", "metadata.json"])
        )
        with harmless(seed):
            load_model(*find_model(path)[:2])


def test_saved_models(draws, tmp_path):
    import tensorflow as tf

    from erkeras.serving import detect_with

    class Model(tf.Module):
        def __init__(self):
            self.weight = tf.Variable(tf.ones(3))

        @tf.function(input_signature=[tf.TensorSpec([None, 4, 4, 1])])
        def detect(self, images):
            count = tf.shape(images)[0]
            zeros = tf.zeros([count]) * self.weight[0]
            label, verdict = tf.zeros([count], tf.int32), zeros > 1
            found = {"probabilities": tf.zeros([count, 3]), "label": label, "adversarial_score": zeros}
            return {**found, "verdict": verdict}

    whole, folder = tmp_path / "whole" / "00000123", tmp_path / "damaged"
    model = Model()
    tf.saved_model.save(model, str(whole), signatures={"detect": model.detect})
    assert find_model(whole.parent)[1] == whole
    files = sorted(path.relative_to(whole) for path in whole.rglob("*") if path.is_file())
    for seed in draws(25):
        random = np.random.RandomState(seed)
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(whole, folder)
        path = folder / choose(random, files)
        path.write_bytes(damage_bytes(path.read_bytes(), random))
        with harmless(seed):
            detect_with(find_model(folder)[1], np.zeros((2, 4, 4, 1), np.float32))


def test_detectors(draws, saved_model, tmp_path):
    from erkeras.detection import ERDetector

    model = load_model("keras", saved_model / "model.keras")
    with np.load(saved_model / "detector.npz") as archive:
        arrays = dict(archive)
    path = tmp_path / "detector.npz"
    for seed in draws(40):
        path.write_bytes(damage_arrays(arrays, np.random.RandomState(seed)))
        with harmless(seed):
            ERDetector.load(path, model)


def test_commands_end_in_one_sentence_and_code_2(draws, saved_model, record, tmp_path):
    (tmp_path / "bad.npz").write_bytes(b"PK")
    (tmp_path / "x.png").write_bytes(IMAGES[9])
    broken = tmp_path / "record"
    shutil.copytree(record, broken)
    (broken / "settings.json").write_text("[" * 10000)
    model = tmp_path / "model"
    shutil.copytree(saved_model, model)
    (model / "card.json").write_text("[" * 10000)
    for arguments, message in (
        (["detect", saved_model, tmp_path / "bad.npz"], "not an .npz file"),
        (["detect", saved_model, tmp_path / "x.png"], "not an image"),
        (["detect", model, tmp_path / "x.png"], "card.json"),
        (["attack", model], "card.json"),
        (["attack", tmp_path / "bad.npz"], "has no model"),
        (["verify", broken], "settings.json cannot be read"),
        (["train", "--dataset", f"npz:{tmp_path / 'bad.npz'}"], "not an .npz file"),
        (["table", model], "card.json"),
    ):
        refused(run(*arguments), message)
