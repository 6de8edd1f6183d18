"""The exported model behind a server of TensorFlow Serving's protocols, in a process without erkeras."""

import json
import re
from pathlib import Path

import grpc
import keras
import numpy as np
import pytest
import tensorflow as tf
from click.testing import CliRunner
from erkeras.cli import main
from helpers.files import encoded, jpeg_that_says, png, png_that_says
from PIL import Image
from tensorflow_serving.apis import get_model_metadata_pb2, prediction_log_pb2, prediction_service_pb2_grpc

from erkeras.data import load_dataset
from erkeras.detection import ERDetector
from erkeras.errors import InputError
from erkeras.serving import SIGNATURES, Client


@pytest.fixture(params=["grpc", "rest"])
def client(request, server):
    with Client(getattr(server, request.param)) as client:
        yield client


@pytest.fixture(scope="module")
def test_images():
    # As a PNG holds them.
    return np.round(load_dataset("digits").test.images * 255).astype(np.float32) / 255


@pytest.fixture(scope="module")
def library(two_versions, test_images):
    """Model, detector, and what it says of the test images."""
    model = keras.saving.load_model(two_versions / "model.keras")
    detector = ERDetector.load(two_versions / "detector.npz", model)
    return model, detector, detector.predict(test_images)


def agree(found, library, rows):
    _, detector, expected = library
    np.testing.assert_array_equal(found["label"], expected.label[rows])
    np.testing.assert_allclose(found["probabilities"], expected.probabilities[rows], atol=1e-5)
    np.testing.assert_allclose(found["adversarial_score"], expected.score[rows], atol=1e-5)
    clear = np.abs(expected.score[rows] - detector.threshold) > 1e-5
    assert clear.mean() > 0.9
    np.testing.assert_array_equal(found["verdict"][clear], expected.verdict[rows][clear])


def test_it_gives_the_verdicts_of_the_library_for_all_test_images(client, test_images, library):
    rows = slice(None)
    agree(client.detect(test_images), library, rows)
    agree(client.detect([png(image) for image in test_images]), library, rows)
    assert 0 < library[2].verdict.sum() < len(test_images)
    np.testing.assert_allclose(client.logits(test_images), library[0](test_images), atol=1e-5)
    np.testing.assert_allclose(client.embed(test_images), library[0].embed(test_images), atol=1e-5)
    np.testing.assert_allclose(client.classify(test_images)["probabilities"], library[2].probabilities, atol=1e-5)


def test_both_versions_are_served(server, client, test_images, library):
    for version in (1, 2):
        with Client(f"{client.url}/versions/{version}") as one:
            agree(one.detect(test_images[:20]), library, slice(20))
    with Client(f"{client.url}/versions/3") as none, pytest.raises(InputError, match="Servable not found"):
        none.predict("detect", {"images": test_images[:1]})


@pytest.mark.parametrize("count", [1, 3, 128])
def test_any_number_of_images(client, test_images, library, count):
    agree(client.predict("detect", {"images": test_images[:count]}), library, slice(count))


def test_its_metadata(client):
    assert set(client.signatures) == {*SIGNATURES, "default_bytes", "detect_bytes", "embed_bytes", "logits_bytes"}
    assert client.signatures["detect"] == {"images": [-1, 8, 8, 1]}
    assert client.signatures["detect_bytes"] == {"encoded_images": [-1]}
    assert client.image_shape == (8, 8, 1)


