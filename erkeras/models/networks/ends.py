"""Builds the first and last layers that all encoders and classifiers here share."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import keras


def encoder_of(image_shape: Sequence[int], hidden: Iterable[keras.layers.Layer], code_size: int) -> keras.Model:
    """Builds an encoder of images in [0, 1], scaled to [-1, 1], -> hidden layers -> codes `[n, code_size]`.

    Normalisation is inside, so that epsilon means pixels.
    """
    rescaling, code = _ends(code_size)
    return keras.Sequential([keras.Input(tuple(image_shape)), rescaling, *hidden, code], name="encoder")


def branching_encoder_of(
    image_shape: Sequence[int], hidden: Callable[[keras.KerasTensor], keras.KerasTensor], code_size: int
) -> keras.Model:
    """Builds what `encoder_of` does, as a Functional model, around hidden layers that are no chain.

    Args:
        image_shape: (height, width, channels).
        hidden: calls the hidden layers on symbolic images in [-1, 1], and gives features `[n, size]`.
        code_size: k of the paper.
    """
    rescaling, code = _ends(code_size)
    images = keras.Input(tuple(image_shape))
    return keras.Model(images, code(hidden(rescaling(images))), name="encoder")


def classifier_of(code_size: int, hidden: Iterable[keras.layers.Layer], classes: int) -> keras.Model:
    """Builds a classifier of codes `[n, code_size]` -> hidden layers -> logits `[n, classes]`."""
    logits = keras.layers.Dense(classes, name="logits", dtype=end_dtype())
    return keras.Sequential([keras.Input((code_size,)), *hidden, logits], name="classifier")


def end_dtype() -> str:
    """Gives that of variables: codes and logits, which are compared with others, are never rounded to half numbers."""
    return str(keras.config.dtype_policy().variable_dtype)


def _ends(code_size: int) -> tuple[keras.layers.Layer, keras.layers.Layer]:
    code = keras.layers.Dense(code_size, name="code", dtype=end_dtype())
    return keras.layers.Rescaling(2.0, offset=-1.0), code
