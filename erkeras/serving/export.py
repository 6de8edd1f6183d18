"""Export to a SavedModel with the detector inside its graph."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import prediction_log_pb2

from erkeras.detection import Detector
from erkeras.errors import InputError
from erkeras.files import make_partial_folder
from erkeras.memory import is_out_of_memory
from erkeras.serving.messages import predict_request
from erkeras.serving.signatures import ENCODED_IMAGES, IMAGES, MOST_PIXELS, SIGNATURES, bytes_twin

#: Where TensorFlow Serving looks for requests to run before a version takes its first one.
WARM_UP = Path("assets.extra") / "tf_serving_warmup_requests"

#: Images that `open_detect` sends through the graph at a time.
DETECT_BATCH = 256


def export_saved_model(detector: Detector, folder: str | Path) -> None:
    """Writes the detector's model, and the detector, as a SavedModel that needs no erkeras.

    Each signature of `SIGNATURES` takes `images`, float32 `[n, height, width, channels]` in [0, 1], any n; its twin
    named `..._bytes` takes `encoded_images`, strings `[n]` of PNG or JPEG files, decoded and resized inside the graph.
    Outputs: `probabilities` float32 `[n, classes]`, `label` int32 `[n]`, `adversarial_score` float32 `[n]`,
    `verdict` bool `[n]` (true: adversarial), `code` float32 `[n, code_size]`, `logits` float32 `[n, classes]`.

    Images of another shape, outside [0, 1] or not numbers, and files that are neither PNG nor JPEG, damaged, or of
    more than `MOST_PIXELS` pixels (which are not decoded) end a request with an InvalidArgument error. One request for
    each signature is in `assets.extra/tf_serving_warmup_requests`.

    Example:
        export_saved_model(detector, "served/1")

    Args:
        detector: fitted and calibrated, of an ERClassifier or any other Keras model. Codes are what its code layer
            gives, and logits the model's without the softmax that it may end in.
        folder: where to write, in TF Serving's layout `NAME/1`; it is there whole or not at all.

    Raises:
        InputError: where the folder exists, or the model's weights have changed since the detector was fitted.
    """
    detector.check_weights()
    network = detector.network
    shape = [size or 0 for size in network.image_shape]  # of a fitted detector none is unknown

    def answer(images: tf.Tensor, names: Sequence[str]) -> dict[str, tf.Tensor]:
        if "verdict" in names:
            return detector.graph(images)
        codes, logits = network.embed(images)
        return {"code": codes, **_labels(logits)}

    _write(answer, SIGNATURES, shape, folder)


def export_classifier(model: keras.Model, image_shape: Sequence[int], folder: str | Path) -> None:
    """Writes a classifier without a detector as a SavedModel, with the signatures `serving_default` and `logits`.

    Args:
        model: images -> logits.
        image_shape: (height, width, channels).
        folder: as for `export_saved_model`.
    """

    def answer(images: tf.Tensor, names: Sequence[str]) -> dict[str, tf.Tensor]:
        return _labels(model(images, training=False))

    signatures = {name: SIGNATURES[name] for name in ("serving_default", "logits")}
    _write(answer, signatures, image_shape, folder)


def _labels(logits: tf.Tensor) -> dict[str, tf.Tensor]:
    label = tf.argmax(logits, axis=1, output_type=tf.int32)
    return {"probabilities": tf.nn.softmax(logits), "label": label, "logits": logits}


def _write(answer: Callable, signatures: dict[str, tuple[str, ...]], shape: Sequence[int], folder: str | Path) -> None:
    folder = Path(folder)
    if folder.exists():
        raise InputError(f"{folder} exists: give another version.")
    images = tf.TensorSpec((None, *shape), tf.float32, name=IMAGES)
    encoded = tf.TensorSpec((None,), tf.string, name=ENCODED_IMAGES)
    # Without archive.track: an endpoint brings the variables that it reads, and what is tracked too is stored twice.
    archive = keras.export.ExportArchive()
    # A signature and its twin have one graph of the model, and all twins one that decodes.
    functions = {name: tf.function(_only(answer, names), autograph=False) for name, names in signatures.items()}
    decoded = tf.function(_decoder(shape), autograph=False)
    for signature, function in functions.items():
        archive.add_endpoint(signature, _checked(function, shape), input_signature=[images])
    for signature, function in functions.items():
        archive.add_endpoint(bytes_twin(signature), _after_decoding(function, decoded), input_signature=[encoded])
    # Hidden, so that a server that watches the folder takes the version up when it is complete.
    partial = make_partial_folder(folder)
    try:
        archive.write_out(str(partial), verbose=False)
        _write_warm_up(partial / WARM_UP, signatures, shape)
        partial.rename(folder)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def _write_warm_up(path: Path, signatures: Sequence[str] | dict, shape: Sequence[int]) -> None:
    images = np.zeros((1, *shape), np.float32)
    encoded = [tf.io.encode_png(tf.zeros(shape, tf.uint8)).numpy()]
    path.parent.mkdir()
    with tf.io.TFRecordWriter(str(path)) as writer:
        for signature in signatures:
            for name, inputs in ((signature, {IMAGES: images}), (bytes_twin(signature), {ENCODED_IMAGES: encoded})):
                log = prediction_log_pb2.PredictLog(request=predict_request(name, inputs))
                writer.write(prediction_log_pb2.PredictionLog(predict_log=log).SerializeToString())


def _only(answer: Callable, names: tuple[str, ...]) -> Callable:
    # And `answer` computes little else: TensorFlow does not prune the detector's loop.
    def outputs(images: tf.Tensor) -> dict[str, tf.Tensor]:
        found = answer(images, names)
        return {name: found[name] for name in names}

    return outputs


def _checked(function: Callable, shape: Sequence[int]) -> Callable:
    def of_images(images: tf.Tensor) -> dict[str, tf.Tensor]:
        # A server feeds any shape, whatever the signature says.
        images = tf.ensure_shape(images, (None, *shape))
        # False for NaN too.
        inside = tf.reduce_all((images >= 0) & (images <= 1))
        message = "some pixels are not between 0 and 1, or not numbers: scale the images."
        with tf.control_dependencies([_check_count(images), tf.debugging.Assert(inside, [message])]):
            return function(tf.identity(images))

    return of_images


def _after_decoding(function: Callable, decoded: Callable) -> Callable:
    def from_bytes(encoded: tf.Tensor) -> dict[str, tf.Tensor]:
        return function(decoded(encoded))

    return from_bytes


def _decoder(shape: Sequence[int]) -> Callable:
    def to_image(encoded: tf.Tensor) -> tf.Tensor:
        pixels = decode(encoded, shape[2])
        # Antialiased, so that every pixel of a larger image counts. Resizing to its own size leaves an image as it is.
        resized = tf.image.resize(pixels, shape[:2], antialias=True) / 255
        return tf.ensure_shape(tf.clip_by_value(resized, 0, 1), shape)

    def to_images(encoded: tf.Tensor) -> tf.Tensor:
        encoded = tf.ensure_shape(encoded, (None,))
        with tf.control_dependencies([_check_count(encoded)]):
            encoded = tf.identity(encoded)
        return tf.map_fn(to_image, encoded, fn_output_signature=tf.TensorSpec(shape, tf.float32))

    return to_images


def decode(encoded: tf.Tensor, channels: int) -> tf.Tensor:
    """Decodes a PNG or JPEG file to uint8 `[height, width, channels]`, the same pixels as `erkeras.data.decode_image`.

    Args:
        encoded: string, the file.
        channels: 1 or 3.

    Raises:
        tf.errors.InvalidArgumentError: when it runs, for another file, or one of more than `MOST_PIXELS` pixels.
    """
    with tf.control_dependencies([_check_header(encoded)]):
        encoded = tf.identity(encoded)
    # TensorFlow's own choice for JPEG is a faster transform, by which a pixel may differ by 5.
    pixels = tf.cond(
        tf.strings.substr(encoded, 0, 1) == b"\x89",
        lambda: tf.io.decode_png(encoded, channels=3),
        lambda: tf.io.decode_jpeg(encoded, channels=3, dct_method="INTEGER_ACCURATE"),
    )
    pixels.set_shape((None, None, 3))
    if channels == 3:
        return pixels
    weighted = tf.reduce_sum(tf.cast(pixels, tf.int32) * [19595, 38470, 7471], axis=-1, keepdims=True)
    return tf.cast((weighted + 2**15) // 2**16, tf.uint8)


def _check_count(images: tf.Tensor) -> tf.Operation:
    return tf.debugging.Assert(tf.shape(images)[0] > 0, ["there are no images: send one or more."])


def _check_header(encoded: tf.Tensor) -> tf.Operation:
    """Fails where a file is neither PNG nor JPEG, or says that it has too many pixels. Decodes nothing."""
    # The signature, and the first chunk, IHDR, which begins with width and height as big-endian int32.
    long_enough = tf.strings.length(encoded) >= 24
    head = tf.cond(long_enough, lambda: tf.strings.substr(encoded, [0, 12], [8, 4]), lambda: tf.constant(["", ""]))
    is_png = tf.reduce_all(head == [b"\x89PNG\r\n\x1a\n", b"IHDR"])

    def png_size() -> tf.Tensor:
        size = tf.io.decode_raw(tf.strings.substr(encoded, 16, 8), tf.int32, little_endian=False)
        return tf.cast(size, tf.int64)

    def jpeg_size() -> tf.Tensor:
        return tf.image.extract_jpeg_shape(encoded, tf.int64)[1::-1]

    def no_size() -> tf.Tensor:
        return tf.constant([-1, -1], tf.int64)

    is_jpeg = tf.strings.substr(encoded, 0, 3) == b"\xff\xd8\xff"
    size = tf.cond(is_png, png_size, lambda: tf.cond(is_jpeg, jpeg_size, no_size))
    known = tf.debugging.Assert(size[0] > 0, ["a file is neither PNG nor JPEG, or has no size: send one of these."])
    too_large = tf.strings.format(
        f"an image has {{}} x {{}} pixels: send at most {MOST_PIXELS:,} pixels, as 4096 x 4096.", (size[0], size[1])
    )
    with tf.control_dependencies([known]):
        small = tf.reduce_all(size > 0) & (size[0] <= MOST_PIXELS // tf.maximum(size[1], 1))
        return tf.debugging.Assert(small, [too_large])


def open_detect(folder: str | Path) -> tuple[tuple[int, int, int], Callable[[np.ndarray], dict[str, np.ndarray]]]:
    """Opens the signature `detect` of a SavedModel.

    Args:
        folder: as `export_saved_model` wrote it.

    Returns:
        (height, width, channels) of its images, and `detect_with` of the SavedModel.

    Raises:
        InputError: where it cannot be loaded, or has no such signature.
    """
    from erkeras.saved.loading import load_model  # which imports this module

    loaded = load_model("saved_model", Path(folder))
    try:
        signature = loaded.signatures["detect"]
        _, height, width, channels = signature.structured_input_signature[1][IMAGES].shape.as_list()
    except (KeyError, AttributeError, TypeError, ValueError) as error:
        raise InputError(f"{folder} does not detect as our exports do: export it with a detector.") from error

    def detect(images: np.ndarray) -> dict[str, np.ndarray]:
        starts = range(0, len(images), DETECT_BATCH)
        try:
            parts = [signature(images=tf.constant(images[start : start + DETECT_BATCH])) for start in starts]
            found = {name: np.concatenate([part[name].numpy() for part in parts]) for name in SIGNATURES["detect"]}
        except (KeyError, AttributeError, TypeError, ValueError, tf.errors.OpError) as error:
            if is_out_of_memory(error):
                raise
            raise InputError(f"{folder} does not detect as our exports do: export the model again.") from error
        if any(len(values) != len(images) for values in found.values()):
            raise InputError(f"{folder} does not answer for every image: export the model again.")
        return found

    return (height, width, channels), detect


def detect_with(folder: str | Path, images: np.ndarray) -> dict[str, np.ndarray]:
    """Runs the signature `detect` of a SavedModel.

    Args:
        folder: as `export_saved_model` wrote it.
        images: float32 `[n, height, width, channels]` in [0, 1], n of 1 or more.

    Returns:
        The signature's outputs, each `[n, ...]`.

    Raises:
        InputError: as `open_detect`, and where it does not answer as ours do.
    """
    return open_detect(folder)[1](images)
