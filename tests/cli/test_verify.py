"""erkeras verify."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from erkeras.data import load_dataset
from helpers.commands import refused, run
from helpers.prepared import prepare


@pytest.fixture(scope="module")
def made(saved_model, tmp_path_factory):
    """A record and its figures."""
    folder = tmp_path_factory.mktemp("made")
    arguments = ["--attack", "apgd-ce", "--limit", "150", "--iterations", "5"]
    result = run("attack", saved_model, *arguments, "--record", folder / "record", "--json", folder / "out.json")
    assert result.exit_code == 0, result.output
    return folder


@pytest.fixture
def record(made, anywhere):
    return shutil.copytree(made / "record", anywhere / "record")


def test_a_record_is_verified(record, made):
    result = run("verify", record)
    assert result.exit_code == 0, result.output
    found = json.loads((made / "out.json").read_text())
    assert f"robust accuracy {found['robust_accuracy']:.2%} on 150 test images of digits" in result.output


def digits_with_splits(kind, folder):
    """Digits as a set of a user's own that has training and test images: its name."""
    digits = load_dataset("digits")
    parts = {name: getattr(digits, name) for name in ("train", "test")}
    arrays = {name: (np.round(part.pixels * 255).astype(np.uint8), part.labels) for name, part in parts.items()}
    if kind == "npz":
        np.savez(
            folder / "own.npz",
            **{f"{axis}_{name}": both[row] for name, both in arrays.items() for row, axis in enumerate("xy")},
        )
        return "npz:own.npz"
    if kind == "tfds":
        prepare(folder / "sets", "own_digits", arrays, classes=10, shape=(8, 8, 1))
        return "tfds:own_digits"
    for name, (images, labels) in arrays.items():
        for row, (image, label) in enumerate(zip(images, labels, strict=True)):
            place = folder / "own" / name / str(label)
            place.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image[..., 0]).save(place / f"{row:04d}.png")
    return "folder:own"


@pytest.mark.parametrize("kind", ["folder", "npz", "tfds"])
def test_a_record_on_splits_of_a_users_own_is_verified(saved_model, anywhere, monkeypatch, kind):
    monkeypatch.setenv("TFDS_DATA_DIR", str(anywhere / "sets"))
    name = digits_with_splits(kind, anywhere)
    own, digits = load_dataset(name), load_dataset("digits")
    assert [len(own.test), len(own.train) + len(own.validation)] == [len(digits.test), len(digits.train)]
    for split in ("test", "validation"):
        arguments = ["--attack", "fgsm", "--dataset", name, "--split", split, "--limit", 30, "--record", split]
        result = run("attack", saved_model, *arguments)
        assert result.exit_code == 0, result.output
        result = run("verify", split, "--again", 5)
        assert result.exit_code == 0, result.output
        assert f"on 30 {split} images of {name}" in result.output
        lines = [json.loads(line) for line in (anywhere / split / "examples.jsonl").read_text().splitlines()]
        drawn = getattr(own, split).sample(30, 0)
        assert [line["index"] for line in lines] == drawn.indices.tolist()
        settings = json.loads((anywhere / split / "settings.json").read_text())
        assert (settings["dataset"], settings["images_digest"]) == (name, drawn.digest)


def test_a_record_on_a_split_that_changed_is_found_out(saved_model, anywhere):
    name = digits_with_splits("npz", anywhere)
    assert (
        run("attack", saved_model, "--attack", "fgsm", "--dataset", name, "--limit", 30, "--record", "it").exit_code
        == 0
    )
    with np.load("own.npz") as found:
        arrays = dict(found)
    np.savez("own.npz", **{**arrays, "x_train": arrays["x_train"] // 2})
    assert run("verify", "it").exit_code == 0
    np.savez("own.npz", **{**arrays, "x_test": arrays["x_test"] // 2})
    refused(run("verify", "it"), "its data set had other images than this one")


def test_a_record_of_another_model_or_version_is_refused(record, saved_model, anywhere):
    other = shutil.copytree(saved_model, anywhere / "other")
    shutil.copy(saved_model / "1" / "saved_model.pb", other / "model.keras")
    refused(run("verify", record, anywhere / "other" / "1"), "is not the model that")
    refused(run("verify", record, anywhere / "missing"), "missing does not exist")


def test_a_tampered_record_is_found_out(record):
    path = record / "examples.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    row = next(row for row, line in enumerate(lines) if line["broken_by"] == "apgd-ce")
    lines[row]["broken_by"] = None
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    refused(
        run("verify", record),
        f"an image is said to stand, and is broken (1 images: original indices {lines[row]['index']})",
    )


def test_what_is_no_record_is_refused(anywhere):
    refused(run("verify", "missing"), "missing is not the record of an evaluation")
    refused(run("verify"), "Missing argument 'RECORD'")


def test_a_record_of_an_attack_that_does_not_exist_is_refused(record):
    settings = json.loads((record / "settings.json").read_text())
    for change in ({"class": "Victim"}, {"name": "square"}, {"config": {"threat": {}, "no": 1}}):
        changed = {**settings, "attacks": [{**settings["attacks"][0], **change}]}
        (record / "settings.json").write_text(json.dumps(changed))
        result = run("verify", record)
        refused(result, "evaluate again")
