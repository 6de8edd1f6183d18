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

from erkeras.attacks.contract import INTERNAL_BATCH, Steps
from erkeras.attacks.streams import map_streams
from erkeras.errors import InputError
from erkeras.memory import is_out_of_memory

LOGITS = "logits"
BEFORE_SOFTMAX, BEFORE_SIGMOID = "logits before the softmax", "logits before the sigmoid"
PROBABILITIES, SIGMOIDS = "probabilities", "sigmoids"
LABELS = "labels"
UNKNOWN = "unknown"

#: What a model may end in, by TensorFlow's name of the operation.
_ENDS = {"Softmax": BEFORE_SOFTMAX, "Sigmoid": BEFORE_SIGMOID}
#: Operations between such an end and the output that leave the values as they are.
_TRANSPARENT = ("Identity", "Cast", "Reshape", "Squeeze", "EnsureShape")

#: For who needs logits of each class.
ONE_NUMBER = (
    "the model gives one number for each image, as one sigmoid for two classes does: give two logits, as "
    "keras.ops.concatenate([-z, z], axis=1) of its logit z."
)

Raw = Callable[[tf.Tensor], Any]


class Victim:
    """Wraps a classifier under attack.

    A softmax or sigmoid that is the last operation of the model's graph is taken off, so that attacks see the model's
    own logits. Where it cannot be seen (in a SavedModel, behind a `tf.function`), the logits are made of the outputs.

    Args:
        model: one of

            - a `keras.Model` (called with `training=False`);
            - a loaded SavedModel: its signature `logits` where it has one, else `serving_default`, else the only one,
              else the model itself where it can be called;
            - a function from float32 images `[n, height, width, channels]` to `[n, classes]`, or to labels, int
              `[n]`, for attacks that ask for no more. A function of NumPy arrays has no gradients.

            One number an image, `[n, 1]` or `[n]`, is of two classes: the probability of class 1, or its logit z,
            which stands for the logits (-z / 2, z / 2).
        jit_compile: whether XLA compiles the loops of attacks whole; "auto": on a GPU.

    Attributes:
        logits: images `[n, height, width, channels]` -> logits `[n, classes]`, in the dtype of the images; made of the
            outputs where they are probabilities or sigmoids, `[n, 1]` where they are labels.
        outputs: "logits", "logits before the softmax", "logits before the sigmoid", "probabilities", "sigmoids" or
            "labels"; "unknown" before the first call of `outputs_for`.
        single: True for a model of one number an image; False before the first call of `outputs_for`.
        has_gradients: False for a function of NumPy arrays.
        looked: attacks before whose first run the model was looked at (`checks.py`).
        told: sentences of warning that were said of it.
        fitting: for a shape of images, how many of them the model sees at once; see `devices.fitting_batch`.

    Raises:
        InputError: where `model` is none of these.
    """

    def __init__(self, model: Any, jit_compile: bool | str = "auto") -> None:
        self.model = model
        self.jit_compile = jit_compile
        self.outputs = UNKNOWN
        self.has_gradients = True
        self.looked: set[Steps] = set()
        self.told: list[str] = []
        self.fitting: dict[tuple[int, ...], int] = {}
        self._raw = _outputs_function(model)
        self.single = False
        self._functions: dict[Steps, Any] = {}
        self._function = tf.function(self.logits, autograph=False)

    def logits(self, images: tf.Tensor) -> tf.Tensor:
        if self.outputs == UNKNOWN and not tf.inside_function():
            self._tell_apart(images)
        if self.outputs in (BEFORE_SOFTMAX, BEFORE_SIGMOID) and not tf.inside_function():
            return self._function(images)  # only a graph shows what is before the end
        outputs = self._logits(images)
        return tf.concat([-outputs / 2, outputs / 2], axis=1) if self.single else outputs

    def _logits(self, images: tf.Tensor) -> tf.Tensor:
        """One for each output of the model."""
        outputs = self._raw(images)
        if self.outputs in (BEFORE_SOFTMAX, BEFORE_SIGMOID):
            return tf.cast(_before_end(outputs)[1], images.dtype)
        outputs = tf.cast(outputs, images.dtype)
        if self.outputs == LABELS:
            return outputs[:, tf.newaxis]
        if self.outputs in (PROBABILITIES, SIGMOIDS):
            smallest = np.finfo(images.dtype.as_numpy_dtype).tiny
            logarithm = tf.math.log(tf.maximum(outputs, smallest))
            if self.outputs == PROBABILITIES:
                return logarithm
            return logarithm - tf.math.log(tf.maximum(1 - outputs, smallest))
        return outputs

    def functions(self, attack: Steps, compiled: Callable[..., Any]) -> Any:
        """Gives `compiled(attack, self)`; made once for each attack, so that a long evaluation never retraces."""
        if attack not in self._functions:
            self._functions[attack] = compiled(attack, self)
        return self._functions[attack]

    def outputs_for(
        self, images: np.ndarray, knowledge: str = "labels", internal_batch: int = INTERNAL_BATCH
    ) -> np.ndarray:
        """Gives the model's outputs as attacks see them, float32 `[n, classes]`, or `[n, 1]` where it gives labels.

        The first call decides what the outputs are.

        Args:
            images: float32 `[n, height, width, channels]`.
            knowledge: what is asked of it: "gradients", "logits" or "labels".
            internal_batch: how many the model sees at once.

        Raises:
            InputError: for a model that does not take such images, or does not give what is asked of it.
        """
        batches = list(padded_batches(np.arange(len(images)), internal_batch))
        if batches and self.outputs == UNKNOWN:
            self._tell_apart(tf.constant(images[batches[0][0]]))

        def outputs_of(batch: tuple[np.ndarray, int]) -> np.ndarray:
            rows, count = batch
            return self._function(tf.constant(images[rows])).numpy()[:count]

        parts = map_streams(outputs_of, batches) or [np.zeros((0, 1), np.float32)]
        if self.outputs == LABELS and knowledge != "labels":
            raise InputError(
                "the model gives labels, which have no gradients and no margins: give one that ends in logits, or "
                "attack it with rays."
            )
        if not self.has_gradients and knowledge == "gradients":
            raise InputError(
                "the model is a function of NumPy arrays, which has no gradients: attack it with square or rays, or "
                "give a Keras model or a function of TensorFlow."
            )
        return np.concatenate(parts)

    def _tell_apart(self, images: tf.Tensor) -> None:
        _check_weights(self.model)
        outputs = _as_array(_try(self._raw, images))
        if outputs.shape == (len(images),) and np.issubdtype(outputs.dtype, np.integer):
            self.outputs = LABELS
        elif outputs.shape == (len(images), 1) and np.issubdtype(outputs.dtype, np.integer):
            raise InputError(f"the model gives labels of shape {outputs.shape}: give a function to labels [n].")
        elif outputs.shape in ((len(images), 1), (len(images),)):
            self._raw, self.single = _in_a_column(self._raw), True
            outputs = outputs.reshape(-1, 1)
        elif outputs.ndim != 2 or len(outputs) != len(images):
            raise InputError(
                f"the model gives outputs of shape {outputs.shape} for {len(images)} images: "
                "give a model with one row of logits or probabilities for each image."
            )
        end = self._find_end(images, outputs)
        if self.single and end == BEFORE_SOFTMAX:
            raise InputError("the model ends in a softmax over one output, which is always 1: give it two outputs.")
        if self.outputs == UNKNOWN:
            self.outputs = end or _kind_of(outputs)

    def _find_end(self, images: tf.Tensor, outputs: np.ndarray) -> str | None:
        """Finds what the model's graph ends in. A function that makes no graph is wrapped as one of NumPy arrays."""
        ends: list[str | None] = []

        def look(images: tf.Tensor) -> tf.Tensor:
            traced = self._raw(images)
            ends.append(_before_end(traced)[0])
            return traced

        try:
            tf.function(look, autograph=False).get_concrete_function(tf.TensorSpec(images.shape, images.dtype))
        except Exception:  # whatever a function of arrays does with what is none
            self._raw, self.has_gradients = _of_arrays(self._raw, outputs), False
            return None
        return ends[-1]


