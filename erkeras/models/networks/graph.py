"""A network as the operations that it is made of, those inside nested models and blocks among them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from erkeras.errors import InputError

_NONLINEARITIES = (keras.layers.ReLU, keras.layers.LeakyReLU, keras.layers.PReLU, keras.layers.ELU)


@dataclass(frozen=True, eq=False)
class Step:
    """Describes one call of one operation of a network.

    Attributes:
        path: the names of the nested models that it is in, and its own, with "/" between them.
        operation: a layer, an operation of `keras.ops`, or a nested model.
        args, kwargs: of the call, with symbolic tensors.
        outputs: symbolic.
        hidden: whether it gives what a nonlinearity gives.
        inside: what a nested model is made of; None for what is none.
    """

    path: str
    operation: Any
    args: Any
    kwargs: Any
    outputs: Any
    hidden: bool
    inside: Graph | None

    @property
    def leaf(self) -> Step:
        """Gives the step itself, or the one inside that makes its output."""
        return self.inside.end if self.inside and self.inside.end else self


@dataclass(frozen=True, eq=False)
class Graph:
    """Holds what `read_graph` finds: symbolic inputs and outputs, and the steps in the order of their running.

    A nested model is one step here, and a graph of its own: its layers' names may be those of another one's.
    """

    inputs: Sequence[Any]
    steps: Sequence[Step]
    outputs: Sequence[Any]

    @property
    def all_steps(self) -> list[Step]:
        """Gives all steps, those of a nested model before itself."""
        found = []
        for step in self.steps:
            found += [*step.inside.all_steps, step] if step.inside else [step]
        return found

    @property
    def end(self) -> Step | None:
        """Gives the step that makes the (first) output."""
        ends = [step for step in self.steps if any(part is self.outputs[0] for part in flat(step.outputs))]
        return ends[-1].leaf if ends else None

    @property
    def hidden(self) -> list[Step]:
        """Gives the nonlinearities, but for one that makes the output."""
        return [step for step in self.all_steps if step.hidden and step is not self.end]

    def find(self, path: str) -> Step:
        """Finds the step of a layer by its name, or by its path where it is in a nested model.

        Args:
            path: "name", "block/name" or "block.name"; any end of the whole path that says which.

        Raises:
            InputError: where there is no such layer, or more than one.
        """
        wanted = path.replace(".", "/")
        steps = {step.path.replace(".", "/"): step for step in self.all_steps}  # of one that is called twice the last
        found = (
            [steps[wanted]] if wanted in steps else [steps[known] for known in steps if known.endswith(f"/{wanted}")]
        )
        if len(found) != 1:
            some = ", ".join(step.path for step in found or self.all_steps[-12:])
            state = f"{len(found)} layers" if found else "no layer"
            raise InputError(f"the model has {state} {path!r}: give the path of one, as of the last ones {some}.")
        return found[0]

    def runner(self, wanted: Sequence[Step]) -> Callable[[tf.Tensor], tuple[tf.Tensor, list[tf.Tensor]]]:
        """Makes the function of images to the output and to what the wanted steps give, in inference mode."""
        inside = _Runner(self, wanted, name="inside", dtype="float32", autocast=False)

        def run(images: tf.Tensor) -> tuple[tf.Tensor, list[tf.Tensor]]:
            output, *found = inside(images, training=False)
            return output, found

        return run


class _Runner(keras.layers.Layer):
    """Runs a graph's steps; a layer, so that those inside know that this is no training."""

    def __init__(self, graph: Graph, wanted: Sequence[Step], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._run = lambda images: _run(graph, [images], wanted)
        self.built = True

    def call(self, images: tf.Tensor, training: bool | None = None) -> list[tf.Tensor]:
        return self._run(images)


def _run(graph: Graph, images: Sequence[tf.Tensor], wanted: Sequence[Step]) -> list[tf.Tensor]:
    found: dict[Step, tf.Tensor] = {}

    def run(graph: Graph, inputs: Sequence[tf.Tensor]) -> list[tf.Tensor]:
        values = {id(symbolic): value for symbolic, value in zip(graph.inputs, inputs, strict=True)}

        def fill(part: Any) -> Any:
            return values[id(part)] if isinstance(part, keras.KerasTensor) else part

        for step in graph.steps:
            args, kwargs = keras.tree.map_structure(fill, (step.args, step.kwargs))
            outputs = run(step.inside, flat(args[0])) if step.inside else flat(step.operation(*args, **kwargs))
            values |= {id(symbolic): value for symbolic, value in zip(flat(step.outputs), outputs, strict=True)}
            found[step] = outputs[0]
        return [values[id(symbolic)] for symbolic in graph.outputs]

    (output,) = run(graph, images)
    return [output, *(found[step] for step in wanted)]


def is_readable(network: Any) -> bool:
    """Tells whether a network shows the operations that it is made of: a Sequential or a Functional one."""
    return isinstance(network, (keras.Sequential, keras.Function))  # the public base of Functional


def read_graph(network: keras.Model, name: str, otherwise: str = "") -> Graph:
    """Reads a network, with all nested Sequential and Functional models taken apart.

    Args:
        network: of one input and one output.
        name: what it is called in an error.
        otherwise: what else there is to do, in an error.

    Raises:
        InputError: for a network that is not Sequential or Functional, or has several inputs or outputs.
    """
    if not is_readable(network):
        raise InputError(
            f"the {name} is a {type(network).__name__}, whose hidden layers cannot be read: give a Sequential or "
            f"Functional one{otherwise}."
        )
    if len(network.inputs) != 1 or len(network.outputs) != 1:
        raise InputError(
            f"the {name} has {len(network.inputs)} inputs and {len(network.outputs)} outputs: give one that takes "
            "images alone and gives one output."
        )
    return _read(network, "")


def _read(network: Any, prefix: str) -> Graph:
    """Calls a network's operations anew and notes each: `layer.output` may belong to another network that has it."""
    steps: list[Step] = []

    def call(operation: Any, *args: Any, **kwargs: Any) -> Any:
        path = f"{prefix}{operation.name}"
        # What is called with training=True stays whole, so that it draws what it drew.
        nested = is_readable(operation) and not kwargs.get("training")
        inside = _read(operation, f"{path}/") if nested else None
        hidden = not nested and _is_hidden(operation, args, kwargs)
        outputs = operation(*args, **kwargs)
        steps.append(Step(path, operation, args, kwargs, outputs, hidden, inside))
        return outputs

    if isinstance(network, keras.Sequential):
        inputs = outputs = keras.Input(network.inputs[0].shape[1:], dtype=network.inputs[0].dtype)
        for layer in network.layers:
            outputs = call(layer, outputs)
        return Graph([inputs], steps, flat(outputs))
    # A plain model of the same graph: a clone of a compiled one would be compiled.
    graph = keras.Model(network.inputs, network.outputs)
    called = keras.models.clone_model(graph, clone_function=lambda layer: layer, call_function=call)
    return Graph(called.inputs, steps, called.outputs)


def flat(structure: Any) -> list[Any]:
    flat: list[Any] = keras.tree.flatten(structure)
    return flat


def _is_hidden(operation: Any, args: Any, kwargs: Any) -> bool:
    """Whether an operation is a nonlinearity, ends in one, or is a block of one's own that holds one."""
    if isinstance(operation, _NONLINEARITIES):
        return True
    if isinstance(operation, keras.layers.Wrapper):
        return _is_hidden(operation.layer, args, kwargs)
    if not isinstance(operation, keras.layers.Layer):
        return _bends(operation, args, kwargs, alone=True)
    if isinstance(operation, keras.layers.Lambda):
        return _bends(operation, args, kwargs, alone=True)
    if getattr(operation, "activation", None) not in (None, keras.activations.linear):
        return True
    of_keras = type(operation).__module__.split(".")[0] == "keras"
    return not of_keras and _bends(operation, args, kwargs, alone=False)


def _bends(operation: Any, args: Any, kwargs: Any, alone: bool) -> bool:
    """Tries whether a function of one tensor is not affine, f(a) + f(b) != f(a + b) + f(0).

    Args:
        operation, args, kwargs: the symbolic call.
        alone: whether it must also act on each number alone, as an activation does.
    """
    tensors = [part for part in flat((args, kwargs)) if isinstance(part, keras.KerasTensor)]
    if len(tensors) != 1:
        return False
    (symbolic,) = tensors
    shape = [2, *(8 if size is None else size for size in symbolic.shape[1:])]
    random = np.random.RandomState(0)
    first, second = (3 * random.normal(size=shape) for _ in range(2))

    def value(points: np.ndarray) -> np.ndarray:
        points = tf.cast(points, symbolic.dtype)
        given = keras.tree.map_structure(lambda part: points if part is symbolic else part, (args, kwargs))
        return np.asarray(tf.cast(operation(*given[0], **given[1]), tf.float32))

    try:
        of_first, of_second = value(first), value(second)
        difference = of_first + of_second - value(first + second) - value(0 * first)
        if alone:
            half = np.arange(first.size).reshape(shape) % 2 == 0
            mixed = value(np.where(half, first, second))
            if mixed.shape != tuple(shape) or not np.array_equal(mixed, np.where(half, of_first, of_second)):
                return False
    except Exception:  # a layer may refuse what no image of its own would be
        return False
    tolerance = 1e-3 if symbolic.dtype in ("float32", "float64") else 5e-2
    # Not a number either: a square root or a logarithm bends.
    return not np.all(np.abs(difference) <= tolerance * (1 + np.abs(of_first).max() + np.abs(of_second).max()))
