"""A classifier as detectors see it: its code, its logits and what is inside, of an ERClassifier or any Keras model."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import cached_property
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from erkeras.attacks.victim import ONE_NUMBER, Victim
from erkeras.detection.features import (
    all_layers,
    computed,
    feature_function,
    joined_means,
    last_hidden_layer,
    layer_rows,
    mean_over_positions,
)
from erkeras.errors import InputError
from erkeras.models import ERClassifier
from erkeras.models.networks.graph import is_readable, read_graph
from erkeras.models.precision import at_least_float32

#: images -> codes `[n, code_size]`, features (of a kind), logits `[n, classes]`.
Reader = Callable[[tf.Tensor], tuple[tf.Tensor, Any, tf.Tensor]]


class Network(ABC):
    """Answers what a detector asks of a classifier.

    Attributes:
        model: the classifier.
        image_shape: (height, width, channels), None for each that is not known before `settle`.
        classes: how many there are; 0 before `settle`.
    """

    def __init__(self, model: keras.Model, image_shape: Any) -> None:
        self.model = model
        self.image_shape: tuple[int | None, ...] = tuple(image_shape) if image_shape else (None, None, None)
        self.classes = 0

    @abstractmethod
    def reader(self, kind: str) -> Reader:
        """Makes the function to codes, features of a kind, and logits, in inference mode and in one pass.

        Args:
            kind: "code", "combined", "hidden" (the last hidden layer) or "layers" (the outputs of all).

        Raises:
            InputError: for a network whose layers cannot be read.
        """

    @property
    @abstractmethod
    def weights(self) -> list[Any]:
        """Gives all weights that a code, a feature or a logit depends on, in order."""

    @abstractmethod
    def _look(self, images: tf.Tensor) -> int:
        """Finds how many classes there are, of some images."""

    def check_shape(self, shape: tuple[int, ...]) -> None:
        """Raises InputError where images `[n, height, width, channels]` of another size than the model's were given."""
        fits = [takes in (None, size) for takes, size in zip(self.image_shape, shape[1:], strict=True)]
        if not all(fits):
            takes = ", ".join("any" if size is None else str(size) for size in self.image_shape)
            raise InputError(f"the images have shape {shape} and the model takes (n, {takes}): resize the images.")

    def settle(self, image_shape: tuple[int, ...]) -> None:
        """Takes images of one size for good, and looks at what the model gives for such.

        Raises:
            InputError: where the model does not take them, or gives no logits or probabilities.
        """
        self.check_shape((0, *image_shape))
        if self.image_shape == image_shape and self.classes:
            return
        self.image_shape = image_shape
        self.classes = self._look(tf.constant(np.random.RandomState(0).uniform(size=(4, *image_shape)), tf.float32))

    def embed(self, images: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Computes codes and logits of images, both float32."""
        codes, _, logits = self._embed(images)
        return at_least_float32(codes), at_least_float32(logits)

    @cached_property
    def _embed(self) -> Reader:
        return self.reader("code")

    def digest(self) -> str:
        """Computes a SHA-256 of the weights: of the dtype, shape and bytes of each, in order."""
        sha = hashlib.sha256()
        for weight in self.weights:
            array = tf.convert_to_tensor(weight).numpy()
            sha.update(f"{array.dtype.name} {array.shape}".encode())
            sha.update(array.tobytes())
        return sha.hexdigest()


class _Pair(Network):
    """An ERClassifier: the code is what its encoder gives."""

    def __init__(self, model: ERClassifier) -> None:
        super().__init__(model, (getattr(model.encoder, "input_shape", None) or (None,))[1:])

    def reader(self, kind: str) -> Reader:
        encoder, classifier = self.model.encoder, self.model.classifier
        look: Callable[[tf.Tensor], tuple[tf.Tensor, Any]]
        if kind == "hidden":
            look = last_hidden_layer(encoder, classifier)
        elif kind == "layers":
            look = all_layers(encoder, classifier)
        else:
            look = feature_function(encoder, kind)

        def read(images: tf.Tensor) -> tuple[tf.Tensor, Any, tf.Tensor]:
            codes, features = look(images)
            return codes, features, self.model.classify(images, codes)

        return read

    @property
    def weights(self) -> list[Any]:
        return [*self.model.encoder.weights, *self.model.classifier.weights]

    def _look(self, images: tf.Tensor) -> int:
        shape = getattr(self.model.classifier, "output_shape", None) or self.model(images, training=False).shape
        return int(shape[-1])


class _Whole(Network):
    """Any other Sequential or Functional model: the code is what one of its layers gives."""

    def __init__(self, model: keras.Model, code_layer: str | None) -> None:
        self._graph = read_graph(model, "model", ", or make an ERClassifier of its encoder and its classifier")
        super().__init__(model, self._graph.inputs[0].shape[1:])
        if len(self.image_shape) != 3:
            raise InputError(
                f"the model takes inputs of shape {self.image_shape}: give one that takes images, "
                "[n, height, width, channels]."
            )
        if code_layer is not None:
            self._code = self._graph.find(code_layer).leaf
        elif self._graph.hidden:
            self._code = self._graph.hidden[-1]
        else:
            raise InputError(
                "the model has no hidden layer with a nonlinearity, whose output would be the code: name a layer by "
                "code_layer."
            )
        # Takes the softmax off that outputs end in. Its "images" are the model's outputs.
        self._end = Victim(lambda outputs: outputs)

    def reader(self, kind: str) -> Reader:
        graph, code = self._graph, self._code
        wanted = [code]
        if kind == "combined":
            steps = graph.all_steps
            wanted = [step for step in graph.hidden if steps.index(step) < steps.index(code)] + wanted
            if len(wanted) == 1:
                raise InputError("the model has no hidden layer before its code: use the features 'code'.")
        if kind == "layers":
            wanted = [step for step in computed(graph) if step is not graph.end]
        run = graph.runner([code, *wanted])
        ends_in_weights = bool(getattr(graph.end and graph.end.operation, "weights", None))

        # A graph, which alone shows what is before a softmax.
        @tf.function(autograph=False, reduce_retracing=True)
        def read(images: tf.Tensor) -> tuple[tf.Tensor, Any, tf.Tensor]:
            outputs, (codes, *features) = run(images)
            logits = self._end.logits(at_least_float32(outputs))
            codes = mean_over_positions(codes)
            if kind != "layers":
                return codes, joined_means(features), logits
            last = [logits] if ends_in_weights or self._end.outputs == "logits" else []
            return codes, layer_rows(images, [*features, *last], logits), logits

        return read

    @property
    def weights(self) -> list[Any]:
        return list(self.model.weights)

    def _look(self, images: tf.Tensor) -> int:
        seen = Victim(self.model)
        classes = seen.outputs_for(images.numpy(), "logits").shape[1]
        if seen.single:
            raise InputError(ONE_NUMBER)
        self._end.outputs = seen.outputs
        return classes


def network_of(model: Any, code_layer: str | None = None) -> Network:
    """Adapts a classifier.

    Args:
        model: an ERClassifier, or a Sequential or Functional model from images to logits or probabilities.
        code_layer: name or path of the layer whose output is the code, for a model that is no ERClassifier; by
            default the last hidden one.

    Raises:
        InputError: for another model, or a layer that it does not have.
    """
    if isinstance(model, ERClassifier):
        if code_layer is not None:
            raise InputError(
                f"code_layer is {code_layer!r} and the model is an ERClassifier, whose code is what its encoder gives: "
                "leave it out, or give keras.Sequential([model.encoder, model.classifier])."
            )
        return _Pair(model)
    if not isinstance(model, keras.Model):
        raise InputError(
            f"a detector was asked for on a {type(model).__name__}: give an ERClassifier, or a Sequential or "
            "Functional keras.Model."
        )
    if not is_readable(model):
        raise InputError(
            f"the model is a {type(model).__name__}, whose layers cannot be read: give a Sequential or Functional one, "
            "or an ERClassifier of its encoder and its classifier."
        )
    return _Whole(model, code_layer)
