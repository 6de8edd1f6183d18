"""A client for a server of TensorFlow Serving's two protocols. TensorFlow is loaded for gRPC alone."""

from __future__ import annotations

import base64
import json
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any, Protocol, TypeVar

import numpy as np

from erkeras.errors import InputError, UnavailableError
from erkeras.serving.signatures import DTYPES, ENCODED_IMAGES, IMAGES, SIGNATURES, bytes_twin

Images = np.ndarray | Sequence[bytes]
Inputs = Mapping[str, Images]
Shapes = dict[str, dict[str, list[int]]]
_Answer = TypeVar("_Answer")

_URL = re.compile(
    r"(?:(?P<rest>https?)://(?P<host>[^/\s]+)/v1/models/|grpc://(?P<target>[^/\s]+)/)"
    r"(?P<name>[^/:\s]+)(?:/versions/(?P<version>\d+))?/?"
)
#: The longest wait between two tries, in seconds.
_LONGEST_WAIT = 5.0


class Client:
    """Asks a served model for labels, verdicts, codes and logits.

        client = Client("grpc://localhost:8500/digits")
        client.detect(images)["verdict"]

    Images are float32 `[n, height, width, channels]` in [0, 1], or a sequence of n PNG or JPEG files as bytes, which
    the server decodes and resizes. They go in batches. A request that fails because the server cannot be reached, is
    overloaded or too slow is repeated after a wait that doubles; one that the server refuses is not.

    Safe to share between threads.

    Args:
        url: `http://HOST:PORT/v1/models/NAME` (or https) for REST, `grpc://HOST:PORT/NAME` for gRPC, which is faster;
            either with `/versions/NUMBER` for a version other than the newest.
        timeout: seconds that one try may take.
        retries: how often a request is repeated, at most.
        backoff: seconds of the first wait.
        batch_size: images that go in one request.

    Raises:
        InputError: for another url.
    """

    def __init__(
        self, url: str, timeout: float = 10.0, retries: int = 3, backoff: float = 0.1, batch_size: int = 64
    ) -> None:
        found = _URL.fullmatch(url)
        if not found:
            raise InputError(
                f"{url!r} is not the address of a served model: give http://HOST:PORT/v1/models/NAME or "
                "grpc://HOST:PORT/NAME, either with /versions/NUMBER where you want one version."
            )
        self.url, self.timeout, self.retries, self.backoff, self.batch_size = url, timeout, retries, backoff, batch_size
        self._transport: _Transport
        if found["rest"]:
            self._transport = _Rest(url.rstrip("/"))
        else:
            version = int(found["version"]) if found["version"] else None
            self._transport = _Grpc(found["target"], found["name"], version)

    def classify(self, images: Images) -> dict[str, np.ndarray]:
        """`probabilities` float32 `[n, classes]` and `label` int32 `[n]`."""
        return self._ask("serving_default", images)

    def detect(self, images: Images) -> dict[str, np.ndarray]:
        """Gives what `classify` does, `adversarial_score` float32 `[n]`, `verdict` bool `[n]` (true: adversarial)."""
        return self._ask("detect", images)

    def embed(self, images: Images) -> np.ndarray:
        """Codes, float32 `[n, code_size]`."""
        return self._ask("embed", images)["code"]

    def logits(self, images: Images) -> np.ndarray:
        """Logits, float32 `[n, classes]`."""
        return self._ask("logits", images)["logits"]

    @cached_property
    def signatures(self) -> Shapes:
        """Lists the signatures of the model: input -> its shape, -1 where any size is allowed."""
        return self._try(lambda: self._transport.signatures(self.timeout))

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(height, width, channels) of the model's images.

        Raises:
            InputError: where the served model does not take images.
        """
        shape = self.signatures.get("serving_default", {}).get(IMAGES, [])
        if len(shape) != 4:
            raise InputError(f"{self.url} has no signature serving_default of {IMAGES}: serve what erkeras exported.")
        return (shape[1], shape[2], shape[3])

    def predict(self, signature: str, inputs: Inputs) -> dict[str, np.ndarray]:
        """One request as it is: any signature, nothing checked, nothing split.

        Raises:
            UnavailableError: where the server cannot be reached, is overloaded, or does not answer in time.
            InputError: where it refuses the request; its reason is in the message.
        """
        return self._try(lambda: self._transport.predict(signature, inputs, self.timeout))

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

    def _try(self, ask: Callable[[], _Answer]) -> _Answer:
        for number in range(self.retries):
            try:
                return ask()
            except UnavailableError:
                time.sleep(min(self.backoff * 2**number, _LONGEST_WAIT))
        try:
            return ask()
        except UnavailableError as error:
            raise UnavailableError(
                f"{self.url} gave no answer in {self.retries + 1} tries ({str(error).rstrip('.')}): check the address, "
                "or wait."
            ) from error.__cause__


class _Transport(Protocol):
    """One try; UnavailableError, with a reason, where another one may succeed."""

    def predict(self, signature: str, inputs: Inputs, timeout: float) -> dict[str, np.ndarray]: ...

    def signatures(self, timeout: float) -> Shapes: ...

    def close(self) -> None: ...


class _Rest:
    def __init__(self, url: str) -> None:
        import urllib3

        self._url = url
        self._pool = urllib3.PoolManager(maxsize=16, retries=False)

    def predict(self, signature: str, inputs: Inputs, timeout: float) -> dict[str, np.ndarray]:
        body = {"signature_name": signature, "inputs": {name: _as_json(value) for name, value in inputs.items()}}
        answer = self._answer("POST", ":predict", timeout, json.dumps(body).encode())
        with self._as_tensorflow_serving():
            outputs = answer["outputs"]
        if not isinstance(outputs, dict):  # the only output comes without its name
            names = {bytes_twin(name): names for name, names in SIGNATURES.items()} | SIGNATURES
            outputs = {names.get(signature, ("output",))[0]: outputs}
        return {name: np.asarray(value, DTYPES.get(name)) for name, value in outputs.items()}

    def signatures(self, timeout: float) -> Shapes:
        answer = self._answer("GET", "/metadata", timeout)
        with self._as_tensorflow_serving():
            return {
                name: {
                    key: [int(dimension["size"]) for dimension in tensor["tensor_shape"].get("dim", [])]
                    for key, tensor in signature["inputs"].items()
                }
                for name, signature in answer["metadata"]["signature_def"]["signature_def"].items()
                if signature["inputs"]  # not TensorFlow's own __saved_model_init_op
            }

    @contextmanager
    def _as_tensorflow_serving(self) -> Iterator[None]:
        try:
            yield
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise InputError(f"{self._url} does not answer as TensorFlow Serving does: check the address.") from error

    def close(self) -> None:
        self._pool.clear()

    def _answer(self, method: str, path: str, timeout: float, body: bytes | None = None) -> Any:
        import urllib3

        headers = {"Content-Type": "application/json"}
        try:
            response = self._pool.request(method, self._url + path, body=body, headers=headers, timeout=timeout)
        except urllib3.exceptions.HTTPError as error:
            raise UnavailableError(_one_line(error)) from error
        if response.status in (429, 502, 503, 504):
            raise UnavailableError(f"status {response.status}")
        try:
            answer = json.loads(response.data)
        except ValueError:
            answer = {"error": response.data.decode(errors="replace")}
        refusal = answer.get("error") if isinstance(answer, dict) else None
        if response.status != 200 or refusal:
            reason = refusal or f"status {response.status}"
            raise InputError(f"{self._url} refused the request: {_one_line(reason)}")
        return answer


class _Grpc:
    def __init__(self, target: str, name: str, version: int | None) -> None:
        import grpc
        from tensorflow_serving.apis import model_pb2

        self._url = f"grpc://{target}/{name}"
        self._model = model_pb2.ModelSpec(name=name)
        if version is not None:
            self._model.version.value = version
        self._channel = grpc.insecure_channel(
            target,
            options=[
                ("grpc.max_send_message_length", -1),
                ("grpc.max_receive_message_length", -1),
                # Else a channel that could not connect says so, without trying, for longer than our waits.
                ("grpc.initial_reconnect_backoff_ms", 100),
                ("grpc.min_reconnect_backoff_ms", 100),
                ("grpc.max_reconnect_backoff_ms", 1000),
            ],
        )

    @cached_property
    def _service(self) -> Any:
        from tensorflow_serving.apis import prediction_service_pb2_grpc  # brings TensorFlow

        return prediction_service_pb2_grpc.PredictionServiceStub(self._channel)

    def predict(self, signature: str, inputs: Inputs, timeout: float) -> dict[str, np.ndarray]:
        import tensorflow as tf

        request = predict_request(signature, inputs)
        request.model_spec.MergeFrom(self._model)
        outputs = self._answer(self._service.Predict, request, timeout).outputs
        return {name: tf.make_ndarray(tensor) for name, tensor in outputs.items()}

    def signatures(self, timeout: float) -> Shapes:
        from tensorflow_serving.apis import get_model_metadata_pb2

        request = get_model_metadata_pb2.GetModelMetadataRequest(
            model_spec=self._model, metadata_field=["signature_def"]
        )
        described = get_model_metadata_pb2.SignatureDefMap()
        self._answer(self._service.GetModelMetadata, request, timeout).metadata["signature_def"].Unpack(described)
        return {
            name: {
                key: [dimension.size for dimension in tensor.tensor_shape.dim]
                for key, tensor in signature.inputs.items()
            }
            for name, signature in described.signature_def.items()
            if signature.inputs  # not TensorFlow's own __saved_model_init_op
        }

    def close(self) -> None:
        self._channel.close()

    def _answer(self, method: Any, request: Any, timeout: float) -> Any:
        import grpc

        try:
            return method(request, timeout=timeout)
        except grpc.RpcError as error:
            status, reason = error.code(), _one_line(error.details())
            if status in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED):
                raise UnavailableError(reason) from error
            raise InputError(f"{self._url} refused the request: {reason}") from error


def predict_request(signature: str, inputs: Inputs) -> Any:
    """A PredictRequest of TensorFlow Serving, for any model."""
    import tensorflow as tf
    from tensorflow_serving.apis import predict_pb2

    request = predict_pb2.PredictRequest()
    request.model_spec.signature_name = signature
    for name, value in inputs.items():
        # An empty list of files would be taken for floats.
        dtype = value.dtype if isinstance(value, np.ndarray) else tf.string
        request.inputs[name].CopyFrom(tf.make_tensor_proto(value, dtype))
    return request


def _as_json(value: Images) -> list[Any]:
    if isinstance(value, np.ndarray):
        return value.tolist()
    return [{"b64": base64.b64encode(file).decode()} for file in value]


def _one_line(reason: object) -> str:
    """A server's reason, without TensorFlow's names of nodes."""
    line = " ".join(str(reason).split()).partition(" [[{{")[0]
    assertion = re.search(r"assertion failed: \[(.*?)\]", line)
    return (assertion[1] if assertion else line[:300]).rstrip(".") + "."
