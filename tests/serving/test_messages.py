"""Our few messages against TensorFlow Serving's own parser."""

import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import get_model_metadata_pb2, predict_pb2, prediction_log_pb2

from erkeras.errors import InputError
from erkeras.serving import messages

IMAGES = np.linspace(0, 1, 24, dtype=np.float32).reshape(2, 3, 4, 1)


def parsed(cls, data):
    """Nothing in it that the parser does not know."""
    message = cls.FromString(data)
    assert cls.FromString(message.SerializeToString(deterministic=True)) == message
    before = message.ByteSize()
    message.DiscardUnknownFields()
    assert message.ByteSize() == before
    return message


def test_a_request_of_arrays():
    inputs = {"images": IMAGES, "seed": np.int32([3, -4]), "clip": np.array([True, False])}
    data = messages.predict_request("detect", inputs, "digits", 7).SerializeToString()
    request = parsed(predict_pb2.PredictRequest, data)
    assert request.model_spec.name == "digits"
    assert request.model_spec.version.value == 7
    assert request.model_spec.signature_name == "detect"
    assert set(request.inputs) == set(inputs)
    for name, value in inputs.items():
        found = tf.make_ndarray(request.inputs[name])
        assert found.dtype == value.dtype
        np.testing.assert_array_equal(found, value)


def test_a_request_of_files_for_any_version():
    data = messages.predict_request("detect_bytes", {"encoded_images": [b"\x89PNG\0", b""]}, "digits")
    request = parsed(predict_pb2.PredictRequest, data.SerializeToString())
    assert not request.model_spec.HasField("version")
    assert tf.make_ndarray(request.inputs["encoded_images"]).tolist() == [b"\x89PNG\0", b""]


def test_a_big_endian_array_arrives_as_it_is():
    data = messages.predict_request("detect", {"images": IMAGES.astype(">f4")}).SerializeToString()
    np.testing.assert_array_equal(tf.make_ndarray(parsed(predict_pb2.PredictRequest, data).inputs["images"]), IMAGES)


def test_an_array_of_another_dtype_is_refused():
    with pytest.raises(InputError, match="an input is an array of float64: give float32"):
        messages.predict_request("detect", {"images": np.zeros((1, 2))})


def test_a_warm_up_record():
    log = parsed(prediction_log_pb2.PredictionLog, messages.warm_up_record("embed", {"images": IMAGES}))
    assert log.WhichOneof("log_type") == "predict_log"
    assert log.predict_log.request.model_spec.signature_name == "embed"
    np.testing.assert_array_equal(tf.make_ndarray(log.predict_log.request.inputs["images"]), IMAGES)


@pytest.mark.parametrize(
    "value", [IMAGES, np.int32([[5], [-6]]), np.array([True, False, True]), np.float32(3), np.zeros((0, 4), np.int32)]
)
def test_a_response_in_both_forms(value):
    response = predict_pb2.PredictResponse()
    response.outputs["packed"].CopyFrom(tf.make_tensor_proto(value, value.dtype, value.shape))
    listed = response.outputs["listed"]
    listed.CopyFrom(tf.make_tensor_proto(value, value.dtype, value.shape))
    listed.ClearField("tensor_content")
    fields = {"float32": listed.float_val, "int32": listed.int_val, "bool": listed.bool_val}
    fields[value.dtype.name][:] = value.ravel().tolist()
    found = messages.predicted(response.SerializeToString())
    for name in ("packed", "listed"):
        assert found[name].dtype == value.dtype
        np.testing.assert_array_equal(found[name], value)


@pytest.mark.parametrize("values", [[], [2.5], [1.0, 2.5]])
def test_values_that_repeat_to_the_end(values):
    tensor = tf.make_tensor_proto(np.zeros((2, 2), np.float32))
    tensor.ClearField("tensor_content")
    tensor.float_val[:] = values
    response = predict_pb2.PredictResponse(outputs={"scores": tensor})
    expected = tf.make_ndarray(tensor)
    np.testing.assert_array_equal(messages.predicted(response.SerializeToString())["scores"], expected)


def test_an_output_of_another_dtype_is_refused():
    response = predict_pb2.PredictResponse(outputs={"scores": tf.make_tensor_proto(np.float64([1, 2]))})
    with pytest.raises(InputError, match="output scores has TensorFlow's dtype 2"):
        messages.predicted(response.SerializeToString())


def test_metadata():
    request = parsed(
        get_model_metadata_pb2.GetModelMetadataRequest, messages.metadata_request("digits", 2).SerializeToString()
    )
    assert request.model_spec.version.value == 2
    assert list(request.metadata_field) == ["signature_def"]

    signatures = get_model_metadata_pb2.SignatureDefMap()
    tensor = signatures.signature_def["detect"].inputs["images"]
    tensor.tensor_shape.CopyFrom(tf.TensorShape([None, 8, 9, 1]).as_proto())
    signatures.signature_def["other"].outputs["label"].name = "label:0"
    response = get_model_metadata_pb2.GetModelMetadataResponse()
    response.metadata["signature_def"].Pack(signatures)
    found = messages.described_signatures(response.SerializeToString())
    assert found == {"detect": {"images": [-1, 8, 9, 1]}, "other": {}}


def test_the_client_needs_no_tensorflow():
    program = (
        "import sys\n"
        "sys.modules['tensorflow'] = sys.modules['tensorflow_serving'] = None  # importing them fails\n"
        "from erkeras.serving import Client, messages\n"
        "Client('grpc://localhost:1/digits').close()\n"
        "Client('http://localhost:1/v1/models/digits').close()\n"
        "assert messages.predict_request('detect', {})"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
