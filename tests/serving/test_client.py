"""The client against servers that answer, fail, refuse and hang: which failures it repeats, for how long it waits."""

import json
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import grpc
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import get_model_metadata_pb2, predict_pb2, prediction_service_pb2_grpc

from erkeras.errors import InputError, UnavailableError
from erkeras.serving import Client

ANSWER, FAIL, REFUSE, HANG = "answer", "fail", "refuse", "hang"
SHAPE = [-1, 2, 2, 1]
PROBABILITIES = [0.0, 0.25, 0.75, 0.0, 0.0, 0.0]


class Server:
    """Takes its behaviour, request after request, from a list, and answers when that is at its end; label: how many
    images came."""

    def __init__(self):
        self.plan, self.requests, self.times, self.released = [], [], [], threading.Event()

    def next(self, request):
        self.requests.append(request)
        self.times.append(time.monotonic())
        behaviour = self.plan.pop(0) if self.plan else ANSWER
        if behaviour == HANG:
            self.released.wait(20)
        return behaviour


class Rest(BaseHTTPRequestHandler):
    server_of = None

    def do_GET(self):
        tensor = {"dtype": "DT_FLOAT", "tensor_shape": {"dim": [{"size": str(size)} for size in SHAPE]}}
        signature = {"inputs": {"images": tensor}, "outputs": {}}
        empty = {"inputs": {}, "outputs": {}}
        found = {"serving_default": signature, "__saved_model_init_op": empty}
        self.send(200, {"metadata": {"signature_def": {"signature_def": found}}})

    def do_POST(self):
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        behaviour = self.server_of.next((self.path, request))
        if behaviour == FAIL:
            self.send(503, {"error": "overloaded"})
        elif behaviour == REFUSE:
            self.send(400, {"error": "no such\nthing."})
        else:
            (value,) = request["inputs"].values()
            outputs = {"probabilities": [PROBABILITIES] * len(value), "label": [len(value)] * len(value)}
            codes = request["signature_name"].startswith("embed")
            self.send(200, {"outputs": [[1, 2.5]] * len(value) if codes else outputs})

    def send(self, status, content):
        data = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_):
        pass


class Servicer(prediction_service_pb2_grpc.PredictionServiceServicer):
    def __init__(self, server):
        self.server = server

    def GetModelMetadata(self, request, context):
        signatures = get_model_metadata_pb2.SignatureDefMap()
        shape = tf.TensorShape(SHAPE[1:]).as_proto()
        shape.dim.insert(0, type(shape).Dim(size=-1))
        signatures.signature_def["serving_default"].inputs["images"].tensor_shape.CopyFrom(shape)
        response = get_model_metadata_pb2.GetModelMetadataResponse()
        response.metadata["signature_def"].Pack(signatures)
        return response

    def Predict(self, request, context):
        behaviour = self.server.next(request)
        if behaviour == FAIL:
            context.abort(grpc.StatusCode.UNAVAILABLE, "overloaded")
        if behaviour == REFUSE:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "no such\nthing. [[{{node Assert}}]]")
        ((_, tensor),) = request.inputs.items()
        count = tensor.tensor_shape.dim[0].size
        outputs = {"probabilities": np.float32([PROBABILITIES] * count), "label": np.full(count, count, np.int32)}
        if request.model_spec.signature_name.startswith("embed"):
            outputs = {"code": np.float32([[1, 2.5]] * count)}
        return predict_pb2.PredictResponse(outputs={k: tf.make_tensor_proto(v) for k, v in outputs.items()})


@pytest.fixture(params=["rest", "grpc"])
def served(request):
    """A server with a plan, and the address of its model."""
    server = Server()
    if request.param == "rest":
        http = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (Rest,), {"server_of": server}))
        threading.Thread(target=http.serve_forever, daemon=True).start()
        server.url = f"http://localhost:{http.server_port}/v1/models/digits"
        yield server
        server.released.set()
        http.shutdown()
        http.server_close()
    else:
        remote = grpc.server(ThreadPoolExecutor(4))
        prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(Servicer(server), remote)
        server.url = f"grpc://localhost:{remote.add_insecure_port('127.0.0.1:0')}/digits"
        remote.start()
        yield server
        server.released.set()
        remote.stop(None).wait()


