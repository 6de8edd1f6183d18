"""TensorFlow Serving's messages, as far as images need them, on google.protobuf alone.

The wire knows field numbers and types, not names: these are the ones of tensor.proto, meta_graph.proto, model.proto,
predict.proto, get_model_metadata.proto and prediction_log.proto of TensorFlow and TensorFlow Serving (a map is a list
of entries with a key, 1, and a value, 2). So neither the client nor the warm-up requests need the package
tensorflow-serving-api, and the client no TensorFlow; the tests compare with that package's parser.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from erkeras.errors import InputError

_PACKAGE = "erkeras.serving"
# A star: repeated.
_MESSAGES: dict[str, dict[str, tuple[int, str]]] = {
    "Dimension": {"size": (1, "int64")},
    "Shape": {"dim": (2, "*Dimension")},
    "Tensor": {
        "dtype": (1, "int32"),
        "tensor_shape": (2, "Shape"),
        "tensor_content": (4, "bytes"),
        "float_val": (5, "*float"),
        "int_val": (7, "*int32"),
        "string_val": (8, "*bytes"),
        "bool_val": (11, "*bool"),
    },
    "NamedTensor": {"key": (1, "string"), "value": (2, "Tensor")},
    "Version": {"value": (1, "int64")},
    "ModelSpec": {"name": (1, "string"), "version": (2, "Version"), "signature_name": (3, "string")},
    "PredictRequest": {"model_spec": (1, "ModelSpec"), "inputs": (2, "*NamedTensor")},
    "PredictResponse": {"outputs": (1, "*NamedTensor"), "model_spec": (2, "ModelSpec")},
    "PredictLog": {"request": (1, "PredictRequest")},
    "PredictionLog": {"predict_log": (6, "PredictLog")},
    "MetadataRequest": {"model_spec": (1, "ModelSpec"), "metadata_field": (2, "*string")},
    "Any": {"type_url": (1, "string"), "value": (2, "bytes")},
    "NamedAny": {"key": (1, "string"), "value": (2, "Any")},
    "MetadataResponse": {"model_spec": (1, "ModelSpec"), "metadata": (2, "*NamedAny")},
    "TensorInfo": {"dtype": (2, "int32"), "tensor_shape": (3, "Shape")},
    "NamedTensorInfo": {"key": (1, "string"), "value": (2, "TensorInfo")},
    "Signature": {"inputs": (1, "*NamedTensorInfo"), "outputs": (2, "*NamedTensorInfo")},
    "NamedSignature": {"key": (1, "string"), "value": (2, "Signature")},
    "Signatures": {"signature_def": (1, "*NamedSignature")},
}
#: Number of a dtype in types.proto -> NumPy's dtype and the field of its values.
_DTYPES: dict[int, tuple[Any, str]] = {
    1: (np.float32, "float_val"),
    3: (np.int32, "int_val"),
    7: (np.object_, "string_val"),
    10: (np.bool_, "bool_val"),
}
_STRINGS = 7


def _define() -> dict[str, Any]:
    file = descriptor_pb2.FileDescriptorProto(name="erkeras/serving.proto", package=_PACKAGE, syntax="proto3")
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for field, (number, kind) in fields.items():
            of = kind.removeprefix("*")
            described = message.field.add(name=field, number=number)
            described.label = described.LABEL_REPEATED if kind.startswith("*") else described.LABEL_OPTIONAL
            if of in _MESSAGES:
                described.type, described.type_name = described.TYPE_MESSAGE, f".{_PACKAGE}.{of}"
            else:
                described.type = getattr(described, f"TYPE_{of.upper()}")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.{name}")) for name in _MESSAGES
    }


_CLASSES = _define()


def predict_request(
    signature: str, inputs: Mapping[str, np.ndarray | Sequence[bytes]], name: str = "", version: int | None = None
) -> Any:
    """A PredictRequest.

    Args:
        signature: its name.
        inputs: name -> array of float32, int32 or bool, or files as bytes.
        name: of the model on its server.
        version: of the model; None for whichever the server prefers.

    Raises:
        InputError: for an array of another dtype.
    """
    request = _CLASSES["PredictRequest"](model_spec=_model_spec(name, version))
    request.model_spec.signature_name = signature
    for key, value in inputs.items():
        request.inputs.add(key=key, value=_tensor(value))
    return request


def warm_up_record(signature: str, inputs: Mapping[str, np.ndarray | Sequence[bytes]]) -> bytes:
    """A PredictionLog, as one record of the file `tf_serving_warmup_requests`."""
    log = _CLASSES["PredictLog"](request=predict_request(signature, inputs))
    return _CLASSES["PredictionLog"](predict_log=log).SerializeToString()


def predicted(response: bytes) -> dict[str, np.ndarray]:
    """The outputs of a PredictResponse.

    Raises:
        InputError: for an output of a dtype that no signature of ours has.
    """
    message = _CLASSES["PredictResponse"].FromString(response)
    return {output.key: _array(output.key, output.value) for output in message.outputs}


def metadata_request(name: str, version: int | None = None) -> Any:
    """A GetModelMetadataRequest for a model's signatures."""
    return _CLASSES["MetadataRequest"](model_spec=_model_spec(name, version), metadata_field=["signature_def"])


def described_signatures(response: bytes) -> dict[str, dict[str, list[int]]]:
    """Of a GetModelMetadataResponse: signature -> input -> its shape, -1 where any size is allowed."""
    message = _CLASSES["MetadataResponse"].FromString(response)
    (packed,) = (entry.value.value for entry in message.metadata if entry.key == "signature_def")
    return {
        signature.key: {
            entry.key: [dimension.size for dimension in entry.value.tensor_shape.dim]
            for entry in signature.value.inputs
        }
        for signature in _CLASSES["Signatures"].FromString(packed).signature_def
    }


def _model_spec(name: str, version: int | None) -> Any:
    spec = _CLASSES["ModelSpec"](name=name)
    if version is not None:
        spec.version.value = version
    return spec


def _tensor(value: np.ndarray | Sequence[bytes]) -> Any:
    array = value if isinstance(value, np.ndarray) else np.array(value, np.object_)
    numbers = {np.dtype(dtype).name: number for number, (dtype, _) in _DTYPES.items()}
    if array.dtype.name not in numbers:
        raise InputError(f"an input is an array of {array.dtype}: give {', '.join(numbers)}.")
    tensor = _CLASSES["Tensor"](dtype=numbers[array.dtype.name])
    for size in array.shape:
        tensor.tensor_shape.dim.add(size=size)
    if tensor.dtype == _STRINGS:
        tensor.string_val.extend(array.ravel())
    else:
        tensor.tensor_content = np.ascontiguousarray(array, array.dtype.newbyteorder("<")).tobytes()
    return tensor


def _array(name: str, tensor: Any) -> np.ndarray:
    if tensor.dtype not in _DTYPES:
        raise InputError(
            f"the server's output {name} has TensorFlow's dtype {tensor.dtype}: ask a model that erkeras exported."
        )
    dtype, field = _DTYPES[tensor.dtype]
    shape = [dimension.size for dimension in tensor.tensor_shape.dim]
    if tensor.tensor_content:
        little = np.dtype(dtype).newbyteorder("<")
        return np.frombuffer(tensor.tensor_content, little).astype(dtype).reshape(shape)
    values = np.array(getattr(tensor, field), dtype)
    # Values that repeat to the end may be left out, as zeros or as the last one.
    missing = math.prod(shape) - len(values)
    return np.pad(values, (0, missing), "edge" if len(values) else "constant").reshape(shape)
