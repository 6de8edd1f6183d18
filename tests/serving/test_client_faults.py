"""The client against servers that drip, bloat, lie and die: one sentence, in time, in little memory, no secrets."""

import gzip
import itertools
import json
import socket
import threading
import time
import traceback
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress

import grpc
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import get_model_metadata_pb2, predict_pb2, prediction_service_pb2_grpc

from erkeras.errors import InputError, UnavailableError
from erkeras.serving import Client

IMAGES = np.zeros((1, 2, 2, 1), np.float32)
TOKEN = "sk-0123456789"
TIMEOUT, TRIES = 0.3, 2
MALFORMED = "does not answer as TensorFlow Serving does"
HEAD = b"HTTP/1.1 200 OK\r\n"
GOOD = b'{"outputs": [[1.0, 2.0]]}'


def whole(body, *headers):
    return HEAD + b"".join(header + b"\r\n" for header in headers) + b"Content-Length: %d\r\n\r\n" % len(body) + body


def dripping(start, drop):
    return itertools.chain([start], (time.sleep(0.02) or drop for _ in range(500)))


@contextmanager
def serving(answer):
    """A server that sends the pieces that `answer(number of the request)` gives, and then ends the connection."""
    listener = socket.create_server(("127.0.0.1", 0))
    requests = []

    def serve(connection):
        with connection:
            request = b""
            while b"\r\n\r\n" not in request:
                request += connection.recv(65536) or b"\r\n\r\n"
            head, _, body = request.partition(b"\r\n\r\n")
            length = next((int(line[15:]) for line in head.split(b"\r\n") if line.startswith(b"Content-Length")), 0)
            while len(body) < length:
                body += connection.recv(65536)
            requests.append(request)
            with suppress(OSError):
                for piece in answer(len(requests)):
                    connection.sendall(piece)

    def accept():
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=serve, args=[connection], daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/v1/models/digits", requests
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()


def ask(url, **settings):
    settings = {"timeout": TIMEOUT, "retries": TRIES - 1, "backoff": 0.01, "token": TOKEN} | settings
    with Client(url, **settings) as client:
        return client.predict("embed", {"images": IMAGES})


def fails(url, kind, message, within=TIMEOUT * TRIES + 2, **settings):
    start = time.monotonic()
    with pytest.raises(InputError, match=message) as caught:
        ask(url, **settings)
    assert time.monotonic() - start < within
    assert type(caught.value) is kind
    said = str(caught.value)
    assert said.isprintable()
    assert len(said) < 600
    assert TOKEN not in said
    assert TOKEN not in "".join(traceback.format_exception(caught.value))


def test_a_good_answer_of_each_form():
    zipped = gzip.compress(GOOD)
    for answer in (
        [whole(GOOD)],
        [whole(zipped, b"Content-Encoding: gzip")],
        [HEAD, b"Transfer-Encoding: chunked\r\n\r\n", b"%x\r\n%s\r\n0\r\n\r\n" % (len(GOOD), GOOD)],
        [HEAD, b"\r\n", GOOD],
        dripping(whole(b" " * 5 + GOOD)[:-1], b"}"),
    ):
        with serving(lambda _, answer=answer: answer) as (url, _):
            assert ask(url)["code"].tolist() == [[1, 2]]


@pytest.mark.parametrize(
    ("start", "drop"),
    [
        (HEAD + b"Content-Length: 100\r\n\r\n", b" "),
        (HEAD + b"\r\n", b" "),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n"),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"0"),
        (HEAD + b"X: ", b"x"),
        (HEAD, b"X: y\r\n"),
        (b"", b"H"),
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
        (HEAD + b"Content-Encoding: gzip\r\n\r\n" + gzip.compress(b" " * 99, mtime=0)[:-9], b"\0"),
        (b"", b""),
    ],
)
def test_a_try_ends_within_its_timeout_whatever_drips(start, drop):
    with serving(lambda _: dripping(start, drop)) as (url, requests):
        fails(url, UnavailableError, r"in 2 tries \(its answer was not complete in time\)")
        assert len(requests) == TRIES


def test_a_server_that_reads_nothing():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/v1/models/digits"
        start = time.monotonic()
        with (
            Client(url, timeout=TIMEOUT, retries=TRIES - 1) as client,
            pytest.raises(UnavailableError, match="not complete in time"),
        ):
            client.predict("embed_bytes", {"encoded_images": [bytes(10_000_000)]})
        assert time.monotonic() - start < TIMEOUT * TRIES + 3


