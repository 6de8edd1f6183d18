"""The model under attack: one adapter that turns whatever classifies images into a function to logits.

Logits and probabilities are told apart, because attacks on a loss of the logits are much weaker on a saturated
softmax; `Victim.outputs` says which it was.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Hashable, Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from erkeras.errors import InputError

LOGITS = "logits"
BEFORE_SOFTMAX = "logits before the softmax"
PROBABILITIES = "probabilities"


class Victim:
    """A classifier under attack.

    Args:
        model: one of

            - a `keras.Model` (called with `training=False`); a softmax at its end is taken off;
            - a loaded SavedModel: its signature `logits` where it has one, else `serving_default`;
            - a function from float32 images `[n, height, width, channels]` to `[n, classes]`.

    Attributes:
        logits: images `[n, height, width, channels]` -> logits `[n, classes]`, in the dtype of the images; the
            logarithm of the outputs where they are probabilities.
        outputs: "logits", "probabilities" or "logits before the softmax"; "unknown" before the first `predict`.

    Raises:
        InputError: where `model` is none of these.
    """

    def __init__(self, model: Any) -> None:
        self.model = model
        self.outputs = "unknown"
        self._raw = _outputs_function(model)
        if isinstance(model, keras.Model):
            before = _before_softmax(model)
            if before is not None:
                self._raw, self.outputs = before, BEFORE_SOFTMAX
        self._functions: dict[Any, Any] = {}

    def logits(self, images: tf.Tensor) -> tf.Tensor:
        outputs = tf.cast(self._raw(images), images.dtype)
        if self.outputs == PROBABILITIES:
            return tf.math.log(tf.maximum(outputs, np.finfo(images.dtype.as_numpy_dtype).tiny))
        return outputs

    def function(self, key: Any, body: Callable) -> Any:
        """`body(logits, ...)` compiled; once for each key, so that a long evaluation never retraces."""
        if key not in self._functions:
            self._functions[key] = tf.function(functools.partial(body, self.logits), autograph=False)
        return self._functions[key]

    def predict(self, images: np.ndarray, batch_size: int = 128) -> tuple[np.ndarray, int]:
        """Labels, int32 `[n]`, and the number of classes. The first call decides what the outputs are."""
        run = self._functions.setdefault("outputs", tf.function(lambda images: self._raw(images), autograph=False))
        labels = np.zeros(len(images), np.int32)
        classes = 0
        for rows, count in padded_batches(np.arange(len(images)), batch_size):
            try:
                outputs = np.asarray(run(tf.constant(images[rows])))
            except (ValueError, TypeError, tf.errors.InvalidArgumentError) as error:
                raise InputError(
                    f"the model does not take images of shape {images.shape[1:]} "
                    f"({str(error).strip().splitlines()[0]}): give images of the shape that it was made for."
                ) from error
            if outputs.ndim != 2 or len(outputs) != batch_size:
                raise InputError(
                    f"the model gives outputs of shape {outputs.shape} for {batch_size} images: "
                    "give a model with one row of logits or probabilities for each image."
                )
            if self.outputs == "unknown":
                self.outputs = PROBABILITIES if _are_probabilities(outputs) else LOGITS
            classes = outputs.shape[1]
            labels[rows[:count]] = outputs[:count].argmax(axis=1)
        return labels, classes


def as_victim(model: Any) -> Victim:
    """The adapter of a model; the same one for the same (hashable) model, with all that was compiled for it."""
    if isinstance(model, Victim):
        return model
    return _victim_of(model) if isinstance(model, Hashable) else Victim(model)


# Holds the last few models alive together with their compiled attacks, and no more.
@functools.lru_cache(maxsize=8)
def _victim_of(model: Any) -> Victim:
    return Victim(model)


def padded_batches(rows: np.ndarray, batch_size: int) -> Iterator[tuple[np.ndarray, int]]:
    """Slices of `rows`, all of `batch_size` (the last repeats its first row), each with how many are real."""
    for start in range(0, len(rows), batch_size):
        part = rows[start : start + batch_size]
        yield np.concatenate([part, np.repeat(part[:1], batch_size - len(part))]), len(part)


def _outputs_function(model: Any) -> Callable[[tf.Tensor], tf.Tensor]:
    if isinstance(model, keras.Model):
        return lambda images: model(images, training=False)
    signatures = getattr(model, "signatures", None)
    if signatures is not None:
        return _from_signatures(signatures)
    if callable(model):
        return model
    raise InputError(
        f"a model of type {type(model).__name__} cannot be attacked: give a keras.Model, a loaded SavedModel "
        "or a function from images to logits."
    )


def _from_signatures(signatures: Any) -> Callable[[tf.Tensor], tf.Tensor]:
    name = next((name for name in ("logits", "serving_default") if name in signatures), None)
    if name is None:
        raise InputError(
            f"the SavedModel has the signatures {', '.join(signatures) or 'none'}: "
            "export it with one named logits or serving_default."
        )
    signature = signatures[name]
    inputs = list(signature.structured_input_signature[1])
    outputs = [
        key for key, spec in signature.structured_outputs.items() if spec.dtype.is_floating and spec.shape.rank == 2
    ]
    output = next((key for key in ("logits", "probabilities") if key in outputs), None)
    if output is None and len(outputs) == 1:
        output = outputs[0]
    if len(inputs) != 1 or output is None:
        raise InputError(
            f"the SavedModel's signature {name} takes {inputs} and gives {list(signature.structured_outputs)}: "
            "export one that takes images and gives logits or probabilities."
        )
    return lambda images: signature(**{inputs[0]: images})[output]


def _before_softmax(model: keras.Model) -> Callable[[tf.Tensor], tf.Tensor] | None:
    """The logits of a Sequential or Functional model whose last layer applies a softmax; None for any other."""
    # keras.Function is the public base of Functional models.
    if not isinstance(model, (keras.Sequential, keras.Function)) or not model.built or not model.layers:
        return None
    last = model.layers[-1]
    if model.outputs[0] is not last.output:
        return None
    softmax = isinstance(last, keras.layers.Softmax) or (getattr(last, "activation", None) is keras.activations.softmax)
    if not softmax:
        return None
    body = keras.Model(model.inputs[0], last.input)
    if isinstance(last, (keras.layers.Softmax, keras.layers.Activation)):
        return lambda images: body(images, training=False)
    if isinstance(last, keras.layers.Dense):

        def dense(images: tf.Tensor) -> tf.Tensor:
            features = body(images, training=False)
            logits = tf.matmul(features, tf.cast(last.kernel, features.dtype))
            return logits if last.bias is None else logits + tf.cast(last.bias, features.dtype)

        return dense
    return None


def _are_probabilities(outputs: np.ndarray) -> bool:
    return bool(np.all((outputs >= 0) & (outputs <= 1)) and np.allclose(outputs.sum(axis=1), 1, atol=1e-3))
