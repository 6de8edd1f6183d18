"""TensorFlow Serving's REST, by urllib3: each try within its time, each answer within its size."""

from __future__ import annotations

import base64
import http.client
import json
import math
import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import urllib3
from urllib3 import exceptions

from erkeras.errors import InputError, UnavailableError
from erkeras.serving.access import TOKEN_VARIABLE, Access
from erkeras.serving.messages import Images, Inputs
from erkeras.serving.signatures import OUTPUTS, MalformedError, Shapes
from erkeras.serving.sockets import EncryptedSocket, TimedSocket, TooLargeError, addresses

#: What a retry may mend.
_PASSING = frozenset({429, 502, 503, 504})
#: The longest wait between two tries, in seconds, whatever a server asks for in Retry-After.
_LONGEST_WAIT = 5.0
#: Bytes of an answer that are read at once.
_PIECE = 2**16


class Rest:
    """Speaks to one model. Raises UnavailableError where the same request may succeed later.

    Args:
        url: of the model.
        access: credentials and certificates.
        timeout: seconds of a try.
        retries: tries after the first.
        backoff: urllib3's `backoff_factor`.
        largest: bytes of an answer, decompressed.
    """

    def __init__(self, url: str, access: Access, timeout: float, retries: int, backoff: float, largest: int) -> None:
        self._access, self._timeout, self._retries, self._backoff = access, timeout, retries, backoff
        parsed = urllib3.util.parse_url(url)
        self._path = parsed.path or ""
        options: dict[str, Any] = {"maxsize": 16}
        kind: type[urllib3.HTTPConnectionPool] = _Pool
        if parsed.scheme == "https":
            context = ssl.create_default_context(cadata=access.authority)
            context.hostname_checks_common_name = False  # a name is among subjectAltName, as gRPC has it
            context.sslsocket_class = EncryptedSocket
            kind, options = _EncryptedPool, {**options, "ssl_context": context}
        self._pool = kind(parsed.host or "", parsed.port, **options)
        # Bound to this pool, because a connection knows no pool.
        self._pool.conn_kw["largest"] = largest

    def predict(self, signature: str, inputs: Inputs) -> dict[str, Any]:
        body = {"signature_name": signature, "inputs": {name: _as_json(value) for name, value in inputs.items()}}
        answer = self._answer("POST", ":predict", json.dumps(body).encode())
        outputs = answer.get("outputs") if isinstance(answer, dict) else None
        if outputs is None:
            raise MalformedError("it has no outputs")
        if isinstance(outputs, dict):
            return outputs
        return {OUTPUTS.get(signature, ("output",))[0]: outputs}  # the only output comes without its name

    def signatures(self) -> Shapes:
        answer = self._answer("GET", "/metadata")
        try:
            return {
                name: {
                    key: [_size(dimension) for dimension in tensor["tensor_shape"].get("dim", [])]
                    for key, tensor in signature["inputs"].items()
                }
                for name, signature in answer["metadata"]["signature_def"]["signature_def"].items()
                if signature["inputs"]  # not TensorFlow's own __saved_model_init_op
            }
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise MalformedError("it describes no signatures") from error

    def close(self) -> None:
        self._pool.close()

    def _answer(self, method: str, path: str, body: bytes | None = None) -> Any:
        headers = {**self._access.all_headers, "Content-Type": "application/json"}
        with self._as_ours():
            response = self._pool.urlopen(
                method,
                self._path + path,
                body,
                headers,
                retries=_Policy.of(self._retries, self._backoff, self._timeout),
                redirect=False,
                timeout=urllib3.Timeout(total=self._timeout),
                preload_content=False,  # _Connection has read it
                release_conn=True,
            )
        if response.status in _PASSING:
            raise UnavailableError(f"status {response.status}")
        data = response.data or b""
        answer = _parse(data) if response.status == 200 else _parse_or_text(data)
        refusal = answer.get("error") if isinstance(answer, dict) else None
        if response.status != 200 or refusal:
            if response.status in (401, 403):
                raise InputError(f"refused the credentials (status {response.status}): give others in {TOKEN_VARIABLE}")
            if 300 <= response.status < 400:
                raise InputError(f"redirects elsewhere (status {response.status}): give the address it redirects to")
            reason = self._access.one_line(refusal or f"status {response.status}")
            raise InputError(f"refused the request: {reason}")
        return answer

    @contextmanager
    def _as_ours(self) -> Iterator[None]:
        try:
            yield
        except exceptions.MaxRetryError as error:
            raise UnavailableError(_cause(error.reason)) from error
        except (exceptions.DecodeError, exceptions.InvalidHeader) as error:
            raise MalformedError("it is no HTTP, or is compressed in another way than it says") from error
        except exceptions.HTTPError as error:
            raise UnavailableError(_cause(error)) from error


