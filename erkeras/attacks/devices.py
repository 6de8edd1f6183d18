"""Chooses for each device how attacks' loops are compiled, and how many images a model sees at once."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from erkeras.attacks.contract import INTERNAL_BATCH
from erkeras.attacks.streams import has_gpu
from erkeras.attacks.victim import UNKNOWN, Victim

#: The internal batch on a GPU, where it fits: a residual network of 32 x 32 images keeps the largest busy with it.
GPU_BATCH = 256
#: What an operation raises that XLA cannot compile, or XLA itself where a part of CUDA is missing.
_NOT_COMPILED = (
    tf.errors.InvalidArgumentError,
    tf.errors.UnimplementedError,
    tf.errors.NotFoundError,
    tf.errors.InternalError,
    tf.errors.FailedPreconditionError,
)


def fitting_batch(victim: Victim, images: np.ndarray) -> int:
    """Tells how many images a model sees at once, where nobody has said so.

    On a CPU, and for a model outside TensorFlow, 128. On a GPU 256, or the largest of its halves with which a forward
    and a backward pass over twice as many images fit into the device's memory: what an attack knows beside the pass
    then fits too. The passes are made once for a victim and a size of images.

    Args:
        victim: the model.
        images: float32 `[n, height, width, channels]`, at least one.

    Raises:
        InputError: as `Victim.outputs_for`.
    """
    if not has_gpu():
        return INTERNAL_BATCH
    if victim.outputs == UNKNOWN:
        victim.outputs_for(images[:1])
    if not victim.has_gradients:
        return INTERNAL_BATCH
    shape = images.shape[1:]
    if shape not in victim.fitting:
        victim.fitting[shape] = largest_batch(victim, images[:1])
    return victim.fitting[shape]


def largest_batch(victim: Victim, image: np.ndarray) -> int:
    """Gives 256, or the largest of its halves of which twice as many images fit; see `fitting_batch`."""

    def one_pass(images: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(images)
            outputs = victim.logits(images)
        return tape.gradient(outputs, images, unconnected_gradients=tf.UnconnectedGradients.ZERO)

    size = GPU_BATCH
    while size > 1:
        try:
            tf.function(one_pass, autograph=False)(tf.constant(np.repeat(image, 2 * size, axis=0))).numpy()
        except tf.errors.ResourceExhaustedError:
            size //= 2
        else:
            break
    return size


class WholeLoop:
    """Compiles a function of tensors by XLA. Where XLA fails, TensorFlow runs it operation by operation.

    Args:
        function: of nested tensors, to nested tensors.
        by_xla: False for operation by operation from the start.
    """

    def __init__(self, function: Callable[..., Any], by_xla: bool) -> None:
        self._plain = tf.function(function, autograph=False)
        self._compiled = tf.function(function, autograph=False, jit_compile=True) if by_xla else None
        self._works = False

    def __call__(self, *arguments: Any) -> Any:
        if self._compiled is None:
            return self._plain(*arguments)
        try:
            result = self._compiled(*arguments)
        except _NOT_COMPILED as error:
            if self._works:
                raise
            self._compiled = None
            reason = str(error).strip().splitlines() or [type(error).__name__]
            warnings.warn(
                f"XLA does not compile the attack on this model ({reason[0][:200]}): it runs operation by operation, "
                "which is slower.",
                RuntimeWarning,
                stacklevel=2,
            )
            return self._plain(*arguments)
        self._works = True
        return result
