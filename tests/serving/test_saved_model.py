"""The exported model against the library, in processes that have no erkeras."""

import json
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from erkeras.data import load_dataset
from erkeras.detection import ERDetector
from erkeras.errors import InputError
from erkeras.saved import find_model, load_model, read_card
from erkeras.serving import detect_with

IN_A_FRESH_PROCESS = """
import sys
sys.modules["erkeras"] = None  # importing it fails
import numpy as np, tensorflow as tf
folder, images, output = sys.argv[1:]
images = np.load(images)["images"]
signatures = tf.saved_model.load(folder).signatures
results = {}
for name in ("serving_default", "detect", "embed", "logits"):
    for key, value in signatures[name](images=tf.constant(images)).items():
        results[f"{name}/{key}"] = value.numpy()
np.savez(output, **results)
"""

IN_THE_SESSION_OF_THE_CPP_LOADER = """
import sys
sys.modules["erkeras"] = None
import numpy as np, tensorflow.compat.v1 as tf
folder, images, output = sys.argv[1:]
images = np.load(images)["images"]
results = {}
with tf.Session(graph=tf.Graph()) as session:
    graph = tf.saved_model.load(session, ["serve"], folder)
    for name in ("serving_default", "detect", "embed", "logits"):
        signature = graph.signature_def[name]
        fetches = {key: tensor.name for key, tensor in signature.outputs.items()}
        found = session.run(fetches, {signature.inputs["images"].name: images})
        results.update({f"{name}/{key}": value for key, value in found.items()})
np.savez(output, **results)
"""


@pytest.fixture(scope="module")
def test_images():
    return load_dataset("digits").test.images


@pytest.fixture(scope="module")
def library(saved_model, test_images):
    model = keras.saving.load_model(saved_model / "model.keras")
    detector = ERDetector.load(saved_model / "detector.npz", model)
    return model, detector, detector.predict(test_images)


@pytest.mark.parametrize("program", [IN_A_FRESH_PROCESS, IN_THE_SESSION_OF_THE_CPP_LOADER], ids=["tf2", "cpp-loader"])
def test_another_process_gets_the_same_answers(program, saved_model, test_images, library, tmp_path):
    np.savez(tmp_path / "images.npz", images=test_images)
    arguments = [saved_model / "1", tmp_path / "images.npz", tmp_path / "results.npz"]
    subprocess.run([sys.executable, "-c", program, *map(str, arguments)], check=True, cwd=tmp_path, timeout=300)
    model, detector, expected = library
    with np.load(tmp_path / "results.npz") as found:
        for signature in ("serving_default", "detect"):
            np.testing.assert_allclose(found[f"{signature}/probabilities"], expected.probabilities, atol=1e-5)
            np.testing.assert_array_equal(found[f"{signature}/label"], expected.label)
        np.testing.assert_allclose(found["detect/adversarial_score"], expected.score, atol=1e-5)
        clear = np.abs(expected.score - detector.threshold) > 1e-5
        assert clear.mean() > 0.9
        np.testing.assert_array_equal(found["detect/verdict"][clear], expected.verdict[clear])
        np.testing.assert_allclose(found["embed/code"], model.embed(test_images), atol=1e-5)
        np.testing.assert_allclose(found["logits/logits"], model(test_images), atol=1e-5)
        assert len(found.files) == 2 + 4 + 1 + 1


def test_verdicts_of_both_kinds_were_compared(library):
    assert 0 < library[2].verdict.sum() < len(library[2].verdict)


def test_encoded_images_give_the_answers_of_their_pixels(saved_model, test_images, library, tmp_path):
    signatures = tf.saved_model.load(str(saved_model / "1")).signatures
    encoded = []
    for row in range(3):
        Image.fromarray(np.round(test_images[row, ..., 0] * 255).astype(np.uint8)).save(tmp_path / "image.png")
        encoded.append((tmp_path / "image.png").read_bytes())
    pixels = np.round(test_images[:3] * 255).astype(np.float32) / 255
    found = signatures["detect_bytes"](encoded_images=tf.constant(encoded))
    expected = library[1].predict(pixels)
    np.testing.assert_allclose(found["probabilities"], expected.probabilities, atol=1e-5)
    np.testing.assert_allclose(found["adversarial_score"], expected.score, atol=1e-5)
    assert {"default_bytes", "embed_bytes", "logits_bytes"} <= set(signatures)


