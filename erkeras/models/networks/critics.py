"""The critic D of section 3.1."""

from __future__ import annotations

from collections.abc import Sequence

import keras

from erkeras.errors import InputError

OUTPUTS = ("linear", "log_sigmoid")


def build_critic(
    code_size: int, units: Sequence[int] = (512, 512, 512, 512), output: str = "linear", name: str = "critic"
) -> keras.Model:
    """Builds a critic of codes `[n, code_size]` -> scores `[n, 1]`: dense layers with ReLU, as in the authors' code.

    Args:
        code_size: k of the paper.
        units: width of each hidden layer.
        output: "linear" is a 1-Wasserstein critic, as the paper says; "log_sigmoid" is what the authors' code does.
    """
    if output not in OUTPUTS:
        raise InputError(f"the critic's output is {output!r}: give one of {', '.join(OUTPUTS)}.")
    layers = [keras.layers.Dense(width, activation="relu") for width in units]
    last = keras.layers.Dense(1, activation=None if output == "linear" else output)
    return keras.Sequential([keras.Input((code_size,)), *layers, last], name=name)
