"""Checks the encoder and the classifier of an `ERClassifier`."""

from __future__ import annotations

import contextlib

import keras
import tensorflow as tf
from keras.layers import Flatten

from erkeras.errors import InputError


def check_networks(encoder: keras.Model, classifier: keras.Model) -> None:
    """Checks that encoder and classifier are built and end in logits; raises InputError where not."""
    for name, network in (("encoder", encoder), ("classifier", classifier)):
        if not network.built:
            raise InputError(f"the {name} is not built: give it an Input, or call it once on a batch.")
    check_axes("encoder", encoder)
    last = classifier.layers[-1] if classifier.layers else None
    if isinstance(last, keras.layers.Softmax) or (getattr(last, "activation", None) is keras.activations.softmax):
        raise InputError("the classifier ends in a softmax: let it end in logits, which the losses take.")


def image_shape(network: keras.Model) -> tuple[int | None, ...] | None:
    """Finds (height, width, channels) that a network was built for; None for one that does not know."""
    shape = getattr(network, "input_shape", None) or (network.get_build_config() or {}).get("input_shape")
    flat = isinstance(shape, (tuple, list)) and all(side is None or isinstance(side, int) for side in shape)
    return tuple(shape[1:]) if shape and flat else None


def code_size(encoder: keras.Model, classifier: keras.Model) -> int:
    """Finds k of the paper: from whichever network knows its shapes, or by calling subclassed ones on one image.

    Raises:
        InputError: where neither tells, or encoder and classifier do not fit.
    """
    shapes = getattr(encoder, "output_shape", None), getattr(classifier, "input_shape", None)
    sizes = [shape[-1] for shape in shapes if shape] or [_size_of_one_code(encoder, classifier)]
    if len(set(sizes)) > 1:
        raise InputError(
            f"the encoder gives codes of size {sizes[0]} and the classifier takes {sizes[1]}: make them fit."
        )
    return sizes[0]


def check_axes(name: str, network: keras.Model) -> None:
    """Checks that no layer takes an image's rows for its channels; raises InputError where one does.

    A layer of data format channels_first is right behind a `Permute` alone. So the first of them must be given as many
    channels as an image has. `Flatten` only orders pixels otherwise, and is right anyhow.
    """
    shape = image_shape(network)
    for layer in network._flatten_layers():
        given = _given_shape(layer)
        if getattr(layer, "data_format", None) != "channels_first" or not given or isinstance(layer, Flatten):
            continue
        if shape and given[1] != shape[-1]:
            raise InputError(
                f"the {name}'s layer {layer.name!r} has the data format channels_first, and images are [n, height, "
                'width, channels]: build it with data_format="channels_last".'
            )
        return


def _size_of_one_code(encoder: keras.Model, classifier: keras.Model) -> int:
    shape, codes_shape = image_shape(encoder), image_shape(classifier)
    if shape is None or None in shape:
        if codes_shape and codes_shape[-1]:  # of a classifier that was called
            return codes_shape[-1]
        raise InputError(
            "the size of the codes is unknown: give a Sequential or Functional encoder or classifier, or call your own "
            "encoder, which must not set `built` itself, once on a batch of images."
        )
    codes = encoder(tf.zeros([1, *shape]), training=False)
    try:
        if len(codes.shape) == 2:
            classifier(codes, training=False)
            return int(codes.shape[-1])
    except (ValueError, tf.errors.InvalidArgumentError):
        pass
    raise InputError(
        f"the encoder gives codes of shape {tuple(codes.shape)} for one image: let it give [n, code_size], and a "
        "classifier that takes them."
    )


def _given_shape(layer: keras.layers.Layer) -> tuple | None:
    shape = (layer.get_build_config() or {}).get("input_shape")
    if shape is None:  # layers without variables keep none where an Input shapes the network
        with contextlib.suppress(AttributeError, ValueError):
            shape = layer.input.shape
    return shape
