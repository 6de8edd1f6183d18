"""A client for a server of TensorFlow Serving's two protocols. TensorFlow is loaded for gRPC alone."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np

from erkeras.errors import InputError, UnavailableError
from erkeras.serving.access import find_access, without_secrets
from erkeras.serving.messages import Images, Inputs
from erkeras.serving.messages import predict_request as predict_request
from erkeras.serving.signatures import (
    ENCODED_IMAGES,
    IMAGES,
    MalformedError,
    Shapes,
    bytes_twin,
    check_answer,
    check_shapes,
)

_Answer = TypeVar("_Answer")

_URL = re.compile(
    r"(?P<scheme>https?|grpcs?)://(?P<target>(?P<host>[\w.-]+|\[[\w:.%]+\])(?::(?P<port>\d{1,5}))?)"
    r"/(?P<path>v1/models/)?"
    r"(?P<name>[^/:?#@\s]+)(?:/versions/(?P<version>\d{1,18}))?/?",
    re.ASCII,
)
#: The most retries, which is gRPC's.
_MOST_RETRIES = 4
_LONGEST_TIMEOUT = 86_400.0


class Client:
    """Asks a served model for labels, verdicts, codes and logits.

    Example:
        client = Client("grpc://localhost:8500/digits")
        client.detect(images)["verdict"]

    Images are float32 `[n, height, width, channels]` in [0, 1], or a sequence of n PNG or JPEG files as bytes, which
    the server decodes and resizes. They go in batches. A request that fails because the server cannot be reached, is
    overloaded or too slow is repeated; one that the server refuses is not. An answer or an error comes within
    `timeout * (retries + 1)` seconds. An answer that is not what erkeras exports is an error.

    Safe to share between threads.

    Args:
        url: `http://HOST:PORT/v1/models/NAME` for REST, `grpc://HOST:PORT/NAME` for gRPC, which is faster; https and
            grpcs with TLS; either with `/versions/NUMBER` for a version other than the newest.
        timeout: seconds that one try may take.
        retries: how often a request is repeated, at most; 0 to 4.
        backoff: seconds of the first wait; later ones double.
        batch_size: images that go in one request.
        token: a bearer token; None: that of ERKERAS_TOKEN, where it is set. It goes over TLS, or to this machine.
        headers: more headers (gRPC: metadata), as `{"Authorization": "Basic ..."}`.
        ca_file: certificates (PEM) by which alone the server is trusted; None: those of ERKERAS_CA, or else of the
            system (gRPC: those that it brings).
        largest_answer: the most bytes of one answer, decompressed.

    Raises:
        InputError: for another url, or another value of the rest.
    """

    def __init__(
        self,
        url: str,
        timeout: float = 10.0,
        retries: int = 3,
        backoff: float = 0.1,
        batch_size: int = 64,
        *,
        token: str | None = None,
        headers: Mapping[str, str] | None = None,
        ca_file: str | Path | None = None,
        largest_answer: int = 2**24,
    ) -> None:
        found = _URL.fullmatch(url)
        if "@" in url:
            raise InputError(
                f"{without_secrets(url)!r} has a name or a password in it: leave them out, and give a token in "
                "ERKERAS_TOKEN, or headers."
            )
        rest = bool(found and found["scheme"].startswith("http"))
        if not found or rest != bool(found["path"]) or int(found["port"] or 1) not in range(1, 65536):
            raise InputError(
                f"{without_secrets(url)!r} is not the address of a served model: give http://HOST:PORT/v1/models/NAME "
                "or grpc://HOST:PORT/NAME, either with /versions/NUMBER where you want one version."
            )
        _check_number("timeout", timeout, 1e-3, _LONGEST_TIMEOUT)
        _check_number("retries", retries, 0, _MOST_RETRIES, whole=True)
        _check_number("backoff", backoff, 0, _LONGEST_TIMEOUT)
        _check_number("batch_size", batch_size, 1, math.inf, whole=True)
        _check_number("largest_answer", largest_answer, 1, 2**31 - 2, whole=True)
        self.url, self.timeout, self.retries, self.backoff, self.batch_size = url, timeout, retries, backoff, batch_size
        encrypted = found["scheme"] in ("https", "grpcs")
        self._access = find_access(url, found["host"], encrypted, token, headers, ca_file)
        self._transport: _Transport
        if rest:
            from erkeras.serving.rest import Rest

            self._transport = Rest(url.rstrip("/"), self._access, timeout, retries, backoff, largest_answer)
        else:
            from erkeras.serving.grpc_transport import Grpc

            version = int(found["version"]) if found["version"] else None
            self._transport = Grpc(
                found["target"],
                found["name"],
                version,
                encrypted,
                self._access,
                timeout,
                retries,
                backoff,
                largest_answer,
            )

    def __repr__(self) -> str:
        return f"Client({self.url!r})"

    def classify(self, images: Images) -> dict[str, np.ndarray]:
        """Gives `probabilities` float32 `[n, classes]` and `label` int32 `[n]`."""
        return self._ask("serving_default", images)

    def detect(self, images: Images) -> dict[str, np.ndarray]:
        """Gives what `classify` does, `adversarial_score` float32 `[n]`, `verdict` bool `[n]` (true: adversarial)."""
        return self._ask("detect", images)

    def embed(self, images: Images) -> np.ndarray:
        """Gives codes, float32 `[n, code_size]`."""
        return self._ask("embed", images)["code"]

    def logits(self, images: Images) -> np.ndarray:
        """Gives logits, float32 `[n, classes]`."""
        return self._ask("logits", images)["logits"]

    @cached_property
    def signatures(self) -> Shapes:
        """Lists the signatures of the model: input -> its shape, -1 where any size is allowed."""
        return self._as_sentences(lambda: check_shapes(self._transport.signatures()))

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Gives (height, width, channels) of the model's images.

        Raises:
            InputError: where the served model does not take images.
        """
        shape = self.signatures.get("serving_default", {}).get(IMAGES, [])
        if len(shape) != 4:
            raise InputError(f"{self.url} has no signature serving_default of {IMAGES}: serve what erkeras exported.")
        return (shape[1], shape[2], shape[3])

    def predict(self, signature: str, inputs: Inputs) -> dict[str, np.ndarray]:
        """Sends one request as it is: any signature, the inputs not checked, not split.

        The answer of a signature of ours is checked: its outputs, and dtype, shape and range of each.

        Raises:
            UnavailableError: where the server cannot be reached, is overloaded, or does not answer in time.
            InputError: where it refuses the request, with its reason, or answers something else.
        """
        rows = len(next(iter(inputs.values()), ()))
        return self._as_sentences(lambda: check_answer(signature, self._transport.predict(signature, inputs), rows))

    def close(self) -> None:
        """Closes the connections."""
        self._transport.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _ask(self, signature: str, images: Images) -> dict[str, np.ndarray]:
        if isinstance(images, (bytes, str)) or not len(images):
            raise InputError("no images were given: give an array [n, height, width, channels], or a list of files.")
        if isinstance(images, np.ndarray):
            name, images = IMAGES, self._checked(images)
        else:
            signature, name = bytes_twin(signature), ENCODED_IMAGES
        parts = [
            self.predict(signature, {name: images[start : start + self.batch_size]})
            for start in range(0, len(images), self.batch_size)
        ]
        if len({tuple(value.shape[1:] for value in part.values()) for part in parts}) > 1:
            raise InputError(f"{self.url} changed its model between two requests: ask again, or for one version.")
        return {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}

    def _checked(self, images: np.ndarray) -> np.ndarray:
        # Here already: where a server joins the requests of several clients, a bad one fails its neighbours too.
        shape = self.image_shape
        if images.shape[1:] != shape:
            takes = ", ".join(map(str, shape))
            raise InputError(f"the images have shape {images.shape} and {self.url} takes [n, {takes}]: resize them.")
        images = images.astype(np.float32)
        if not np.all((images >= 0) & (images <= 1)):  # false for NaN too
            raise InputError("some pixels are not between 0 and 1, or not numbers: scale the images.")
        return images

    def _as_sentences(self, ask: Callable[[], _Answer]) -> _Answer:
        """Makes one sentence, without secrets, of what a transport raises. The cause may hold them: it is not told."""
        try:
            return ask()
        except UnavailableError as error:
            reason = self._access.one_line(error).rstrip(".")
            raise UnavailableError(
                f"{self.url} gave no answer in {self.retries + 1} tries ({reason}): check the address, or wait."
            ) from None
        except MalformedError as error:
            reason = self._access.one_line(error).rstrip(".")
            raise InputError(
                f"{self.url} does not answer as TensorFlow Serving does ({reason}): check the address, and serve what "
                "erkeras exported."
            ) from None
        except InputError as error:
            raise InputError(f"{self.url} {str(error).rstrip('.')}.") from None


class _Transport(Protocol):
    """Asks, and tries again.

    Raises UnavailableError, or MalformedError, with a reason; InputError with what goes on after the model's address.
    """

    def predict(self, signature: str, inputs: Inputs) -> dict[str, Any]: ...

    def signatures(self) -> Shapes: ...

    def close(self) -> None: ...


def _check_number(name: str, value: float, least: float, most: float, whole: bool = False) -> None:
    kinds = (int, np.integer) if whole else (int, float, np.integer, np.floating)
    if isinstance(value, bool) or not isinstance(value, kinds) or not least <= value <= most:
        kind = "a whole number" if whole else "a number"
        most_of_it = f" to {most:,.0f}" if most < math.inf else " or more"
        raise InputError(f"{name} is {value!r}: give {kind}, {least:g}{most_of_it}.")
