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

from erkeras.attacks.contract import Steps
from erkeras.errors import InputError

LOGITS = "logits"
BEFORE_SOFTMAX = "logits before the softmax"
PROBABILITIES = "probabilities"
LABELS = "labels"


class Victim:
    """A classifier under attack.

    Args:
        model: one of

            - a `keras.Model` (called with `training=False`); a softmax at its end is taken off;
            - a loaded SavedModel: its signature `logits` where it has one, else `serving_default`;
            - a function from float32 images `[n, height, width, channels]` to `[n, classes]`, or to labels, int
              `[n]`, for attacks that ask for no more.

    Attributes:
        logits: images `[n, height, width, channels]` -> logits `[n, classes]`, in the dtype of the images; the
            logarithm of the outputs where they are probabilities, `[n, 1]` where they are labels.
        outputs: "logits", "probabilities", "logits before the softmax" or "labels"; "unknown" before the first
            call of `outputs_for`.

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
        self._functions: dict[Steps, Any] = {}
        self._function = tf.function(self.logits, autograph=False)

    def logits(self, images: tf.Tensor) -> tf.Tensor:
        outputs = tf.cast(self._raw(images), images.dtype)
        if self.outputs == LABELS:
            return outputs[:, tf.newaxis]
        if self.outputs == PROBABILITIES:
            return tf.math.log(tf.maximum(outputs, np.finfo(images.dtype.as_numpy_dtype).tiny))
        return outputs

    def functions(self, attack: Steps, compiled: Callable[..., Any]) -> Any:
        """Gives `compiled(attack, logits)`; made once for each attack, so that a long evaluation never retraces."""
        if attack not in self._functions:
            self._functions[attack] = compiled(attack, self.logits)
        return self._functions[attack]

    def outputs_for(self, images: np.ndarray, knowledge: str = "labels", internal_batch: int = 128) -> np.ndarray:
        """The model's outputs as attacks see them, float32 `[n, classes]`, or `[n, 1]` where it gives labels.

        The first call decides what the outputs are.

        Args:
            images: float32 `[n, height, width, channels]`.
            knowledge: what is asked of it: "gradients", "logits" or "labels".
            internal_batch: how many the model sees at once.

        Raises:
            InputError: for a model that does not take such images, or does not give what is asked of it.
        """
        parts = [np.zeros((0, 1), np.float32)]
        for rows, count in padded_batches(np.arange(len(images)), internal_batch):
            part = tf.constant(images[rows])
            if self.outputs == "unknown":
                self._tell_apart(part)
            parts.append(self._function(part).numpy()[:count])
        if self.outputs == LABELS and knowledge != "labels":
            raise InputError(
                "the model gives labels, which have no gradients and no margins: give one that ends in logits, or "
                "attack it with rays."
            )
        return np.concatenate(parts[1:] or parts)

    def _tell_apart(self, images: tf.Tensor) -> None:
        try:
            outputs = np.asarray(self._raw(images))
        except (ValueError, TypeError, tf.errors.InvalidArgumentError) as error:
            raise InputError(
                f"the model does not take images of shape {tuple(images.shape[1:])} "
                f"({str(error).strip().splitlines()[0]}): give images of the shape that it was made for."
            ) from error
        if outputs.shape == (len(images),) and np.issubdtype(outputs.dtype, np.integer):
            self.outputs = LABELS
        elif outputs.ndim != 2 or len(outputs) != len(images) or outputs.shape[1] < 2:
            raise InputError(
                f"the model gives outputs of shape {outputs.shape} for {len(images)} images: "
                "give a model with one row of logits or probabilities for each image."
            )
        else:
            self.outputs = PROBABILITIES if _are_probabilities(outputs) else LOGITS


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