GOOD = encoded(Image.new("L", (8, 8), 200))
FILES = "encoded_images"


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"images": np.zeros((2, 16, 16, 1), np.float32)}, r"\[2,16,16,1\] is not compatible with .*\[\?,8,8,1\]"),
        ({"images": np.zeros((2, 64), np.float32)}, r"\[2,64\] is not compatible with expected shape \[\?,8,8,1\]"),
        ({"images": np.full((2, 8, 8, 1), np.nan, np.float32)}, "not between 0 and 1, or not numbers: scale"),
        ({"images": np.full((2, 8, 8, 1), 1.5, np.float32)}, "not between 0 and 1"),
        ({"images": np.full((2, 8, 8, 1), -0.5, np.float32)}, "not between 0 and 1"),
        ({FILES: [GOOD, GOOD[:-30]]}, "Invalid PNG data"),
        ({FILES: [GOOD[:30]]}, "Invalid PNG"),
        ({FILES: [GOOD[:12]]}, "a file is neither PNG nor JPEG"),
        ({FILES: [b""]}, "a file is neither PNG nor JPEG"),
        ({FILES: [encoded(Image.new("L", (8, 8)), "BMP")]}, "a file is neither PNG nor JPEG"),
        ({FILES: [encoded(Image.new("L", (99, 99)), "JPEG")[:-50]]}, "Invalid JPEG data"),
        ({FILES: [encoded(Image.new("L", (99, 99)), "JPEG")[:50]]}, "Invalid JPEG data"),
        ({FILES: [GOOD, png_that_says(30000, 30000)]}, "an image has 30000 x 30000 pixels: send at most 16,777,216"),
        ({FILES: [jpeg_that_says(30000, 30000)]}, "an image has 30000 x 30000 pixels: send at most 16,777,216"),
        ({FILES: [png_that_says(4096, 4097)]}, "an image has 4096 x 4097 pixels"),
        ({FILES: [png_that_says(2**31 - 1, 2**31 - 1)]}, "an image has 2147483647 x 2147483647 pixels"),
        ({FILES: [png_that_says(0, 8)]}, "has no size"),
    ],
)
def test_a_bad_request_gets_a_clear_error_and_the_next_one_an_answer(server, client, test_images, inputs, message):
    before = peak_memory_kib(server)
    with pytest.raises(InputError, match=f"refused the request: .*{message}") as caught:
        client.predict("detect_bytes" if FILES in inputs else "detect", inputs)
    assert "{{" not in str(caught.value)
    assert peak_memory_kib(server) - before < 100_000
    assert client.predict("detect", {"images": test_images[:2]})["label"].shape == (2,)
    assert client.predict("detect_bytes", {FILES: [GOOD]})["label"].shape == (1,)


def test_no_image_at_all(server):
    with Client(server.grpc) as client:
        for signature, inputs in (
            ("detect", {"images": np.zeros((0, 8, 8, 1), np.float32)}),
            ("embed_bytes", {FILES: []}),
        ):
            with pytest.raises(InputError, match="there are no images: send one or more"):
                client.predict(signature, inputs)


def peak_memory_kib(server):
    status = Path(f"/proc/{server.process.pid}/status")
    if not status.exists():
        return 0  # Linux alone says
    return int(next(line for line in status.read_text().splitlines() if line.startswith("VmHWM")).split()[1])


def test_an_image_as_large_as_is_allowed(server):
    with Client(server.grpc, timeout=60) as client:
        large = encoded(Image.new("L", (4096, 4096), 200))
        both = client.logits([large, GOOD])
    np.testing.assert_allclose(both[0], both[1], atol=1e-5)


def test_every_pixel_of_a_larger_image_counts(server):
    """The mean over a block, not the pixel in its middle."""
    fine = np.zeros((80, 80), np.uint8)
    fine[::10] = 255  # none of them in the middle of a block
    with Client(server.grpc) as client:
        codes = client.embed([encoded(Image.fromarray(fine)), encoded(Image.new("L", (8, 8), 26))])
    np.testing.assert_allclose(codes[0], codes[1], atol=0.1)


@pytest.mark.parametrize("kind", ["RGB", "RGBA", "P", "LA", "1"])
def test_files_of_other_colours_are_converted(server, kind):
    with Client(server.grpc) as client:
        codes = client.embed([encoded(Image.new("L", (8, 8), 255).convert(kind)), encoded(Image.new("L", (8, 8), 255))])
    np.testing.assert_allclose(codes[0], codes[1], atol=1e-5)


def test_the_warm_up_requests_are_answered(server, two_versions):
    """As TensorFlow Serving reads and sends them."""
    for version in ("1", "2"):
        file = two_versions / version / "assets.extra" / "tf_serving_warmup_requests"
        logs = [
            prediction_log_pb2.PredictionLog.FromString(record.numpy()) for record in tf.data.TFRecordDataset(str(file))
        ]
        assert len(logs) < 1000  # it reads no more
        with grpc.insecure_channel(server.grpc.split("/")[2]) as channel:
            stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
            answered = []
            for log in logs:
                request = log.predict_log.request
                request.model_spec.name = "digits"
                answered.append((request.model_spec.signature_name, set(stub.Predict(request, timeout=30).outputs)))
        expected = {name: set(outputs) for name, outputs in SIGNATURES.items()}
        twins = {f"{name.removeprefix('serving_')}_bytes": outputs for name, outputs in expected.items()}
        assert dict(answered) == expected | twins
        assert len(answered) == len(expected) * 2


def test_the_metadata_of_our_exports_is_what_serving_tells(server):
    with grpc.insecure_channel(server.grpc.split("/")[2]) as channel:
        request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
        request.model_spec.name = "digits"
        response = prediction_service_pb2_grpc.PredictionServiceStub(channel).GetModelMetadata(request, timeout=30)
    found = get_model_metadata_pb2.SignatureDefMap()
    assert response.metadata["signature_def"].Unpack(found)
    assert {name: set(found.signature_def[name].outputs) for name in SIGNATURES} == {
        name: set(outputs) for name, outputs in SIGNATURES.items()
    }


