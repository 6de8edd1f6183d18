"""What TensorFlow Serving answers to a client, from a SavedModel, in a process that has no erkeras.

    python tests/helpers/prediction_server.py NAME FOLDER

serves the newest FOLDER/VERSION, and the others by their number: PredictionService (Predict, GetModelMetadata) on the
stubs of tensorflow-serving-api, and the same by REST. Prints both ports as JSON once it is ready, and ends with its
standard input. The SavedModel is loaded by the C++ loader and fed as TensorFlow Serving feeds it, past the checks that
Python makes of a shape. What TensorFlow Serving has beside (batching, warm-up, polling for versions) is not here.
"""

import base64
import json
import re
import sys
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Lock, Thread

import grpc
import numpy as np
import tensorflow as tf
from google.protobuf.json_format import MessageToDict
from tensorflow.core.protobuf import config_pb2
from tensorflow_serving.apis import get_model_metadata_pb2, predict_pb2, prediction_service_pb2_grpc

WORKERS = 8


class RequestError(Exception):
    def __init__(self, code, reason):
        super().__init__(reason)
        self.code, self.reason = code, reason


class Version:
    """One version of a model in a session."""

    def __init__(self, folder):
        self.session = tf.compat.v1.Session(graph=tf.Graph())
        with self.session.graph.as_default():
            found = tf.compat.v1.saved_model.load(self.session, ["serve"], str(folder)).signature_def
        self.signatures = {name: found[name] for name in found if not name.startswith("__")}
        self.callables = {}
        for name, signature in self.signatures.items():
            options = config_pb2.CallableOptions()
            options.feed.extend(tensor.name for tensor in signature.inputs.values())
            options.fetch.extend(tensor.name for tensor in signature.outputs.values())
            self.callables[name] = self.session._make_callable_from_options(options)

    def predict(self, name, inputs):
        name = name or "serving_default"
        if name not in self.signatures:
            raise RequestError(grpc.StatusCode.FAILED_PRECONDITION, f'Serving signature key "{name}" not found.')
        signature = self.signatures[name]
        if set(inputs) != set(signature.inputs):
            wanted = f"expected {sorted(signature.inputs)}, got {sorted(inputs)}"
            raise RequestError(grpc.StatusCode.INVALID_ARGUMENT, f"input keys do not match: {wanted}")
        try:
            results = self.callables[name](*(inputs[key] for key in signature.inputs))
        except (tf.errors.InvalidArgumentError, ValueError) as error:
            raise RequestError(grpc.StatusCode.INVALID_ARGUMENT, str(error)) from error
        return dict(zip(signature.outputs, results, strict=True))


class Models:
    def __init__(self, name, folder):
        self.name, self.folder, self.lock = name, folder, Lock()
        self.numbers = sorted(int(path.name) for path in folder.iterdir() if path.name.isdigit())
        self.loaded = {}
        self.find(name)

    def find(self, name, number=None):
        number = number or self.numbers[-1]
        if name != self.name or number not in self.numbers:
            raise RequestError(grpc.StatusCode.NOT_FOUND, f"Servable not found for request: Specific({name}, {number})")
        with self.lock:
            if number not in self.loaded:
                self.loaded[number] = Version(self.folder / str(number))
            return self.loaded[number], number


class PredictionService(prediction_service_pb2_grpc.PredictionServiceServicer):
    def __init__(self, models):
        self.models = models

    def Predict(self, request, context):
        with Aborting(context):
            version, number = self.find(request)
            inputs = {key: tf.make_ndarray(tensor) for key, tensor in request.inputs.items()}
            outputs = version.predict(request.model_spec.signature_name, inputs)
            response = predict_pb2.PredictResponse()
            response.model_spec.CopyFrom(request.model_spec)
            response.model_spec.version.value = number
            for key, value in outputs.items():
                as_field(value, response.outputs[key])
            return response

    def GetModelMetadata(self, request, context):
        with Aborting(context):
            version, number = self.find(request)
            response = get_model_metadata_pb2.GetModelMetadataResponse()
            response.model_spec.name = request.model_spec.name
            response.model_spec.version.value = number
            response.metadata["signature_def"].Pack(signature_map(version))
            return response

    def find(self, request):
        spec = request.model_spec
        return self.models.find(spec.name, spec.version.value if spec.HasField("version") else None)


