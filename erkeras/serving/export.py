"""Export to a SavedModel with the detector inside its graph."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from erkeras.detection import ERDetector

#: Signature -> its outputs.
SIGNATURES = {
    "serving_default": ("probabilities", "label"),
    "detect": ("probabilities", "label", "adversarial_score", "verdict"),
    "embed": ("code",),
    "logits": ("logits",),
}


def export_saved_model(detector: ERDetector, folder: str | Path) -> None:
    """Writes the detector's model, and the detector, as a SavedModel that needs no erkeras.

    Each signature of `SIGNATURES` takes `images`, float32 `[n, height, width, channels]` in [0, 1]; its twin named
    `..._bytes` takes `encoded_images`, strings `[n]` of PNG or JPEG files, decoded and resized inside the graph.
    Outputs: `probabilities` float32 `[n, classes]`, `label` int32 `[n]`, `adversarial_score` float32 `[n]`,
    `verdict` bool `[n]` (true: adversarial), `code` float32 `[n, code_size]`, `logits` float32 `[n, classes]`.

    Args:
        detector: fitted and calibrated.
        folder: where to write, in TF Serving's layout `NAME/1`.
    """
    model = detector.model

    def everything(images: tf.Tensor) -> dict[str, tf.Tensor]:
        codes = model.encoder(images, training=False)
        return {**detector.graph(images), "code": codes, "logits": model.classify(images, codes)}

    _write(everything, SIGNATURES, model.encoder.input_shape[1:], folder)


def export_classifier(model: keras.Model, image_shape: Sequence[int], folder: str | Path) -> None:
    """Writes a classifier without a detector as a SavedModel, with the signatures `serving_default` and `logits`.

    Args:
        model: images -> logits.
        image_shape: (height, width, channels).
        folder: as for `export_saved_model`.
    """

    def everything(images: tf.Tensor) -> dict[str, tf.Tensor]:
        logits = model(images, training=False)
        label = tf.argmax(logits, axis=1, output_type=tf.int32)
        return {"probabilities": tf.nn.softmax(logits), "label": label, "logits": logits}

    signatures = {name: SIGNATURES[name] for name in ("serving_default", "logits")}
    _write(everything, signatures, image_shape, folder)


def _write(
    everything: Callable, signatures: dict[str, tuple[str, ...]], shape: Sequence[int], folder: str | Path
) -> None:
    images = tf.TensorSpec((None, *shape), tf.float32, name="images")
    encoded = tf.TensorSpec((None,), tf.string, name="encoded_images")
    # Without archive.track: an endpoint brings the variables that it reads, and what is tracked too is stored twice.
    archive = keras.export.ExportArchive()
    for signature, names in signatures.items():
        archive.add_endpoint(signature, _only(everything, names), input_signature=[images])
    for signature, names in signatures.items():
        from_bytes = _only(_after_decoding(everything, shape), names)
        archive.add_endpoint(f"{signature.removeprefix('serving_')}_bytes", from_bytes, input_signature=[encoded])
    archive.write_out(str(folder), verbose=False)


def _only(function: Callable, names: tuple[str, ...]) -> Callable:
    # TensorFlow prunes what the named outputs do not need.
    def outputs(argument: tf.Tensor) -> dict[str, tf.Tensor]:
        results = function(argument)
        return {name: results[name] for name in names}

    return outputs


def _after_decoding(function: Callable, shape: Sequence[int]) -> Callable:
    def decode(encoded: tf.Tensor) -> tf.Tensor:
        pixels = tf.io.decode_image(encoded, channels=shape[2], expand_animations=False)
        pixels.set_shape((None, None, shape[2]))
        # Resizing to its own size leaves an image as it is.
        return tf.ensure_shape(tf.image.resize(tf.cast(pixels, tf.float32) / 255, shape[:2]), shape)

    def from_bytes(encoded: tf.Tensor) -> dict[str, tf.Tensor]:
        return function(tf.map_fn(decode, encoded, fn_output_signature=tf.TensorSpec(shape, tf.float32)))

    return from_bytes


def detect_with(folder: str | Path, images: np.ndarray, batch_size: int = 256) -> dict[str, np.ndarray]:
    """Runs the signature `detect` of a SavedModel.

    Args:
        folder: as `export_saved_model` wrote it.
        images: float32 `[n, height, width, channels]` in [0, 1], n of 1 or more.

    Returns:
        The signature's outputs, each `[n, ...]`.
    """
    detect = tf.saved_model.load(str(folder)).signatures["detect"]
    parts = [
        detect(images=tf.constant(images[start : start + batch_size])) for start in range(0, len(images), batch_size)
    ]
    return {name: np.concatenate([part[name].numpy() for part in parts]) for name in SIGNATURES["detect"]}