def as_victim(model: Any, jit_compile: bool | str = "auto") -> Victim:
    """Adapts a model; the same adapter for the same (hashable) model, with all that was compiled for it."""
    if isinstance(model, Victim):
        return model
    return _victim_of(model, jit_compile) if isinstance(model, Hashable) else Victim(model, jit_compile)


# Holds the last few models alive together with their compiled attacks, and no more.
@functools.lru_cache(maxsize=8)
def _victim_of(model: Any, jit_compile: bool | str) -> Victim:
    return Victim(model, jit_compile)


def padded_batches(rows: np.ndarray, batch_size: int) -> Iterator[tuple[np.ndarray, int]]:
    """Cuts `rows` into parts of `batch_size` (the last repeats its first row), each with how many are real."""
    for start in range(0, len(rows), batch_size):
        part = rows[start : start + batch_size]
        yield np.concatenate([part, np.repeat(part[:1], batch_size - len(part))]), len(part)


def _outputs_function(model: Any) -> Raw:
    if isinstance(model, keras.Model):
        return lambda images: model(images, training=False)
    if getattr(model, "signatures", None) is not None:
        return _of_saved_model(model)
    if callable(model):
        return model
    raise InputError(
        f"a model of type {type(model).__name__} cannot be attacked: give a keras.Model, a loaded SavedModel "
        "or a function from images to logits."
    )