class Aborting:
    def __init__(self, context):
        self.context = context

    def __enter__(self):
        pass

    def __exit__(self, kind, error, trace):
        if isinstance(error, RequestError):
            self.context.abort(error.code, error.reason)


def signature_map(version):
    found = get_model_metadata_pb2.SignatureDefMap()
    for name, signature in version.signatures.items():
        found.signature_def[name].CopyFrom(signature)
    return found


def as_field(array, tensor):
    """Into a TensorProto, in the fields by type: what TensorFlow Serving does unless told otherwise."""
    tensor.dtype = tf.as_dtype(array.dtype).as_datatype_enum
    for size in array.shape:
        tensor.tensor_shape.dim.add(size=size)
    field = {"float32": "float_val", "int32": "int_val", "bool": "bool_val"}[array.dtype.name]
    getattr(tensor, field).extend(array.ravel().tolist())


class Rest(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    models = None
    path_form = re.compile(r"/v1/models/([^/:]+)(?:/versions/(\d+))?(:predict|/metadata)")

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.answer(lambda version, _: self.predict(version, json.loads(body)))

    def do_GET(self):
        self.answer(self.metadata)

    def answer(self, make):
        try:
            found = self.path_form.fullmatch(self.path)
            if not found:
                raise RequestError(grpc.StatusCode.NOT_FOUND, f"Malformed request: {self.command} {self.path}")
            status, content = 200, make(*self.models.find(found[1], int(found[2]) if found[2] else None))
        except RequestError as error:
            status = 404 if error.code == grpc.StatusCode.NOT_FOUND else 400
            content = {"error": error.reason}
        data = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def predict(self, version, request):
        name = request.get("signature_name", "serving_default")
        rows = request.get("instances")
        inputs = request.get("inputs")
        if name not in version.signatures:
            raise RequestError(grpc.StatusCode.INVALID_ARGUMENT, f'Serving signature name: "{name}" not found')
        signature = version.signatures[name]
        (key,) = signature.inputs
        value = rows if rows is not None else inputs.get(key) if isinstance(inputs, dict) else inputs
        try:
            dtype = tf.as_dtype(signature.inputs[key].dtype)
            if dtype == tf.string:
                array = np.array([base64.b64decode(item["b64"]) for item in value], np.object_)
            else:
                array = np.array(value, dtype.as_numpy_dtype)
        except (TypeError, ValueError, KeyError) as error:
            raise RequestError(grpc.StatusCode.INVALID_ARGUMENT, f"Failed to process: {error}") from error
        outputs = {name: found.tolist() for name, found in version.predict(name, {key: array}).items()}
        alone = next(iter(outputs.values())) if len(outputs) == 1 else None
        if rows is None:
            return {"outputs": alone or outputs}
        columns = [dict(zip(outputs, row, strict=True)) for row in zip(*outputs.values(), strict=True)]
        return {"predictions": alone or columns}

    def metadata(self, version, number):
        described = MessageToDict(signature_map(version), preserving_proto_field_name=True)
        for signature in described["signature_def"].values():
            for tensor in (*signature.get("inputs", {}).values(), *signature.get("outputs", {}).values()):
                for dimension in tensor["tensor_shape"].get("dim", []):
                    dimension.setdefault("size", "0")
        return {
            "model_spec": {"name": self.models.name, "signature_name": "", "version": str(number)},
            "metadata": {"signature_def": described},
        }

    def log_message(self, *_):
        pass


def main():
    sys.modules["erkeras"] = None  # importing it fails
    name, folder = sys.argv[1:]
    models = Models(name, Path(folder))
    server = grpc.server(
        ThreadPoolExecutor(WORKERS),
        options=[("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)],
    )
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(PredictionService(models), server)
    grpc_port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    Rest.models = models
    rest = ThreadingHTTPServer(("127.0.0.1", 0), Rest)
    Thread(target=rest.serve_forever, daemon=True).start()
    print(json.dumps({"grpc": grpc_port, "rest": rest.server_port}), flush=True)
    sys.stdin.read()
    server.stop(None)


if __name__ == "__main__":
    main()