IMAGES = np.linspace(0, 1, 20, dtype=np.float32).reshape(5, 2, 2, 1)


def test_it_answers(served):
    with Client(served.url) as client:
        assert client.image_shape == (2, 2, 1)
        assert set(client.signatures) == {"serving_default"}
        found = client.classify(IMAGES)
        assert {name: (value.dtype, value.shape) for name, value in found.items()} == {
            "probabilities": (np.float32, (5, 6)),
            "label": (np.int32, (5,)),
        }
        codes = client.embed(IMAGES)
        assert codes.dtype == np.float32
        np.testing.assert_array_equal(codes, [[1, 2.5]] * 5)
        np.testing.assert_array_equal(client.embed([b"\x89PNG", b""]), [[1, 2.5]] * 2)


def test_images_go_in_batches(served):
    with Client(served.url, batch_size=2) as client:
        assert client.classify(IMAGES)["label"].tolist() == [2, 2, 2, 2, 1]
        assert client.classify([b"1", b"2", b"3"])["label"].tolist() == [2, 2, 1]
    assert len(served.requests) == 5


def test_pixels_arrive_as_they_are(served):
    with Client(served.url) as client:
        client.classify(IMAGES)
    (request,) = served.requests
    if isinstance(request, tuple):
        found = np.float32(request[1]["inputs"]["images"])
    else:
        found = tf.make_ndarray(request.inputs["images"])
    np.testing.assert_array_equal(found, IMAGES)


def test_a_version_is_asked_for(served):
    with Client(f"{served.url}/versions/3") as client:
        client.predict("serving_default", {"images": IMAGES})
    (request,) = served.requests
    if isinstance(request, tuple):
        assert request[0] == "/v1/models/digits/versions/3:predict"
    else:
        assert request.model_spec.version.value == 3


def test_what_passes_is_tried_again_after_longer_and_longer_waits(served):
    served.plan = [FAIL, FAIL, FAIL]
    with Client(served.url, retries=3, backoff=0.1) as client:
        assert client.classify(IMAGES)["label"].tolist() == [5] * 5
    assert len(served.requests) == 4
    waits = np.diff(served.times)
    assert waits[-1] > waits[-2] > 0.1
    assert sum(waits) < 2


def test_no_retries_is_one_try(served):
    served.plan = [FAIL]
    with Client(served.url, retries=0) as client, pytest.raises(UnavailableError, match="in 1 tries"):
        client.predict("serving_default", {"images": IMAGES})
    assert len(served.requests) == 1


def test_a_large_request_is_tried_again(served):
    served.plan = [FAIL]
    with Client(served.url, backoff=0.01) as client:
        assert client.predict("embed", {"images": np.zeros((1, 2**18), np.float32)})["code"].shape == (1, 2)
    assert len(served.requests) == 2


def test_it_gives_up(served):
    served.plan = [FAIL] * 3
    with Client(served.url, retries=2, backoff=0.01) as client:
        with pytest.raises(UnavailableError, match=r"gave no answer in 3 tries \((overloaded|status 503)\): check"):
            client.predict("serving_default", {"images": IMAGES})
        assert len(served.requests) == 3
        assert client.classify(IMAGES)["label"].tolist() == [5] * 5


def test_what_is_refused_is_not_tried_again(served):
    served.plan = [REFUSE]
    with Client(served.url) as client:
        with pytest.raises(InputError, match=r"digits refused the request: no such thing\.$") as caught:
            client.predict("serving_default", {"images": IMAGES})
        assert not isinstance(caught.value, UnavailableError)
        assert len(served.requests) == 1
        assert client.classify(IMAGES)["label"].tolist() == [5] * 5


