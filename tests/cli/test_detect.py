"""erkeras detect."""

import json
import shutil

import keras
import numpy as np
import pytest
from PIL import Image

import erkeras
from erkeras.data import load_dataset
from erkeras.serving import detect_with
from helpers.commands import refused, run


def image(path, size=(8, 8)):
    Image.fromarray(np.zeros(size, np.uint8)).save(path)
    return path


def npz(path, **arrays):
    np.savez(path, **arrays)
    return path


def test_detect_gives_label_probability_score_and_verdict(anywhere, saved_model):
    pixels = np.round(load_dataset("digits").test.images[:4, ..., 0] * 255).astype(np.uint8)
    (anywhere / "folder").mkdir()
    Image.fromarray(pixels[0]).save(anywhere / "one.png")
    Image.fromarray(pixels[1]).save(anywhere / "folder" / "two.png")
    npz(anywhere / "rest.npz", images=pixels[2:])
    result = run("detect", saved_model, "one.png", "folder", "rest.npz")
    assert result.exit_code == 0, result.output
    expected = detect_with(saved_model / "1", pixels[..., np.newaxis].astype(np.float32) / 255)
    lines = [line for line in result.output.splitlines() if ".png" in line or ".npz[" in line]
    assert len(lines) == 4
    for row, line in enumerate(lines):
        _, name, label, probability, score, verdict, _ = (cell.strip() for cell in line.split("│"))
        assert name.endswith(("one.png", "two.png", "rest.npz[0]", "rest.npz[1]")[row])
        assert label == str(expected["label"][row])
        assert float(probability) == pytest.approx(expected["probabilities"][row].max(), abs=1e-3)
        assert float(score) == pytest.approx(expected["adversarial_score"][row], abs=1e-4)
        assert verdict == ("adversarial" if expected["verdict"][row] else "natural")


def test_verdicts_for_scripts(anywhere, saved_model):
    images = load_dataset("digits").test.images[:40]
    noise = np.random.RandomState(0).randint(0, 2, (4, 8, 8, 1)).astype(np.float32)
    np.savez("images.npz", images=np.concatenate([images, noise]))
    plain = run("detect", saved_model, "images.npz", "--json", "out.json")
    assert plain.exit_code == 0, plain.output
    found = json.loads((anywhere / "out.json").read_text())
    assert len(found["images"]) == 44
    assert {row["adversarial"] for row in found["images"]} == {True, False}
    assert all(row["adversarial"] == (row["score"] > found["threshold"]) for row in found["images"])
    printed = run("detect", saved_model, "images.npz", "--json", "-", "--exit-code")
    assert printed.exit_code == 1
    assert json.loads(printed.stdout) == found
    natural = [row for row, verdict in enumerate(found["images"]) if not verdict["adversarial"]]
    np.savez("natural.npz", images=images[[row for row in natural if row < 40]])
    assert run("detect", saved_model, "natural.npz", "--exit-code").exit_code == 0


def test_a_saved_model_without_a_card_detects(anywhere, saved_model):
    shutil.copytree(saved_model / "1", anywhere / "exported" / "3")
    np.savez("images.npz", images=load_dataset("digits").test.images[:4])
    run("detect", saved_model, "images.npz", "--json", "ours.json")
    ours = json.loads((anywhere / "ours.json").read_text())["images"]
    for place in (anywhere / "exported", anywhere / "exported" / "3"):
        result = run("detect", place, "images.npz", "--json", "out.json")
        assert result.exit_code == 0, result.output
        assert json.loads((anywhere / "out.json").read_text())["images"] == ours


def test_a_saved_model_without_a_detector_is_refused(anywhere):
    erkeras.save(keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Flatten(), keras.layers.Dense(3)]), "plain")
    refused(run("detect", "plain/1", image(anywhere / "good.png")), "export it with a detector")


def test_detect_refuses(anywhere, saved_model):
    cases = [
        (image(anywhere / "wide.png", (8, 9)), "9 x 8 pixels of 1 channel and the model takes 8 x 8"),
        (anywhere / "missing.png", "missing.png does not exist"),
        (npz(anywhere / "a.npz", labels=[1]), "with the arrays images"),
        (npz(anywhere / "b.npz", images=np.full((1, 8, 8), np.nan)), "are not numbers (NaN or infinity)"),
    ]
    (anywhere / "text.png").write_text("no image")
    (anywhere / "empty").mkdir()
    cases += [(anywhere / "text.png", "not an image"), (anywhere / "empty", "empty has no images")]
    for path, message in cases:
        refused(run("detect", saved_model, path), message)
    refused(run("detect", anywhere, image(anywhere / "good.png")), "has no model")
    refused(run("detect", anywhere / "missing", "good.png"), "missing does not exist")
    refused(run("detect", saved_model), "Missing argument")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["MODEL"], "Missing argument"),
        (["MODEL", "x.png", "--false-positive-rate", "0.01"], "No such option"),
        (["MODEL", "x.png", "--json", "nowhere/a.json"], "cannot be written"),
    ],
)
def test_bad_input_is_one_sentence(anywhere, saved_model, arguments, message):
    refused(run("detect", *[saved_model if word == "MODEL" else word for word in arguments]), message)
    assert list(anywhere.iterdir()) == []