class _Policy(urllib3.Retry):
    """urllib3's policy, whose waits take no more time than the tries before have left."""

    RETRY_AFTER_STATUS_CODES = _PASSING
    seconds, end = 0.0, math.inf

    @classmethod
    def of(cls, retries: int, backoff: float, seconds: float) -> _Policy:
        """Makes the policy of one request, which begins now."""
        policy = cls(
            retries,
            redirect=False,
            status_forcelist=_PASSING,
            allowed_methods=None,  # a prediction may be asked for twice
            raise_on_status=False,
            backoff_factor=backoff,
            backoff_jitter=backoff,
        )
        policy.seconds, policy.end = seconds, time.monotonic() + (retries + 1) * seconds
        return policy

    def new(self, **options: Any) -> Any:
        policy = super().new(**options)
        policy.seconds, policy.end = self.seconds, self.end
        return policy

    def get_retry_after(self, response: Any) -> float | None:
        try:
            return super().get_retry_after(response)
        except (exceptions.InvalidHeader, ValueError, OverflowError):
            return None

    def sleep(self, response: Any = None) -> None:
        wait = (self.get_retry_after(response) if response else None) or self.get_backoff_time()
        spare = self.end - time.monotonic() - (int(self.total or 0) + 1) * self.seconds
        time.sleep(max(0.0, min(wait, spare, _LONGEST_WAIT)))


class _Connection(urllib3.connection.HTTPConnection):
    """A connection that reads the whole answer at once, to a limit, and connects within its timeout."""

    def __init__(self, *arguments: Any, largest: int = 0, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._largest = largest

    def _new_conn(self) -> socket.socket:
        seconds = float(self.timeout or 0)
        end, failure = time.monotonic() + seconds, OSError("no address")
        try:
            found = addresses(self.host, self.port, seconds)
        except socket.gaierror as error:
            raise exceptions.NameResolutionError(self.host, self, error) from error
        except TimeoutError as error:
            raise exceptions.ConnectTimeoutError(self, "its name was not found in time") from error
        for number, (family, kind, protocol, _, address) in enumerate(found):
            sock = TimedSocket(family, kind, protocol)
            try:
                # A share for each, so that the first one cannot take all.
                sock.settimeout(max((end - time.monotonic()) / (len(found) - number), 1e-3))
                sock.connect(address)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                sock.settimeout(max(end - time.monotonic(), 1e-3))
                return sock
            except OSError as error:
                sock.close()
                failure = error
        if isinstance(failure, TimeoutError):
            raise exceptions.ConnectTimeoutError(self, "connecting timed out") from failure
        raise exceptions.NewConnectionError(self, str(failure)) from failure

    def connect(self) -> None:
        try:
            super().connect()
        except (ssl.SSLEOFError, ssl.SSLZeroReturnError) as error:
            raise ConnectionResetError("the connection ended during the TLS handshake") from error
        except ssl.SSLCertVerificationError as error:
            raise InputError(
                f"has a certificate that is not trusted ({error.verify_message}): give the file of its CA in ERKERAS_CA"
            ) from error
        except ssl.SSLError as error:
            raise InputError(f"speaks no TLS that is understood ({error.reason}): give another address") from error

    def getresponse(self) -> Any:
        # Room for headers, and for chunks of a reasonable size.
        self.sock.allowed = 2 * self._largest + 2**20  # type: ignore[union-attr]
        try:
            response, data = super().getresponse(), bytearray()
            while piece := response.read(_PIECE):  # not all at once: http.client keeps a list of a piece's chunks
                data += piece
                if len(data) > self._largest:
                    raise TooLargeError
        except TooLargeError as error:
            raise InputError(
                f"answers with more than {self._largest:,} bytes: send fewer images at once, or allow more with "
                "largest_answer"
            ) from error
        except http.client.RemoteDisconnected:
            raise
        except (http.client.HTTPException, ValueError) as error:  # of the status line, headers or chunks
            raise MalformedError("it is no HTTP") from error
        headers = {name: value for name, value in response.headers.items() if name.lower() == "retry-after"}
        return urllib3.HTTPResponse(bytes(data), headers, response.status)


class _EncryptedConnection(_Connection, urllib3.connection.HTTPSConnection):
    """The same with TLS."""


class _Pool(urllib3.HTTPConnectionPool):
    ConnectionCls = _Connection


class _EncryptedPool(urllib3.HTTPSConnectionPool):
    ConnectionCls = _EncryptedConnection


def _cause(error: Exception | None) -> str:
    """Gives the plainest of the errors that urllib3 wraps into each other."""
    if isinstance(error, exceptions.ConnectTimeoutError):  # the refused ones too
        return str(error.args[-1]).rpartition("): ")[2]
    if isinstance(error, exceptions.ReadTimeoutError) or (error and isinstance(error.args[-1], TimeoutError)):
        return "its answer was not complete in time"
    if isinstance(error, exceptions.ProtocolError) and isinstance(error.args[-1], (OSError, http.client.HTTPException)):
        return "the connection ended before the answer did"
    return str(error)


def _size(dimension: Any) -> int:
    size = dimension["size"]
    if not isinstance(size, (str, int)) or len(str(size)) > 20:
        raise ValueError("a size is no number")
    return int(size)


def _parse(data: bytes) -> Any:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len(found := dict(pairs)) < len(pairs):
            raise ValueError("a key comes twice")
        return found

    try:
        return json.loads(data, object_pairs_hook=unique)
    except (ValueError, RecursionError) as error:
        raise MalformedError("it is no JSON that can be read") from error


def _parse_or_text(data: bytes) -> Any:
    try:
        return _parse(data)
    except MalformedError:
        return {"error": data[:1000].decode(errors="replace")}


def _as_json(value: Images) -> list[Any]:
    if isinstance(value, np.ndarray):
        return value.tolist()
    return [{"b64": base64.b64encode(file).decode()} for file in value]