def test_the_programs_of_the_documentation_run_as_printed(server, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "image.png").write_bytes(GOOD)
    text = (Path(__file__).parents[2] / "docs" / "serving.md").read_text()
    programs = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len(programs) == 2
    for program in programs:
        assert "grpc://localhost:8500/digits" in program
        program = program.replace("grpc://localhost:8500/digits", server.grpc).replace("queries=1000", "queries=20")
        exec(compile(program, "serving.md", "exec"), {})
    shape, verdict, attacked = capsys.readouterr().out.splitlines()
    assert shape == "(8, 8, 1)"
    assert verdict in ("[ True]", "[False]")
    assert re.fullmatch(r"[\d.]+% stand, after [\d,]+ questions", attacked)


def run(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def test_detect_by_an_endpoint_gives_what_the_folder_gives(client, two_versions, test_images, tmp_path):
    np.savez(tmp_path / "images.npz", images=test_images[:5])
    (tmp_path / "image.png").write_bytes(png(test_images[5]))
    paths = (tmp_path / "images.npz", tmp_path / "image.png")
    served, local = run("detect", "--endpoint", client.url, *paths), run("detect", two_versions, *paths)
    assert served.exit_code == local.exit_code == 0, served.output
    rows = [[line for line in result.output.splitlines() if "│" in line] for result in (served, local)]
    assert len(rows[0]) == 6
    assert rows[0] == rows[1]
    assert client.url in served.output


def test_scripts_ask_an_endpoint(server, test_images, library, tmp_path):
    verdict = library[2].verdict
    assert 0 < verdict.sum() < len(verdict)
    for name, chosen in (("natural", ~verdict), ("adversarial", verdict)):
        np.savez(tmp_path / "images.npz", images=test_images[chosen])
        result = run("detect", "--endpoint", server.grpc, tmp_path / "images.npz", "--json", "-", "--exit-code")
        assert result.exit_code == (name == "adversarial"), result.output
        found = json.loads(result.output)
        assert found["model"] == server.grpc
        assert [row["label"] for row in found["images"]] == [str(label) for label in library[2].label[chosen]]


@pytest.mark.parametrize(("attack", "outputs"), [("square", "logits"), ("rays", "labels")])
def test_attack_of_an_endpoint_gives_what_the_folder_gives(client, two_versions, tmp_path, attack, outputs):
    common = ["--dataset", "digits", "--epsilon", 0.15, "--attack", attack, "--queries", 60, "--limit", 30, "--json"]
    served = run("attack", "--endpoint", client.url, *common, tmp_path / "served.json")
    assert served.exit_code == 0, served.output
    assert run("attack", two_versions, *common, tmp_path / "local.json").exit_code == 0
    found, expected = (json.loads((tmp_path / f"{name}.json").read_text()) for name in ("served", "local"))
    assert found["outputs"] == outputs
    assert found["model"] == client.url
    assert found["attacks"] == expected["attacks"]
    asked = int(served.output.partition("was asked about ")[2].partition(" images")[0].replace(",", ""))
    assert asked <= found["forward_passes"][attack] + 1
    assert found["forward_passes"][attack] <= 30 * 61


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--attack", "pgd"], "a server gives no gradients: give one of square, rays"),
        (["--attack", "square", "--epsilon", "0.1"], "does not say what it was trained on: give --dataset"),
        (["--attack", "square", "--dataset", "digits"], "no epsilon is known for grpc://localhost:1/digits"),
        (["model", "--attack", "square"], "was given with MODEL"),
        (["--attack", "square", "--record", "record"], "was given with --record, --card or --naive"),
        (["--attack", "rays", "--with-detector"], "rays was asked for with the detector"),
        (["--attack", "rays", "--dataset", "digits", "--epsilon", "0.1"], "gave no answer in 4 tries"),
    ],
)
def test_attack_of_an_endpoint_refuses(arguments, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = run("attack", "--endpoint", "grpc://localhost:1/digits", *arguments)
    assert result.exit_code == 2, result.output
    assert message in result.output
    assert not list(tmp_path.iterdir())


def test_detect_by_an_endpoint_refuses(tmp_path, server):
    Image.new("L", (9, 8)).save(tmp_path / "wide.png")
    for url, message in (
        ("localhost:8501", "is not the address of a served model"),
        ("http://localhost:1/v1/models/digits", "gave no answer in 4 tries"),
        (server.rest + "s", "refused the request: Servable not found"),
        (server.grpc, "9 x 8 pixels of 1 channel and the model takes 8 x 8"),
    ):
        result = run("detect", "--endpoint", url, tmp_path / "wide.png")
        assert result.exit_code == 2
        assert message in result.output
        assert len(result.output.strip().splitlines()) == 1