def test_a_resolver_that_hangs(monkeypatch):
    released = threading.Event()
    monkeypatch.setattr("socket.getaddrinfo", lambda *_: released.wait(20))
    fails("http://localhost:1/v1/models/digits", UnavailableError, "its name was not found in time")
    released.set()


def test_an_address_that_hangs_leaves_time_for_the_next(monkeypatch):
    with serving(lambda _: [whole(GOOD)]) as (url, _):
        port = int(url.split(":")[2].split("/")[0])
        full = socket.create_server(("127.0.0.2", 0), backlog=0)
        filling = [socket.socket() for _ in range(4)]
        for one in filling:
            one.setblocking(False)
            one.connect_ex(full.getsockname())
        found = [
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", address)
            for address in (full.getsockname(), ("127.0.0.1", port))
        ]
        monkeypatch.setattr("socket.getaddrinfo", lambda *_: found)
        assert ask(url, timeout=1)["code"].shape == (1, 2)
        for one in (full, *filling):
            one.close()


@pytest.mark.parametrize(
    "answer",
    [
        lambda: itertools.chain([HEAD + b"Content-Length: 10000000000\r\n\r\n"], itertools.repeat(b" " * 10_000)),
        lambda: itertools.chain([HEAD + b"\r\n"], itertools.repeat(b" " * 10_000)),
        lambda: itertools.chain([HEAD + b"Transfer-Encoding: chunked\r\n\r\n"], itertools.repeat(b"1\r\n \r\n" * 1000)),
        lambda: itertools.chain([HEAD + b"Transfer-Encoding: chunked\r\n\r\n-1\r\n"], itertools.repeat(b" " * 10_000)),
        lambda: [whole(BOMB, b"Content-Encoding: gzip")],
        lambda: [whole(gzip.compress(BOMB), b"Content-Encoding: gzip, gzip")],
    ],
)
def test_an_answer_without_end(answer):
    with serving(lambda _: answer()) as (url, requests):
        tracemalloc.start()
        said = "answers with more than 100,000 bytes: send fewer"
        fails(url, InputError, said, largest_answer=100_000, timeout=2)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 10_000_000
        assert len(requests) == 1


BOMB = gzip.compress(bytes(50_000_000))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"7",
        b"<html>hello</html>",
        bytes(range(256)),
        b'{"outputs": null}',
        b'{"predictions": [[1.0]]}',
        b"[" * 100_000 + b"]" * 100_000,
        b'{"outputs": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"outputs": [[' + b"9" * 5000 + b"]]}",
        b'{"outputs": [[1.0]], "outputs": [[2.0]]}',
        b'{"outputs": [[NaN, 1.0]]}',
        b'{"outputs": [["1.0"]]}',
        b'{"outputs": [[1.0], [2.0]]}',
        b'{"outputs": {"other": [[1.0]]}}',
        b'{"outputs": "\xff"}',
    ],
)
def test_what_is_no_answer(body):
    with serving(lambda _: [whole(body)]) as (url, requests):
        fails(url, InputError, MALFORMED)
        assert len(requests) == 1


@pytest.mark.parametrize(
    "answer",
    [
        b"SSH-2.0-OpenSSH_9.6\r\n\r\n",
        HEAD + b"X: " + b"x" * 70_000 + b"\r\n\r\n",
        HEAD + b"X: y\r\n" * 200 + b"\r\n",
        HEAD + b"Content-Length: 1, 2\r\n\r\n",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n-5\r\n",
        whole(b"no gzip at all", b"Content-Encoding: gzip"),
    ],
)
def test_what_is_no_http(answer):
    with serving(lambda _: [answer]) as (url, _):
        fails(url, InputError, MALFORMED)


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        HEAD + b"Content-Length: 100\r\n\r\n{",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\nff\r\n{",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\nxyz\r\n",
    ],
)
def test_who_dies_in_the_middle_is_asked_again(answer):
    with serving(lambda number: [whole(GOOD) if number == TRIES else answer]) as (url, requests):
        assert ask(url)["code"].shape == (1, 2)
        assert len(requests) == TRIES
    with serving(lambda _: [answer]) as (url, _):
        fails(url, UnavailableError, "the connection ended before the answer did")


def test_what_a_server_says_is_one_line_without_the_token():
    said = json.dumps({"error": f"bad\n\x1b[31m \u202etoken 'Bearer {TOKEN}' " + "x" * 10_000}).encode()
    with serving(lambda _: [b"HTTP/1.1 400 Bad\r\nContent-Length: %d\r\n\r\n" % len(said), said]) as (url, _):
        fails(url, InputError, r"refused the request: bad \[31m token 'Bearer \.\.\.' x+\.$")


