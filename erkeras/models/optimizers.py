"""The optimizers of a model that has several, where Keras looks after one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras

from erkeras.errors import InputError


def ready_optimizers(model: keras.Model, scale: bool = True, **given: Any) -> list[keras.optimizers.Optimizer]:
    """Makes optimizers of what `compile` was given, as `keras.optimizers.get` does, in that order.

    Each scales its own loss where a layer of the model computes in mixed_float16. Keras does so for the optimizer of
    `compile` alone, and asks the model's own policy alone.

    Args:
        scale: `auto_scale_loss` of `compile`.
        **given: by the names of their arguments.

    Raises:
        InputError: for one optimizer in two places.
    """
    optimizers = {name: keras.optimizers.get(optimizer) for name, optimizer in given.items()}
    places: dict[int, str] = {}
    for name, optimizer in optimizers.items():
        first = places.setdefault(id(_unscaled(optimizer)), name)
        if first != name:
            raise InputError(f"compile was given the same optimizer as {first} and as {name}: give each a new one.")
    if scale and any(layer.dtype_policy.name == "mixed_float16" for layer in model._flatten_layers()):
        return [_scaled(optimizer) for optimizer in optimizers.values()]
    return list(optimizers.values())


def build_for(optimizer: keras.optimizers.Optimizer, variables: Sequence[keras.Variable]) -> None:
    """Builds an optimizer on variables now, so that saved states find their place before the first step.

    Raises:
        InputError: for one that was built on others before.
    """
    known = {id(variable) for variable in getattr(_unscaled(optimizer), "_trainable_variables", [])}
    if _unscaled(optimizer).built and not known.issuperset(map(id, variables)):
        raise InputError(
            f"the optimizer {optimizer.name!r} was used for other variables before: give a new optimizer to compile."
        )
    if not optimizer.built:
        optimizer.build(variables)


def batches_seen(optimizer: keras.optimizers.Optimizer) -> Any:
    """Counts the batches that an optimizer was given, an int scalar.

    Where it accumulates gradients, `iterations` counts its updates instead, and stands still in between. A batch that
    `LossScaleOptimizer` skips, because its gradients overflow, is not counted: the next one takes its number.
    """
    return _unscaled(optimizer)._iterations


def _unscaled(optimizer: Any) -> Any:
    return getattr(optimizer, "inner_optimizer", optimizer)


def _scaled(optimizer: Any) -> Any:
    scales = isinstance(optimizer, keras.mixed_precision.LossScaleOptimizer)
    return optimizer if scales else keras.mixed_precision.LossScaleOptimizer(optimizer)
