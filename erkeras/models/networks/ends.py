"""What every encoder and classifier here has at its ends."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import keras


def encoder_of(image_shape: Sequence[int], hidden: Iterable[keras.layers.Layer], code_size: int) -> keras.Model:
    """Images in [0, 1], which it takes to [-1, 1], -> hidden layers -> codes `[n, code_size]`.

    Normalisation is inside, so that epsilon means pixels.
    """
    return keras.Sequential(
        [
            keras.Input(tuple(image_shape)),
            keras.layers.Rescaling(2.0, offset=-1.0),
            *hidden,
            keras.layers.Dense(code_size, name="code", dtype=_dtype()),
        ],
        name="encoder",
    )


def classifier_of(code_size: int, hidden: Iterable[keras.layers.Layer], classes: int) -> keras.Model:
    """Codes `[n, code_size]` -> hidden layers -> logits `[n, classes]`."""
    logits = keras.layers.Dense(classes, name="logits", dtype=_dtype())
    return keras.Sequential([keras.Input((code_size,)), *hidden, logits], name="classifier")


def _dtype() -> str:
    """That of variables: what is compared with others, codes and logits, is not rounded to half a number's digits."""
    return str(keras.config.dtype_policy().variable_dtype)