@pytest.mark.parametrize("status", [300, 301, 307, 399])
def test_a_redirect_is_not_followed(status):
    with serving(lambda _: [whole(GOOD)]) as (other, strangers):
        answer = f"HTTP/1.1 {status} Elsewhere\r\nLocation: {other}:predict\r\nContent-Length: 0\r\n\r\n".encode()
        with serving(lambda _: [answer]) as (url, requests):
            fails(url, InputError, rf"redirects elsewhere \(status {status}\)")
            assert TOKEN.encode() in requests[0]
        assert not strangers


@pytest.mark.parametrize(
    ("said", "least"),
    [("1", 0.15), ("100000", 0.15), ("Fri, 31 Dec 9999 23:59:59 GMT", 0.15), ("soon", 0), ("9" * 5000, 0)],
)
def test_retry_after_is_respected_within_the_time_of_all_tries(said, least):
    busy = b"HTTP/1.1 429 Busy\r\nConnection: close\r\nContent-Length: 0\r\nRetry-After: " + said.encode() + b"\r\n\r\n"
    with serving(lambda number: [whole(GOOD) if number == TRIES else busy]) as (url, _):
        start = time.monotonic()
        assert ask(url)["code"].shape == (1, 2)
        assert least < time.monotonic() - start < TIMEOUT * TRIES + 2


class Servicer(prediction_service_pb2_grpc.PredictionServiceServicer):
    def __init__(self, outputs):
        self.outputs, self.metadata, self.compression, self.waits = outputs, None, None, 0

    def Predict(self, request, context):
        if self.compression:
            context.set_compression(self.compression)
        time.sleep(self.waits)
        return predict_pb2.PredictResponse(
            outputs={
                name: value if isinstance(value, tf.make_tensor_proto(0).__class__) else tf.make_tensor_proto(value)
                for name, value in self.outputs.items()
            }
        )

    def GetModelMetadata(self, request, context):
        response = get_model_metadata_pb2.GetModelMetadataResponse()
        if self.metadata is not None:
            response.metadata["signature_def"].CopyFrom(self.metadata)
        return response


@contextmanager
def serving_grpc(outputs):
    servicer, remote = Servicer(outputs), grpc.server(ThreadPoolExecutor(4))
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(servicer, remote)
    url = f"grpc://127.0.0.1:{remote.add_insecure_port('127.0.0.1:0')}/digits"
    remote.start()
    try:
        yield url, servicer
    finally:
        remote.stop(None).wait()


@pytest.mark.parametrize(
    ("outputs", "message"),
    [
        ({}, "code is missing"),
        ({"code": np.float64([[1, 2]])}, "code is float64 and not float32"),
        ({"code": np.float32([[1, 2]] * 2)}, r"shape \(2, 2\) for 1 images"),
        ({"code": np.float32([1])}, r"shape \(1,\) for 1 images"),
        ({"code": [["a"]]}, "code is object and not float32"),
        ({"code": np.float32([[np.nan]])}, "code is not finite"),
    ],
)
def test_what_is_no_answer_by_grpc(outputs, message):
    with serving_grpc(outputs) as (url, _):
        fails(url, InputError, f"{MALFORMED} .*{message}", timeout=3)


def test_large_and_compressed_answers_by_grpc():
    with serving_grpc({"code": np.zeros((1, 100_000), np.float32)}) as (url, servicer):
        fails(url, InputError, "answers with more than 100,000 bytes", largest_answer=100_000, timeout=3)
        servicer.compression = grpc.Compression.Gzip
        fails(url, InputError, MALFORMED, largest_answer=100_000, timeout=3)


def test_all_tries_by_grpc_end_in_time():
    with serving_grpc({}) as (url, servicer):
        servicer.waits = 1
        fails(url, UnavailableError, "in 2 tries")


def test_metadata_by_grpc_that_is_none():
    with serving_grpc({}) as (url, servicer), Client(url) as client:
        for content in (None, b"", b"\xff\xff"):
            if content is not None:
                described = get_model_metadata_pb2.SignatureDefMap.DESCRIPTOR.full_name
                servicer.metadata = type(get_model_metadata_pb2.GetModelMetadataResponse().metadata["x"])(
                    type_url=f"type.googleapis.com/{described}" if content else "", value=content
                )
            with pytest.raises(InputError, match=f"{MALFORMED} .it describes no signatures"):
                client.image_shape  # noqa: B018
