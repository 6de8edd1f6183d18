"""Copies of layers and of nested models, called as the originals were."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras

from erkeras.errors import InputError
from erkeras.models.networks.graph import Step, flat


class Copies:
    """Holds a copy of every layer that was asked for: one each, as often as it is called.

    Args:
        softmax: the step whose softmax its copy leaves out; None for none.
    """

    def __init__(self, softmax: Step | None) -> None:
        self._softmax = softmax.operation if softmax else None
        self._known: dict[int, tuple[Any, Any]] = {}  # by the id of the original, which stays alive
        self._layers: list[tuple[Any, Any]] = []

    @staticmethod
    def can_take_off(operation: Any) -> bool:
        """Tells whether an operation that gives a softmax shows it."""
        return hasattr(operation, "activation") or type(operation).__name__ == "Softmax"

    def of(self, step: Step) -> Callable[..., Any]:
        """Gives the copy of a step's layer or nested model; an operation of `keras.ops` holds nothing to copy."""
        operation = step.operation
        if not isinstance(operation, keras.layers.Layer):
            return _unchanged if operation is self._softmax else operation
        if id(operation) not in self._known:
            copied = self._network(step) if step.inside else self._layer(operation)
            self._known[id(operation)] = operation, copied
            if not step.inside:
                self._layers.append((operation, copied))
        return self._known[id(operation)][1]

    def filled(self, step: Step, values: dict[int, Any]) -> tuple[Any, Any]:
        """Gives the arguments of a step's call, with values for the symbolic tensors."""
        return keras.tree.map_structure(
            lambda part: values[id(part)] if isinstance(part, keras.KerasTensor) else part, (step.args, step.kwargs)
        )

    def take_weights(self) -> None:
        """Gives all copies the weights of their originals, as Keras writes and reads them."""
        for original, copied in self._layers:
            pairs = list(original._flatten_layers()), list(copied._flatten_layers())
            try:
                for own, other in zip(*pairs, strict=True):
                    store: dict[str, Any] = {}
                    own.save_own_variables(store)
                    if store:
                        other.load_own_variables(store)
            except Exception as error:  # of a layer of the user's own
                raise _refusal(original, error) from error

    def _layer(self, layer: keras.layers.Layer) -> keras.layers.Layer:
        try:
            config = layer.get_config()
            if layer is self._softmax:
                if isinstance(layer, keras.layers.Softmax):
                    return keras.layers.Identity(name=layer.name, dtype=config["dtype"])
                config["activation"] = "linear"
            return type(layer).from_config(config)
        except Exception as error:  # whatever a layer of the user's own, or Keras' safe mode, makes of it
            raise _refusal(layer, error) from error

    def _network(self, step: Step) -> keras.Model:
        graph, network = step.inside, step.operation
        assert graph is not None
        inputs = [keras.Input(tensor.shape[1:], dtype=tensor.dtype) for tensor in graph.inputs]
        if isinstance(network, keras.Sequential):
            copied = keras.Sequential([inputs[0], *(self.of(own) for own in graph.steps)], name=network.name)
        else:
            values = run_steps(graph.steps, graph.inputs, inputs, self)
            outputs = [values[id(tensor)] for tensor in graph.outputs]
            copied = keras.Model(
                *(part[0] if len(part) == 1 else part for part in (inputs, outputs)), name=network.name
            )
        if not network.trainable:
            copied.trainable = False
        return copied


def run_steps(steps: Sequence[Step], symbolic: Sequence[Any], given: Sequence[Any], copies: Copies) -> dict[int, Any]:
    """Calls copies of steps in their order.

    Args:
        steps: each stands on those before it, and on `symbolic`.
        symbolic: the tensors of the original that are known.
        given: what takes their place.

    Returns:
        What stands for each tensor of the original, by its id.
    """
    values = {id(tensor): value for tensor, value in zip(symbolic, given, strict=True)}
    for step in steps:
        args, kwargs = copies.filled(step, values)
        outputs = flat(copies.of(step)(*args, **kwargs))
        values |= {id(tensor): value for tensor, value in zip(flat(step.outputs), outputs, strict=True)}
    return values


def _unchanged(inputs: Any, *_: Any, **__: Any) -> Any:
    return inputs


def _refusal(layer: Any, error: Exception) -> InputError:
    if isinstance(layer, keras.layers.Lambda):
        return InputError(
            f"the layer {layer.name!r} is a Lambda of a function that no file can hold: register the function by "
            "keras.saving.register_keras_serializable, or make a class of layers of it."
        )
    reason = next(iter(str(error).strip().splitlines()), "") or type(error).__name__
    return InputError(
        f"the layer {layer.name!r} ({type(layer).__name__}) cannot be copied ({reason[:200]}): let its get_config give "
        "all arguments of its constructor."
    )
