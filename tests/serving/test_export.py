"""The exported model: against the library, in processes that have no erkeras; what its graph refuses; whole or not
there."""

import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers
from PIL import Image
from tensorflow_serving.apis import prediction_log_pb2

from erkeras.data import load_dataset
from erkeras.detection import ERDetector
from erkeras.errors import InputError
from erkeras.saved import newest_version
from erkeras.serving import SIGNATURES, detect_with, export_saved_model
from erkeras.serving.export import DETECT_BATCH, export_classifier
from helpers.files import encoded, jpeg_that_says, png, png_that_says

ELSEWHERE = """
import sys
sys.modules["erkeras"] = None  # importing it fails
import numpy as np, tensorflow as tf
folder, images, output = sys.argv[1:]
images = np.load(images)["images"]
names = ("serving_default", "detect", "embed", "logits")
signatures = tf.saved_model.load(folder).signatures
results = {}
for name in names:
    for key, value in signatures[name](images=tf.constant(images)).items():
        results[f"tf2/{name}/{key}"] = value.numpy()
# As the loader of C++ does it.
with tf.compat.v1.Session(graph=tf.Graph()) as session:
    graph = tf.compat.v1.saved_model.load(session, ["serve"], folder)
    for name in names:
        signature = graph.signature_def[name]
        fetches = {key: tensor.name for key, tensor in signature.outputs.items()}
        found = session.run(fetches, {signature.inputs["images"].name: images})
        results.update({f"session/{name}/{key}": value for key, value in found.items()})
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


@pytest.fixture(scope="module")
def elsewhere(saved_model, test_images, tmp_path_factory):
    """What a process that has no erkeras computes."""
    folder = tmp_path_factory.mktemp("elsewhere")
    np.savez(folder / "images.npz", images=test_images)
    arguments = [saved_model / "1", folder / "images.npz", folder / "results.npz"]
    subprocess.run([sys.executable, "-c", ELSEWHERE, *map(str, arguments)], check=True, cwd=folder, timeout=300)
    with np.load(folder / "results.npz") as found:
        return dict(found)


@pytest.mark.parametrize("loader", ["tf2", "session"])
def test_another_process_gets_the_same_answers(loader, elsewhere, test_images, library):
    found = {name.partition("/")[2]: value for name, value in elsewhere.items() if name.startswith(loader)}
    model, detector, expected = library
    for signature in ("serving_default", "detect"):
        np.testing.assert_allclose(found[f"{signature}/probabilities"], expected.probabilities, atol=1e-5)
        np.testing.assert_array_equal(found[f"{signature}/label"], expected.label)
    np.testing.assert_allclose(found["detect/adversarial_score"], expected.score, atol=1e-5)
    clear = np.abs(expected.score - detector.threshold) > 1e-5
    assert clear.mean() > 0.9
    np.testing.assert_array_equal(found["detect/verdict"][clear], expected.verdict[clear])
    np.testing.assert_allclose(found["embed/code"], model.embed(test_images), atol=1e-5)
    np.testing.assert_allclose(found["logits/logits"], model(test_images), atol=1e-5)
    assert len(found) == 2 + 4 + 1 + 1


def test_verdicts_of_both_kinds_were_compared(library):
    assert 0 < library[2].verdict.sum() < len(library[2].verdict)


def test_encoded_images_give_the_answers_of_their_pixels(saved_model, test_images, library):
    signatures = tf.saved_model.load(str(saved_model / "1")).signatures
    files = [png(test_images[row]) for row in range(3)]
    pixels = np.round(test_images[:3] * 255).astype(np.float32) / 255
    found = signatures["detect_bytes"](encoded_images=tf.constant(files))
    expected = library[1].predict(pixels)
    np.testing.assert_allclose(found["probabilities"], expected.probabilities, atol=1e-5)
    np.testing.assert_allclose(found["adversarial_score"], expected.score, atol=1e-5)
    assert {"default_bytes", "embed_bytes", "logits_bytes"} <= set(signatures)


def test_a_larger_png_is_resized(saved_model):
    signature = tf.saved_model.load(str(saved_model / "1")).signatures["embed_bytes"]
    both = [encoded(Image.new("L", size, 255)) for size in ((16, 24), (8, 8))]
    codes = signature(encoded_images=tf.constant(both))["code"].numpy()
    np.testing.assert_allclose(codes[0], codes[1], atol=1e-5)


def test_only_detect_pays_for_the_detector(saved_model):
    signatures = tf.saved_model.load(str(saved_model / "1")).signatures
    for name in ("serving_default", "detect", "embed", "logits"):
        functions = signatures[name].graph.as_graph_def().library.function
        kinds = {node.op for function in functions for node in function.node_def}
        assert any("While" in kind for kind in kinds) == (name == "detect"), name


def test_detect_with_joins_its_batches(saved_model, test_images, library):
    assert len(test_images) > DETECT_BATCH
    found = detect_with(saved_model / "1", test_images)
    np.testing.assert_allclose(found["adversarial_score"], library[2].score, atol=1e-5)


# What the graph itself refuses, whoever asks.

FILES = "encoded_images"
GOOD = encoded(Image.new("L", (8, 8), 200))
WITH_DETECTOR = [("detector", name) for name in SIGNATURES]
#: Of a classifier without a detector: another function, the same checks.
ALONE = [("alone", "serving_default"), ("alone", "logits")]


@pytest.fixture(scope="module")
def graphs(saved_model, tmp_path_factory):
    """The signatures of the trained model, and of a plain classifier of the same images."""
    keras.utils.set_random_seed(0)
    plain = keras.Sequential([keras.Input((8, 8, 1)), layers.Flatten(), layers.Dense(10)])
    folder = tmp_path_factory.mktemp("plain") / "1"
    export_classifier(plain, (8, 8, 1), folder)
    loaded = {"detector": tf.saved_model.load(str(saved_model / "1")), "alone": tf.saved_model.load(str(folder))}
    return {kind: graph.signatures for kind, graph in loaded.items()}


def ask(graphs, signature, value):
    kind, name = signature
    inputs = {"encoded_images": value} if name.endswith("_bytes") else {"images": value}
    return graphs[kind][name](**{key: tf.constant(part) for key, part in inputs.items()})


def refusal(graphs, signature, value):
    with pytest.raises(tf.errors.InvalidArgumentError) as caught:
        ask(graphs, signature, value)
    return str(caught.value)


def greys(*values):
    """Three images of one grey, with these values in the middle one."""
    images = np.full((3, 8, 8, 1), 0.5, np.float32)
    images[1].ravel()[: len(values)] = values
    return images


def twin(signature):
    kind, name = signature
    return kind, f"{name.removeprefix('serving_')}_bytes"


OUTSIDE = [-0.01, 1.01, -1e-6, float(np.nextafter(np.float32(1), np.float32(2))), np.nan, np.inf, -np.inf, 255.0]


@pytest.mark.parametrize("signature", WITH_DETECTOR + ALONE, ids="-".join)
@pytest.mark.parametrize("pixel", OUTSIDE)
def test_one_pixel_outside_0_and_1_ends_the_request(graphs, signature, pixel):
    message = "some pixels are not between 0 and 1, or not numbers: scale the images."
    assert message in refusal(graphs, signature, greys(pixel))


@pytest.mark.parametrize("signature", WITH_DETECTOR + ALONE, ids="-".join)
def test_pixels_of_0_and_1_are_answered(graphs, signature):
    for value in ask(graphs, signature, greys(0.0, 1.0, -0.0)).values():
        assert value.shape[0] == 3
        assert np.isfinite(value.numpy().astype(float)).all()


@pytest.mark.parametrize("signature", WITH_DETECTOR + ALONE, ids="-".join)
def test_no_image_ends_the_request(graphs, signature):
    message = "there are no images: send one or more."
    assert message in refusal(graphs, signature, np.zeros((0, 8, 8, 1), np.float32))
    assert message in refusal(graphs, twin(signature), np.zeros(0, object).astype(bytes))


@pytest.mark.parametrize("signature", [*WITH_DETECTOR, *ALONE], ids="-".join)
def test_a_file_that_is_none_ends_the_request_of_each_signature(graphs, signature):
    message = "a file is neither PNG nor JPEG, or has no size: send one of these."
    assert message in refusal(graphs, twin(signature), [GOOD, b"text"])


#: A PNG file whose first bytes are not quite those of one.
ALMOST = {
    **{f"byte-{place}": GOOD[:place] + bytes([GOOD[place] ^ 1]) + GOOD[place + 1 :] for place in range(8)},
    **{f"chunk-{place}": GOOD[:place] + bytes([GOOD[place] ^ 32]) + GOOD[place + 1 :] for place in range(12, 16)},
    "empty": b"",
    "head-alone": GOOD[:8],
    "cut-in-the-size": GOOD[:23],
    "gif": encoded(Image.new("L", (8, 8)), "GIF"),
    "bmp": encoded(Image.new("L", (8, 8)), "BMP"),
    "almost-jpeg": b"\xff\xd8\xfe" + encoded(Image.new("L", (8, 8)), "JPEG")[3:],
    "text": b"no image at all, but long enough to be one",
}


@pytest.mark.parametrize("name", ALMOST)
def test_a_head_that_is_neither_pngs_nor_jpegs_is_refused(graphs, name):
    message = "a file is neither PNG nor JPEG, or has no size: send one of these."
    assert message in refusal(graphs, ("detector", "logits_bytes"), [GOOD, ALMOST[name]])


@pytest.mark.parametrize("file", [GOOD[:24], GOOD[:-12], GOOD[:40]], ids=["head", "cut", "half"])
def test_a_png_of_a_good_head_is_decoded_and_then_refused(graphs, file):
    message = refusal(graphs, ("detector", "logits_bytes"), [file])
    assert "PNG" in message
    assert "neither" not in message


@pytest.mark.parametrize(
    "size",
    [(4096, 4097), (4097, 4096), (2, 2**23 + 1), (2**24 + 1, 1), (1, 2**24 + 1), (2**31 - 1, 2**31 - 1), (2**16, 2**16),
     (2**31 - 1, 3)],
    ids=str,
)  # fmt: skip
def test_a_png_of_too_many_pixels_is_not_decoded(graphs, size):
    message = refusal(graphs, ("detector", "logits_bytes"), [GOOD, png_that_says(*size)])
    assert f"an image has {size[0]} x {size[1]} pixels: send at most 16,777,216 pixels, as 4096 x 4096." in message


@pytest.mark.parametrize("size", [(4096, 4096), (2**12, 2**12 - 1), (8, 2**21), (2**21, 8)], ids=str)
def test_a_png_of_just_as_many_pixels_as_are_allowed_is_decoded(graphs, size):
    """And found to have no more than a head."""
    message = refusal(graphs, ("detector", "logits_bytes"), [png_that_says(*size)])
    assert "pixels: send at most" not in message
    assert "PNG" in message


@pytest.mark.parametrize("size", [(4096, 4097), (4097, 4096), (65000, 65000), (300, 60000)], ids=str)
def test_a_jpeg_of_too_many_pixels_is_not_decoded(graphs, size):
    message = refusal(graphs, ("detector", "logits_bytes"), [jpeg_that_says(*size)])
    assert f"an image has {size[0]} x {size[1]} pixels: send at most 16,777,216 pixels" in message


def test_a_jpeg_of_just_as_many_pixels_as_are_allowed_is_decoded(graphs):
    """libjpeg makes up what is missing at its end."""
    found = ask(graphs, ("detector", "logits_bytes"), [jpeg_that_says(4096, 4096)])
    assert np.isfinite(found["logits"]).all()


@pytest.mark.parametrize("size", [(0, 8), (8, 0), (0, 0), (2**31, 8), (8, 2**32 - 1)], ids=str)
def test_a_png_of_no_size_is_refused(graphs, size):
    """Sizes from 2^31 on are none to PNG."""
    message = refusal(graphs, ("detector", "logits_bytes"), [png_that_says(*size)])
    assert "a file is neither PNG nor JPEG, or has no size" in message or "pixels: send at most" in message
    assert "Invalid PNG" not in message  # which is what decoding it would say


def test_a_jpeg_is_answered_as_its_pixels(graphs):
    """A smooth one, whose pixels JPEG keeps but for rounding."""
    file = encoded(Image.new("L", (8, 8), 128), "JPEG")
    found = ask(graphs, ("detector", "logits_bytes"), [file])["logits"]
    expected = ask(graphs, ("detector", "logits"), np.full((1, 8, 8, 1), 128 / 255, np.float32))["logits"]
    np.testing.assert_allclose(found, expected, atol=0.1)


def test_every_pixel_of_a_larger_file_counts(graphs):
    """The mean over a block, not the pixel in its middle."""
    fine = np.zeros((80, 80), np.uint8)
    fine[::10] = 255  # none of them in the middle of a block
    files = [encoded(Image.fromarray(fine)), encoded(Image.new("L", (8, 8), 26))]
    codes = ask(graphs, ("detector", "embed_bytes"), files)["code"].numpy()
    np.testing.assert_allclose(codes[0], codes[1], atol=0.1)


def test_what_the_outputs_of_a_classifier_are(graphs):
    images = np.random.default_rng(0).uniform(size=(6, 8, 8, 1)).astype(np.float32)
    for kind in ("detector", "alone"):
        logits = ask(graphs, (kind, "logits"), images)["logits"].numpy()
        default = ask(graphs, (kind, "serving_default"), images)
        np.testing.assert_allclose(default["probabilities"], tf.nn.softmax(logits), atol=1e-6)
        np.testing.assert_array_equal(default["label"], logits.argmax(axis=1))


def test_warm_up_asks_each_signature_once(saved_model):
    file = saved_model / "1" / "assets.extra" / "tf_serving_warmup_requests"
    requests = [
        prediction_log_pb2.PredictionLog.FromString(record.numpy()).predict_log.request
        for record in tf.data.TFRecordDataset(str(file))
    ]
    names = [request.model_spec.signature_name for request in requests]
    assert sorted(names) == sorted([*SIGNATURES, "default_bytes", "detect_bytes", "embed_bytes", "logits_bytes"])
    for request in requests:
        ((name, tensor),) = request.inputs.items()
        assert name == (FILES if request.model_spec.signature_name.endswith("_bytes") else "images")
        assert tf.make_ndarray(tensor).shape == ((1,) if name == FILES else (1, 8, 8, 1))


# Whole or not there.


def test_an_export_that_fails_leaves_no_version(tiny_model, tmp_path, monkeypatch):
    def full(path):
        assert not (tmp_path / "1").exists()
        (partial,) = tmp_path.iterdir()
        assert partial.name.startswith(".")  # hidden: no number, so no server takes it up
        assert (partial / "saved_model.pb").exists()
        raise OSError("no space left on device")

    model = tiny_model()
    monkeypatch.setattr(tf.io, "TFRecordWriter", full)
    with pytest.raises(OSError, match="no space left"):
        export_classifier(model, (4, 4, 1), tmp_path / "1")
    assert newest_version(tmp_path) == 0
    monkeypatch.undo()
    export_classifier(model, (4, 4, 1), tmp_path / "1")
    assert newest_version(tmp_path) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["1"]


def test_a_version_is_not_written_over(tmp_path, tiny_model):
    (tmp_path / "1").mkdir()
    with pytest.raises(InputError, match="1 exists: give another version"):
        export_classifier(tiny_model(), (4, 4, 1), tmp_path / "1")


def test_a_version_with_a_detector_is_not_written_over(tmp_path, saved_model, library):
    (tmp_path / "1").touch()
    with pytest.raises(InputError, match="1 exists: give another version"):
        export_saved_model(library[1], tmp_path / "1")


def test_a_detector_that_is_not_calibrated_is_not_exported(tiny_model, tmp_path):
    with pytest.raises(InputError, match="call fit and calibrate first"):
        export_saved_model(ERDetector(tiny_model(), "code"), tmp_path / "1")
    assert list(tmp_path.iterdir()) == []
