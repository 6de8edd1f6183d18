"""TensorFlow Serving's gRPC, with gRPC's own policy of retries."""

from __future__ import annotations

import json
from functools import cached_property
from typing import Any

import grpc

from erkeras.errors import InputError, UnavailableError
from erkeras.serving.access import TOKEN_VARIABLE, Access
from erkeras.serving.messages import Inputs, predict_request, read_tensor
from erkeras.serving.signatures import MalformedError, Shapes

_PASSING = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)
_NO_CREDENTIALS = (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED)


class Grpc:
    """Speaks to one model. Raises UnavailableError where the same request may succeed later.

    Args:
        target: host and port.
        name: of the model.
        version: of the model; None: the newest.
        encrypted: with TLS.
        access: credentials and certificates.
        timeout: seconds of a try.
        retries: tries after the first.
        backoff: seconds of the first wait.
        largest: bytes of an answer.
    """

    def __init__(
        self,
        target: str,
        name: str,
        version: int | None,
        encrypted: bool,
        access: Access,
        timeout: float,
        retries: int,
        backoff: float,
        largest: int,
    ) -> None:
        from tensorflow_serving.apis import model_pb2

        self._access, self._model = access, model_pb2.ModelSpec(name=name)
        if version is not None:
            self._model.version.value = version
        self._largest, self._seconds = largest, timeout * (retries + 1)
        options = _options(timeout, retries, backoff, largest)
        headers = access.headers if encrypted else access.all_headers
        self._metadata = [(key.lower(), value) for key, value in (headers or {}).items()]
        if encrypted:
            pem = access.authority.encode() if access.authority else None
            credentials = grpc.ssl_channel_credentials(root_certificates=pem)
            if access.token:
                call = grpc.access_token_call_credentials(access.token)
                credentials = grpc.composite_channel_credentials(credentials, call)
            self._channel = grpc.secure_channel(target, credentials, options)
        else:
            self._channel = grpc.insecure_channel(target, [*options, ("grpc.enable_http_proxy", 0)])

    @cached_property
    def _service(self) -> Any:
        from tensorflow_serving.apis import prediction_service_pb2_grpc  # brings TensorFlow

        return prediction_service_pb2_grpc.PredictionServiceStub(self._channel)

    def predict(self, signature: str, inputs: Inputs) -> dict[str, Any]:
        request = predict_request(signature, inputs)
        request.model_spec.MergeFrom(self._model)
        outputs = self._answer(self._service.Predict, request).outputs
        return {name: read_tensor(name, tensor, self._largest) for name, tensor in outputs.items()}

    def signatures(self) -> Shapes:
        from google.protobuf.message import DecodeError
        from tensorflow_serving.apis import get_model_metadata_pb2

        request = get_model_metadata_pb2.GetModelMetadataRequest(
            model_spec=self._model, metadata_field=["signature_def"]
        )
        described = get_model_metadata_pb2.SignatureDefMap()
        answer = self._answer(self._service.GetModelMetadata, request)
        try:
            found = answer.metadata["signature_def"].Unpack(described)
        except DecodeError as error:
            raise MalformedError("it describes no signatures") from error
        if not found:
            raise MalformedError("it describes no signatures")
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

    def _answer(self, method: Any, request: Any) -> Any:
        try:
            return method(request, timeout=self._seconds, metadata=self._metadata)
        except grpc.RpcError as error:
            status, reason = error.code(), str(error.details())
            if "CERTIFICATE_VERIFY_FAILED" in reason:
                raise InputError(
                    "has a certificate that is not trusted: give the file of its CA in ERKERAS_CA"
                ) from error
            if status in _PASSING:
                raise UnavailableError(reason) from error
            if status in _NO_CREDENTIALS:
                said = self._access.one_line(reason).rstrip(".")
                raise InputError(f"refused the credentials ({said}): give others in {TOKEN_VARIABLE}") from error
            if status == grpc.StatusCode.RESOURCE_EXHAUSTED and "larger than max" in reason:
                raise InputError(
                    f"answers with more than {self._largest:,} bytes: send fewer images at once, or allow more with "
                    "largest_answer"
                ) from error
            if status == grpc.StatusCode.INTERNAL and "deserializ" in reason:
                raise MalformedError("it is no message of TensorFlow Serving") from error
            raise InputError(f"refused the request: {self._access.one_line(reason)}") from error


def _options(timeout: float, retries: int, backoff: float, largest: int) -> list[tuple[str, Any]]:
    config: dict[str, Any] = {"name": [{}]}
    if retries:
        config["retryPolicy"] = {
            "maxAttempts": retries + 1,
            "initialBackoff": f"{max(backoff, 1e-3):.9f}s",
            "maxBackoff": "5s",
            "backoffMultiplier": 2,
            # A prediction may be asked for twice.
            "retryableStatusCodes": [status.name for status in _PASSING],
            "perAttemptRecvTimeout": f"{timeout:.9f}s",
        }
    return [
        ("grpc.service_config", json.dumps({"methodConfig": [config]})),
        # Else perAttemptRecvTimeout is not read, and the first try may take the time of all.
        ("grpc.experimental.enable_hedging", 1),
        # Else a request of more than 256 KiB is tried once.
        ("grpc.per_rpc_retry_buffer_size", 2**31 - 1),
        # A policy comes from here, and from no DNS.
        ("grpc.service_config_disable_resolution", 1),
        ("grpc.max_send_message_length", -1),
        ("grpc.max_receive_message_length", largest),
        # A compressed answer is measured before it is decompressed: none is taken.
        ("grpc.compression_enabled_algorithms_bitset", 1),
        ("grpc.per_message_decompression", 0),
        # Else a channel that could not connect says so, without trying, for longer than our waits.
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.min_reconnect_backoff_ms", 100),
        ("grpc.max_reconnect_backoff_ms", 1000),
    ]
