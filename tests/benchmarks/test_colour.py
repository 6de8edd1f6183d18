"""The program that is made for a GPU, at a small size on a processor."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

PROGRAM = Path(__file__).parents[2] / "benchmarks" / "colour.py"


def tiny_imagenet(folder):
    """Two classes of twelve images, one light and one dark."""
    random = np.random.RandomState(0)
    rows = []
    for label, wnid in enumerate(("n01", "n02")):
        places = [folder / "train" / wnid / "images" / f"{wnid}_{number}.JPEG" for number in range(12)]
        places += [folder / "val" / "images" / f"{wnid}_val_{number}.JPEG" for number in range(2)]
        for place in places:
            place.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(random.randint(120 * label, 120 * label + 100, (64, 64, 3), np.uint8)).save(place)
        rows += [f"{place.name}\t{wnid}\t0\t0\t63\t63\n" for place in places[12:]]
    (folder / "val" / "val_annotations.txt").write_text("".join(rows))
    (folder / "wnids.txt").write_text("n01\nn02")


def colour(folder, *options):
    program = [sys.executable, str(PROGRAM), "--folder", "out", *options]
    return subprocess.run(program, cwd=folder, capture_output=True, text=True, timeout=600)


@pytest.mark.slow
def test_it_trains_attacks_and_goes_on(tmp_path):
    tiny_imagenet(tmp_path / "set")
    small = ["--epochs", "1", "--batch-size", "8", "--limit", "3", "--width", "16", "--attack", "fgsm"]
    options = ["--dataset", "tiny_imagenet:set", "--defense", "er-classifier", *small, "--json", "figures.json"]
    found = colour(tmp_path, *options)
    assert found.returncode == 0, found.stderr
    figures = json.loads((tmp_path / "figures.json").read_text())
    (row,) = figures["rows"]
    assert figures["devices"]
    assert (row["defense"], row["epsilon"], row["images"], row["epochs"]) == ("er-classifier", ".01", 3, 1)
    assert (row["paper"], list(row["attacks"])) == (11.1, ["fgsm"])
    assert 0 <= row["robust"] <= row["clean"] <= 1
    card = json.loads((tmp_path / "out" / "tiny_imagenet-er-classifier" / "card.json").read_text())
    recipe = card["job"]["recipe"]
    assert (recipe["network"], recipe["optimizer"], recipe["mixed_precision"]) == ("narrow:build", "sgd", True)
    assert [entry["summary"]["robust_accuracy"] for entry in card["evaluations"]] == [row["robust"]]
    seconds = json.loads((tmp_path / "out" / "seconds.json").read_text())
    assert [line["command"].split()[0] for line in seconds] == ["train", "attack"]

    again = colour(tmp_path, *options)  # nothing is run twice
    assert again.returncode == 0, again.stderr
    assert "erkeras train" not in again.stdout
    assert json.loads((tmp_path / "figures.json").read_text()) == figures


@pytest.mark.slow
def test_what_would_not_end_in_time_is_left_out(tmp_path):
    found = colour(tmp_path, "--minutes", "-1")
    assert found.returncode == 0, found.stderr
    assert "er-classifier on cifar10 is left out: -1 minutes would not last for it." in found.stdout
    assert "madry on cifar10 is left out" in found.stdout


def test_a_set_without_a_strong_recipe_is_refused(tmp_path):
    found = colour(tmp_path, "--dataset", "digits")
    assert found.returncode == 2
    assert "there is no strong recipe for digits: give one of cifar10, stl10, tiny_imagenet." in found.stderr
    assert list(tmp_path.iterdir()) == []
