"""The messages of TensorFlow Serving's gRPC, made and read. TensorFlow is loaded on the first one."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from erkeras.serving.signatures import MalformedError

Images = np.ndarray | Sequence[bytes]
Inputs = Mapping[str, Images]


def predict_request(signature: str, inputs: Inputs) -> Any:
    """Makes a PredictRequest of TensorFlow Serving, for any model."""
    import tensorflow as tf
    from tensorflow_serving.apis import predict_pb2

    request = predict_pb2.PredictRequest()
    request.model_spec.signature_name = signature
    for name, value in inputs.items():
        # An empty list of files would be taken for floats.
        dtype = value.dtype if isinstance(value, np.ndarray) else tf.string
        request.inputs[name].CopyFrom(tf.make_tensor_proto(value, dtype))
    return request


def read_tensor(name: str, tensor: Any, largest: int) -> np.ndarray:
    """Reads a TensorProto.

    Args:
        name: of the output, for messages.
        tensor: as it came.
        largest: the most bytes that the array may have, of four a value.

    Raises:
        MalformedError: where its shape, dtype and values do not fit together, or it is larger.
    """
    import tensorflow as tf

    # A tensor of one value stands for any shape: a few bytes may claim more than there is memory.
    shape = [dimension.size for dimension in tensor.tensor_shape.dim]
    if tensor.tensor_shape.unknown_rank or min(shape, default=0) < 0 or math.prod(shape) > largest // 4:
        raise MalformedError(f"{name!r} has a shape that cannot be")
    try:
        return tf.make_ndarray(tensor)
    except (TypeError, ValueError, KeyError) as error:
        raise MalformedError(f"{name!r} has a shape or a dtype that does not fit its values") from error