def test_a_larger_png_is_resized(saved_model, tmp_path):
    signature = tf.saved_model.load(str(saved_model / "1")).signatures["embed_bytes"]
    Image.new("L", (16, 24), 255).save(tmp_path / "large.png")
    Image.new("L", (8, 8), 255).save(tmp_path / "small.png")
    both = [(tmp_path / name).read_bytes() for name in ("large.png", "small.png")]
    codes = signature(encoded_images=tf.constant(both))["code"].numpy()
    np.testing.assert_allclose(codes[0], codes[1], atol=1e-5)


def test_only_detect_pays_for_the_detector(saved_model):
    signatures = tf.saved_model.load(str(saved_model / "1")).signatures
    for name in ("serving_default", "detect", "embed", "logits"):
        functions = signatures[name].graph.as_graph_def().library.function
        kinds = {node.op for function in functions for node in function.node_def}
        assert any("While" in kind for kind in kinds) == (name == "detect"), name


def test_detect_with_joins_its_batches(saved_model, test_images, library):
    found = detect_with(saved_model / "1", test_images[:50], batch_size=16)
    np.testing.assert_allclose(found["adversarial_score"], library[2].score[:50], atol=1e-6)


def test_find_model_knows_every_kind(saved_model):
    assert find_model(saved_model)[:2] == ("keras", saved_model / "model.keras")
    assert find_model(saved_model / "model.keras")[0] == "keras"
    assert find_model(saved_model / "1") == ("saved_model", saved_model / "1", None)


def test_find_model_takes_the_newest_version(tmp_path):
    for version in ("2", "10"):
        (tmp_path / version).mkdir()
        (tmp_path / version / "saved_model.pb").touch()
    assert find_model(tmp_path) == ("saved_model", tmp_path / "10", None)


@pytest.mark.parametrize("damage", ["1/saved_model.pb", "detector.npz", "model.keras"])
@pytest.mark.parametrize("how", ["cut", "gone"])
def test_a_damaged_folder_is_refused(saved_model, tmp_path, damage, how):
    import shutil

    copy = shutil.copytree(saved_model, tmp_path / "copy")
    if how == "cut":
        (copy / damage).write_bytes((copy / damage).read_bytes()[:-1])
    else:
        (copy / damage).unlink()
    with pytest.raises(InputError, match="is not as it was written" if how == "cut" else "is missing"):
        read_card(copy)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is not a model card"),
        ("[]", "is not a model card"),
        ("{}", "has format None"),
        ('{"format": 9, "files": {}}', "format 9"),
    ],
)
def test_a_card_that_is_not_ours_is_refused(tmp_path, content, message):
    (tmp_path / "card.json").write_text(content)
    with pytest.raises(InputError, match=message):
        read_card(tmp_path)


def test_nothing_to_attack(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        find_model(tmp_path / "missing")
    with pytest.raises(InputError, match="has no model"):
        find_model(tmp_path)
    (tmp_path / "bad.keras").write_bytes(b"PK truncated")
    with pytest.raises(InputError, match=r"not a whole \.keras file"):
        find_model(tmp_path / "bad.keras")


def test_a_keras_file_that_is_no_model_is_refused(tmp_path):
    import zipfile

    with zipfile.ZipFile(tmp_path / "odd.keras", "w") as archive:
        archive.writestr("config.json", json.dumps({"class_name": "Nothing"}))
    with pytest.raises(InputError, match="cannot be loaded"):
        load_model("keras", tmp_path / "odd.keras")
