"""Who a client says that it is, and whom it believes: tokens, headers, certificates. Nothing of it is printed."""

import base64
import gc
import logging
import shutil
import ssl
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import grpc
import numpy as np
import pytest
import tensorflow as tf
from click.testing import CliRunner
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

from erkeras.cli import main
from erkeras.errors import InputError, UnavailableError
from erkeras.serving import Client

TOKEN = "sk-0123456789"
IMAGES = np.zeros((1, 2, 2, 1), np.float32)
REMOTE = ["http://models.example:8501/v1/models/digits", "grpc://models.example:8500/digits"]
LOCAL = ["http://localhost:1/v1/models/digits", "grpc://localhost:1/digits"]


@pytest.fixture(autouse=True)
def no_variables(monkeypatch):
    monkeypatch.delenv("ERKERAS_TOKEN", raising=False)
    monkeypatch.delenv("ERKERAS_CA", raising=False)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """(certificate, key) of 127.0.0.1, which signs itself."""
    if not shutil.which("openssl"):
        pytest.skip("openssl makes the certificate")
    folder = tmp_path_factory.mktemp("certificate")
    request = "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -addext subjectAltName=IP:127.0.0.1"
    command = ["openssl", *request.split(), "-keyout", str(folder / "key.pem"), "-out", str(folder / "ca.pem")]
    subprocess.run(command, check=True, capture_output=True)
    return folder / "ca.pem", folder / "key.pem"


class Rest(BaseHTTPRequestHandler):
    seen: list

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.seen.append({key.lower(): value for key, value in self.headers.items()})
        status, data = (200, b'{"outputs": [[1.0]]}') if "authorization" in self.seen[-1] else (401, b"")
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_):
        pass


class Servicer(prediction_service_pb2_grpc.PredictionServiceServicer):
    def __init__(self, seen):
        self.seen = seen

    def Predict(self, request, context):
        self.seen.append(dict(context.invocation_metadata()))
        if "authorization" not in self.seen[-1]:
            context.abort(grpc.StatusCode.UNAUTHENTICATED, "no token")
        return predict_pb2.PredictResponse(outputs={"code": tf.make_tensor_proto(np.float32([[1]]))})


def serve(protocol, certificate=None):
    seen = []
    if protocol == "rest":
        http = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (Rest,), {"seen": seen}))
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*certificate)
            http.socket = context.wrap_socket(http.socket, server_side=True)
        http.handle_error = lambda *_: None
        threading.Thread(target=http.serve_forever, daemon=True).start()
        scheme = "https" if certificate else "http"
        yield f"{scheme}://127.0.0.1:{http.server_port}/v1/models/digits", seen
        http.shutdown()
        http.server_close()
    else:
        remote = grpc.server(ThreadPoolExecutor(4))
        prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(Servicer(seen), remote)
        if certificate:
            pair = tuple(path.read_bytes() for path in reversed(certificate))
            port = remote.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([pair]))
        else:
            port = remote.add_insecure_port("127.0.0.1:0")
        remote.start()
        yield f"{'grpcs' if certificate else 'grpc'}://127.0.0.1:{port}/digits", seen
        remote.stop(None).wait()


@pytest.fixture(params=["rest", "grpc"])
def plain(request):
    yield from serve(request.param)


@pytest.fixture(params=["rest", "grpc"])
def encrypted(request, certificate):
    yield from serve(request.param, certificate)


def ask(url, **settings):
    with Client(url, **{"timeout": 3, "retries": 0} | settings) as client:
        return client.predict("embed", {"images": IMAGES})["code"].tolist()


def test_token_and_headers_over_tls(encrypted, certificate):
    url, seen = encrypted
    assert ask(url, token=TOKEN, headers={"X-Team": "blue"}, ca_file=certificate[0]) == [[1]]
    assert seen[-1]["authorization"] == f"Bearer {TOKEN}"
    assert seen[-1]["x-team"] == "blue"
    assert ask(url, headers={"Authorization": "Basic eDp5"}, ca_file=str(certificate[0])) == [[1]]
    assert seen[-1]["authorization"] == "Basic eDp5"


def test_the_environment(encrypted, certificate, monkeypatch):
    url, seen = encrypted
    monkeypatch.setenv("ERKERAS_TOKEN", f"{TOKEN}\n")
    monkeypatch.setenv("ERKERAS_CA", str(certificate[0]))
    assert ask(url) == [[1]]
    assert seen[-1]["authorization"] == f"Bearer {TOKEN}"
    assert ask(url, token="another-one") == [[1]]
    assert seen[-1]["authorization"] == "Bearer another-one"
    assert ask(url, headers={"authorization": "Basic eDp5"}) == [[1]]
    assert seen[-1]["authorization"] == "Basic eDp5"


def test_who_is_not_trusted_gets_no_token(encrypted, certificate):
    url, seen = encrypted
    with pytest.raises(InputError, match=r"has a certificate that is not trusted.*give the file of its CA") as caught:
        ask(url, token=TOKEN, retries=2)
    assert not isinstance(caught.value, UnavailableError)
    with pytest.raises(InputError):  # of another name
        ask(url.replace("127.0.0.1", "localhost"), token=TOKEN, ca_file=certificate[0], timeout=0.5)
    assert not seen