@pytest.mark.parametrize("content", [b"{}", b"7", b"[]", b'{"metadata": {"signature_def": 3}}', b'{"outputs": {}}'])
def test_who_is_no_tensorflow_serving(content):
    class Other(BaseHTTPRequestHandler):
        def do_GET(self):
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_POST = do_GET

        def log_message(self, *_):
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Other)
    threading.Thread(target=http.serve_forever, daemon=True).start()
    try:
        with (
            Client(f"http://localhost:{http.server_port}/v1/models/digits") as client,
            pytest.raises(InputError, match="does not answer as TensorFlow Serving does"),
        ):
            client.classify(IMAGES)
    finally:
        http.shutdown()
        http.server_close()


def test_a_slow_answer_is_not_waited_for(served):
    served.plan = [HANG, HANG]
    with Client(served.url, timeout=0.3, retries=1, backoff=0.01) as client:
        start = time.perf_counter()
        with pytest.raises(UnavailableError, match="gave no answer in 2 tries"):
            client.predict("serving_default", {"images": IMAGES})
        assert 0.5 < time.perf_counter() - start < 5
        assert client.predict("serving_default", {"images": IMAGES})["label"].tolist() == [5] * 5
    assert len(served.requests) == 3


@pytest.mark.parametrize("url", ["http://localhost:1/v1/models/digits", "grpc://localhost:1/digits"])
def test_nobody_is_there(url):
    with Client(url, retries=1, backoff=0.01) as client, pytest.raises(UnavailableError, match="in 2 tries"):
        client.detect([b"file"])


@pytest.mark.parametrize(
    "url",
    [
        "",
        "localhost:8501",
        "http://localhost:8501/digits",
        "grpc://localhost/a/b",
        "ftp://host/v1/models/a",
        "grpc://localhost/v1/models/digits",
        "http://localhost:0/v1/models/digits",
        "http://localhost:99999/v1/models/digits",
        "http://[::1/v1/models/digits",
        "http://localhost/v1/models/digits?key=1",
    ],
)
def test_another_address_is_refused(url):
    with pytest.raises(InputError, match="is not the address of a served model: give http://"):
        Client(url)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"timeout": 0}, "timeout is 0: give a number, 0.001 to 86,400"),
        ({"timeout": float("nan")}, "timeout is nan"),
        ({"retries": 5}, "retries is 5: give a whole number, 0 to 4"),
        ({"retries": 1.5}, "retries is 1.5"),
        ({"backoff": -1}, "backoff is -1"),
        ({"batch_size": 0}, "batch_size is 0: give a whole number, 1 or more"),
        ({"largest_answer": True}, "largest_answer is True"),
    ],
)
def test_other_settings_are_refused(settings, message):
    with pytest.raises(InputError, match=message):
        Client("grpc://localhost:1/digits", **settings)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (IMAGES[:0], "no images were given"),
        ([], "no images were given"),
        (b"one file", "no images were given"),
        (IMAGES[:, :1], r"shape \(5, 1, 2, 1\) and .* takes \[n, 2, 2, 1\]"),
        (IMAGES * 255, "not between 0 and 1"),
        (IMAGES * np.nan, "not between 0 and 1"),
    ],
)
def test_bad_images_are_not_sent(served, images, message):
    with Client(served.url) as client, pytest.raises(InputError, match=message):
        client.classify(images)
    assert not served.requests


def test_threads_share_a_client(served):
    with Client(served.url) as client, ThreadPoolExecutor(8) as pool:
        counts = [number % 5 + 1 for number in range(40)]
        found = pool.map(lambda count: client.classify(IMAGES[:count])["label"].tolist(), counts)
        assert list(found) == [[count] * count for count in counts]


def test_by_rest_the_client_needs_no_tensorflow():
    program = (
        "import sys\n"
        "sys.modules['tensorflow'] = sys.modules['tensorflow_serving'] = None  # importing them fails\n"
        "from erkeras.errors import UnavailableError\n"
        "from erkeras.serving import Client\n"
        "try:\n"
        "    Client('http://localhost:1/v1/models/digits', retries=0).detect([b''])\n"
        "except UnavailableError:\n"
        "    print('asked')\n"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert result.stdout == "asked\n", result.stderr
