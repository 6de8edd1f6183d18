"""Computes a detector's features: the code, the combined code Z' of section 3.3, the last hidden layer, or all."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import keras
import tensorflow as tf

from erkeras.errors import InputError
from erkeras.models.networks.graph import Graph, Step, read_graph
from erkeras.models.precision import at_least_float32

#: ER1 looks at the encoder's output alone, ER2 at the combined code.
FEATURES = ("code", "combined")

#: What leaves the distances between images as they were, up to a factor.
_PASSIVE = (
    keras.layers.InputLayer,
    keras.layers.Flatten,
    keras.layers.Reshape,
    keras.layers.Rescaling,
    keras.layers.Dropout,
    keras.layers.SpatialDropout1D,
    keras.layers.SpatialDropout2D,
    keras.layers.SpatialDropout3D,
    keras.layers.GaussianDropout,
    keras.layers.GaussianNoise,
    keras.layers.AlphaDropout,
    keras.layers.ActivityRegularization,
    keras.layers.Identity,
    keras.layers.Permute,
    keras.layers.ZeroPadding2D,
)
#: The same of the operations that are no layers, by the names of their classes.
_PASSIVE_OPERATIONS = ("Cast", "ExpandDims", "Identity", "Reshape", "Squeeze", "StopGradient", "Transpose")


def check_features(features: str) -> None:
    """Raises InputError for an unknown kind of features."""
    if features not in FEATURES:
        raise InputError(f"the detector's features are {features!r}: give one of {', '.join(FEATURES)}.")


def feature_function(encoder: keras.Model, features: str) -> Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor]]:
    """Computes images -> (codes `[n, code_size]`, features `[n, size]`), in inference mode and in one pass.

    Raises:
        InputError: for an unknown kind of features, or an encoder whose layers cannot be read.
    """
    check_features(features)
    if features == "code":

        def code(images: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            codes = encoder(images, training=False)
            return codes, codes

        return code
    return combined_code(encoder)


def combined_code(encoder: keras.Model) -> Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor]]:
    """Computes images -> (codes, combined codes): every hidden layer's output averaged over positions, then the code.

    A hidden layer's output is what its nonlinearity gives, in nested models and blocks too. The average over height
    and width leaves one number for each channel.

    Raises:
        InputError: for an encoder that is not Sequential or Functional, or has no hidden layer.
    """
    graph = read_graph(encoder, "encoder", ", or use the features 'code'")
    if not graph.hidden:
        raise InputError("the encoder has no hidden layer with a nonlinearity: use the features 'code'.")
    run = graph.runner(graph.hidden)

    def combined(images: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        codes, outputs = run(images)
        return codes, joined_means([*outputs, codes])

    return combined


def last_hidden_layer(
    encoder: keras.Model, classifier: keras.Model
) -> Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor]]:
    """Computes images -> (codes, output of the last nonlinearity before the logits, averaged over positions).

    Raises:
        InputError: for networks that are not Sequential or Functional, or without a hidden layer.
    """
    graph = read_graph(classifier, "classifier")
    if graph.hidden:
        of_classifier = graph.runner(graph.hidden[-1:])

        def in_classifier(images: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            codes = encoder(images, training=False)
            return codes, mean_over_positions(of_classifier(codes)[1][0])

        return in_classifier
    graph = read_graph(encoder, "encoder")
    hidden = [step for step in graph.all_steps if step.hidden]
    if not hidden:
        raise InputError("the network has no hidden layer with a nonlinearity: KD-Detection looks at the last one.")
    of_encoder = graph.runner(hidden[-1:])

    def in_encoder(images: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        codes, (features,) = of_encoder(images)
        return codes, mean_over_positions(features)

    return in_encoder


def all_layers(
    encoder: keras.Model, classifier: keras.Model
) -> Callable[[tf.Tensor], tuple[tf.Tensor, list[tf.Tensor]]]:
    """Computes images -> (codes, outputs `[n, size]` of every layer that computes, images first, softmax last).

    Raises:
        InputError: for networks that are not Sequential or Functional.
    """
    parts = []
    for name, network in (("encoder", encoder), ("classifier", classifier)):
        graph = read_graph(network, name)
        parts.append(graph.runner(computed(graph)))

    def layers(images: tf.Tensor) -> tuple[tf.Tensor, list[tf.Tensor]]:
        codes, encoded = parts[0](images)
        logits, classified = parts[1](codes)
        return codes, layer_rows(images, [*encoded, *classified], logits)

    return layers


def computed(graph: Graph) -> list[Step]:
    """Gives the steps of every operation that computes."""
    return [
        step
        for step in graph.all_steps
        if not step.inside
        and not isinstance(step.operation, _PASSIVE)
        and (isinstance(step.operation, keras.layers.Layer) or type(step.operation).__name__ not in _PASSIVE_OPERATIONS)
    ]


def layer_rows(images: tf.Tensor, outputs: Sequence[tf.Tensor], logits: tf.Tensor) -> list[tf.Tensor]:
    """Makes rows `[n, size]` of the images, the outputs of layers and the softmax of the logits.

    The softmax is float64: in float32 a confident network's are all the same.
    """
    softmax = tf.nn.softmax(tf.cast(logits, tf.float64))
    # A size of its own for each, so that an empty batch has one too.
    found = [images, *outputs, softmax]
    return [tf.reshape(output, [tf.shape(output)[0], math.prod(output.shape[1:])]) for output in found]


def joined_means(outputs: Sequence[tf.Tensor]) -> tf.Tensor:
    """Joins the means over positions, `[n, size]`, of outputs `[n, ..., channels]`."""
    return tf.concat([mean_over_positions(output) for output in outputs], axis=1)


def mean_over_positions(output: tf.Tensor) -> tf.Tensor:
    """Averages `[n, ..., channels]` to `[n, channels]`; what is half a float becomes float32."""
    output = at_least_float32(output)
    return tf.reduce_mean(output, axis=list(range(1, output.shape.rank - 1)))
