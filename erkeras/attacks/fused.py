"""Many small operations as one kernel."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf


def fused(function: Callable) -> Any:
    """A function of tensors, compiled by XLA where that saves time: on a CPU, whose operations each walk the memory.

    A GPU is fast enough without, and XLA would ask for a part of CUDA that many installations lack.
    """
    return tf.function(function, autograph=False, jit_compile=not tf.config.list_physical_devices("GPU"))