def _of_saved_model(model: Any) -> Raw:
    signatures = model.signatures
    name = next((name for name in ("logits", "serving_default") if name in signatures), None)
    if name is None and len(signatures) == 1:
        (name,) = signatures
    if name is None and callable(model):
        return lambda images: model(images)
    if name is None:
        raise InputError(
            f"the SavedModel has the signatures {', '.join(signatures) or 'none'}: "
            "export it with one named logits or serving_default."
        )
    signature = signatures[name]
    inputs = signature.structured_input_signature[1]
    outputs = [
        key for key, spec in signature.structured_outputs.items() if spec.dtype.is_floating and spec.shape.rank == 2
    ]
    output = next((key for key in ("logits", "probabilities") if key in outputs), None)
    if output is None and len(outputs) == 1:
        output = outputs[0]
    if len(inputs) != 1 or output is None:
        raise InputError(
            f"the SavedModel's signature {name} takes {list(inputs)} and gives {list(signature.structured_outputs)}: "
            "export one that takes images and gives logits or probabilities."
        )
    ((key, spec),) = inputs.items()
    if not spec.dtype.is_floating:
        raise InputError(
            f"the SavedModel's signature {name} takes {spec.dtype.name}: export one that takes float images in [0, 1], "
            "as gradients need."
        )

    def call(images: tf.Tensor) -> tf.Tensor:
        if not spec.shape.is_compatible_with(images.shape):
            raise ValueError(f"its signature {name} takes {spec.shape.as_list()}")
        return signature(**{key: tf.cast(images, spec.dtype)})[output]

    return call


def _check_weights(model: Any) -> None:
    """Refuses weights that are no numbers: a ReLU makes zeros of them, and of the model a constant."""
    for weight in getattr(model, "weights", None) or getattr(model, "variables", None) or ():
        values = tf.convert_to_tensor(weight)
        if values.dtype.is_floating and not np.isfinite(values).all():
            raise InputError(
                f"the model's weights {getattr(weight, 'path', weight.name)} are not all finite: train it again."
            )


def _try(raw: Raw, images: tf.Tensor) -> Any:
    try:
        return raw(images)
    except InputError:
        raise
    except Exception as error:  # a model may raise anything
        if is_out_of_memory(error):
            raise
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise InputError(
            f"the model does not take images of shape {tuple(images.shape[1:])}, {images.shape[0]} at once "
            f"({lines[0][:200]}): give images of the shape that it was made for."
        ) from error


def _as_array(outputs: Any) -> np.ndarray:
    if isinstance(outputs, (list, tuple, dict)):
        raise InputError(
            f"the model gives {len(outputs)} outputs, not one row of logits or probabilities for each image: give a "
            "function that picks the one, as lambda images: model(images)[0]."
        )
    return np.asarray(outputs)


def _of_arrays(function: Raw, outputs: np.ndarray) -> Raw:
    """A function of NumPy arrays as an operation of a graph."""

    def call(images: tf.Tensor) -> tf.Tensor:
        found = tf.numpy_function(lambda arrays: np.asarray(function(arrays), outputs.dtype), [images], outputs.dtype)
        return tf.ensure_shape(found, (images.shape[0], *outputs.shape[1:]))

    return call


def _in_a_column(raw: Raw) -> Raw:
    return lambda images: tf.reshape(raw(images), [-1, 1])


def _before_end(outputs: Any) -> tuple[str | None, tf.Tensor]:
    """The kind of a softmax or sigmoid that is last in a graph, and what goes into it; None, and the outputs."""
    operation = outputs.op
    while operation.type in _TRANSPARENT:
        operation = operation.inputs[0].op
    kind = _ENDS.get(operation.type)
    before = operation.inputs[0] if kind else outputs
    if kind is None or before.shape.rank != 2 or before.shape[1] != outputs.shape[1]:
        return None, outputs
    return kind, before


def _kind_of(outputs: np.ndarray) -> str:
    if not np.all((outputs >= 0) & (outputs <= 1)):
        return LOGITS
    one_of_several = outputs.shape[1] > 1 and np.allclose(outputs.sum(axis=1), 1, atol=1e-3)
    return PROBABILITIES if one_of_several else SIGMOIDS