def test_who_speaks_no_tls(plain):
    url, _ = plain
    with pytest.raises(InputError) as caught:
        ask(url.replace("http:", "https:").replace("grpc:", "grpcs:"), token=TOKEN, timeout=0.5)
    assert str(caught.value).count("\n") == 0


@pytest.mark.parametrize("number", [0, 1])
def test_a_token_goes_unencrypted_to_this_machine_alone(number, plain, monkeypatch):
    url, seen = plain
    assert ask(url, token=TOKEN) == [[1]]
    assert seen[-1]["authorization"] == f"Bearer {TOKEN}"
    for settings in ({"token": TOKEN}, {"headers": {"authorization": f"Bearer {TOKEN}"}}):
        with pytest.raises(InputError, match="to which everyone on the way can listen") as caught:
            Client(REMOTE[number], **settings)
        assert TOKEN not in str(caught.value)
    monkeypatch.setenv("ERKERAS_TOKEN", TOKEN)
    with pytest.raises(InputError, match="unset ERKERAS_TOKEN"):
        Client(REMOTE[number])


def test_no_token_is_refused_with_what_to_do(plain):
    with pytest.raises(InputError, match=r"refused the credentials \(.*\): give others in ERKERAS_TOKEN\.$"):
        ask(plain[0])


@pytest.mark.parametrize(
    "url",
    [
        "http://user:hunter22@localhost:1/v1/models/digits",
        "https://user:hunter22@localhost/v1/models/digits",
        "grpc://hunter22@localhost:1/digits",
        "grpc://user:hunt/er22@localhost:1/digits",
        "user:hunter22@localhost",
        "http://localhost:1/v1/models/user:hunter22@digits",
    ],
)
def test_a_password_in_the_address_is_refused_and_not_printed(url, tmp_path):
    with pytest.raises(InputError, match="has a name or a password in it: leave them out") as caught:
        Client(url)
    assert "er22" not in str(caught.value)
    result = CliRunner().invoke(main, ["detect", "--endpoint", url, str(tmp_path)])
    assert result.exit_code == 2
    assert "er22" not in result.output
    assert "ERKERAS_TOKEN" in result.output


def test_a_query_is_refused_and_not_printed():
    with pytest.raises(InputError, match="is not the address of a served model") as caught:
        Client("https://localhost/v1/models/digits?key=hunter22")
    assert "hunter22" not in str(caught.value)


@pytest.mark.parametrize("url", LOCAL)
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"token": f"{TOKEN}\r\nX: y"}, "the token has signs other than printable ASCII"),
        ({"token": f"{TOKEN} y"}, "the token has signs"),
        ({"token": f"{TOKEN}é"}, "the token has signs"),
        ({"headers": {"X-Key": f"{TOKEN}\r\n"}}, "the header X-Key is not a string of printable ASCII"),
        ({"headers": {"X-Key": 7}}, "the header X-Key is not a string"),
        ({"headers": {"X Key": "1"}}, "'X Key' is not a header that a client sends"),
        ({"headers": {"Content-Length": "1"}}, "'Content-Length' is not a header that a client sends"),
        ({"token": TOKEN, "headers": {"authorization": "x"}}, "leave one out"),
        ({"ca_file": "ca.pem"}, "which is not encrypted: give https:// or grpcs://"),
    ],
)
def test_what_is_malformed_is_refused_and_not_printed(url, settings, message):
    with pytest.raises(InputError, match=message) as caught:
        Client(url, **settings)
    assert TOKEN not in str(caught.value)


@pytest.mark.parametrize("url", ["https://localhost:1/v1/models/digits", "grpcs://localhost:1/digits"])
def test_a_ca_file_that_is_none(url, tmp_path, monkeypatch):
    (tmp_path / "empty.pem").write_text("")
    (tmp_path / "bad.pem").write_bytes(b"-----BEGIN CERTIFICATE-----\n\xff\n-----END CERTIFICATE-----\n")
    for name in ("absent.pem", "empty.pem", "bad.pem", "."):
        monkeypatch.setenv("ERKERAS_CA", str(tmp_path / name))
        with pytest.raises(InputError, match=r"certificates as PEM|no certificates that can be read"):
            Client(url)
        with pytest.raises(InputError, match=r"certificates as PEM|no certificates that can be read"):
            Client(url, ca_file=tmp_path / name)


def test_secrets_are_in_no_repr_and_no_log(plain, caplog):
    url, _ = plain
    caplog.set_level(logging.DEBUG)
    password = base64.b64encode(b"user:hunter22").decode()
    for settings in ({"token": TOKEN}, {"headers": {"Authorization": f"Basic {password}", "X-Key": TOKEN}}):
        client = Client(url, timeout=3, **settings)
        client.predict("embed", {"images": IMAGES})
        said = f"{client!r} {client} {client._access!r} {client._transport!r} {caplog.text}"
        for secret in (TOKEN, password, "hunter22"):
            assert secret not in said
            assert secret not in client._access.one_line(f"denied: {secret}, sorry") or secret not in str(settings)
        client.close()
        gc.collect()
    assert "hunter22" not in client._access.one_line("wrong password hunter22 of user")
