"""A whole classifier, cut in two at one of its layers: encoder and classifier of an `ERClassifier`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import keras
import numpy as np

from erkeras.attacks.victim import BEFORE_SIGMOID, BEFORE_SOFTMAX, ONE_NUMBER, PROBABILITIES, SIGMOIDS, Victim
from erkeras.errors import InputError
from erkeras.models.networks.graph import Graph, Step, flat, read_graph
from erkeras.models.networks.rebuilt import Copies, run_steps

#: Layers and operations that leave the numbers of a row as they are, by the names of their classes.
_TRANSPARENT = ("Cast", "Flatten", "Identity", "Reshape", "Squeeze")
#: How far logits of the two halves may be from the model's own, relative to the largest.
_TOLERANCE, _HALF_TOLERANCE = 1e-4, 5e-2


def cut_classifier(model: keras.Model, code_layer: str | None = None) -> tuple[keras.Model, keras.Model]:
    """Cuts a classifier in two: images -> codes `[n, code_size]`, and codes -> logits `[n, classes]`.

    Both halves are copies. A softmax at the end is taken off. Nested models stay nested, and frozen layers frozen.

    Args:
        model: Sequential or Functional, from images `[n, height, width, channels]` of one size to logits or
            probabilities `[n, classes]`. Built.
        code_layer: name or path ("backbone/pool") of the layer whose output is the code. By default the last hidden
            one, or where its output has positions, the first layer behind it whose output has none.

    Raises:
        InputError: for a model that cannot be read, copied or cut, or whose logits cannot be told.
    """
    graph = _read(model)
    last = _last(graph)
    victim, images = Victim(model), _images(graph)
    logits = victim.outputs_for(images, "logits", len(images))
    if victim.single:
        raise InputError(ONE_NUMBER)
    if victim.outputs == SIGMOIDS:  # numbers in [0, 1] alone make no sigmoid
        logits = np.asarray(model(images, training=False), np.float32)
    _check_end(victim.outputs, last)
    trail = _trail(graph, _code_step(graph, code_layer, last))
    copies = Copies(last if victim.outputs == BEFORE_SOFTMAX else None)
    encoder, classifier = _split(graph, model, trail, copies, ("encoder", "classifier"))
    copies.take_weights()
    _check_halves(encoder, classifier, trail[-1])
    found = np.asarray(classifier(encoder(images, training=False), training=False), np.float32)
    _compare(logits, found, _HALF_TOLERANCE if _computes_in_half(model) else _TOLERANCE)
    return encoder, classifier


def _read(model: Any) -> Graph:
    if not isinstance(model, keras.Model):
        raise InputError(f"a {type(model).__name__} cannot be cut in two: give a Sequential or Functional keras.Model.")
    if not model.built:
        raise InputError(f"the model {model.name!r} is not built: give it an Input, or call it once on a batch.")
    graph = read_graph(model, "model", ", or make an ERClassifier of its encoder and its classifier")
    if "float" not in graph.inputs[0].dtype:
        raise InputError(f"the model takes {graph.inputs[0].dtype}: give one that takes float images in [0, 1].")
    shape = tuple(graph.inputs[0].shape[1:])
    if len(shape) != 3 or None in shape:
        raise InputError(
            f"the model takes inputs of shape {shape}: give one that takes images of one size, as "
            "keras.Input((height, width, channels)) says."
        )
    return graph


def _images(graph: Graph) -> np.ndarray:
    return np.random.RandomState(0).uniform(size=(4, *graph.inputs[0].shape[1:])).astype(np.float32)


def _last(graph: Graph) -> Step:
    """The last step that does more than to reshape."""
    steps = [step for step in graph.all_steps if not step.inside and not _is_transparent(step.operation)]
    if not steps:
        raise InputError("the model has no layers: give a classifier.")
    return steps[-1]


def _is_transparent(operation: Any) -> bool:
    if isinstance(operation, keras.layers.Activation):
        return operation.activation is keras.activations.linear
    return type(operation).__name__ in _TRANSPARENT


def _check_end(outputs: str, last: Step) -> None:
    if outputs == BEFORE_SIGMOID:
        raise InputError(
            f"the model ends in sigmoids ({last.path}), one for each label: give a classifier whose classes exclude "
            "each other, which ends in logits or a softmax."
        )
    if outputs == PROBABILITIES or (outputs == BEFORE_SOFTMAX and not Copies.can_take_off(last.operation)):
        raise InputError(
            f"the model gives probabilities, and {last.path} shows no softmax that could be taken off: give a model "
            "that ends in logits, in a layer with activation='softmax', or in keras.layers.Softmax."
        )


def _code_step(graph: Graph, code_layer: str | None, last: Step) -> Step:
    steps = graph.all_steps
    if code_layer is not None:
        step = graph.find(code_layer)
    else:
        hidden = [step for step in graph.hidden if step is not last]
        if not hidden:
            raise InputError(
                "the model has no hidden layer with a nonlinearity, whose output would be the code: name a layer by "
                "code_layer."
            )
        leaves = [step for step in steps[steps.index(hidden[-1]) :] if not step.inside]
        step = next((step for step in leaves if _is_code(step)), leaves[0])
    if not _is_code(step):
        shape = ", ".join(str(size) for size in ("n", *flat(step.outputs)[0].shape[1:]))
        allowed = ", ".join(found.path for found in steps[:-1] if _is_code(found))[-200:]
        raise InputError(
            f"the code layer {step.path!r} gives outputs of shape ({shape}): name one that gives [n, code_size]"
            f"{f', as {allowed}' if allowed else ''}."
        )
    if steps.index(step) >= steps.index(last) or _makes(graph, step):
        raise InputError(
            f"the code layer {step.path!r} gives the logits: name a layer before it, as one of the last ones "
            f"{', '.join(found.path for found in steps[-6:-1])}."
        )
    return step


def _is_code(step: Step) -> bool:
    outputs = flat(step.outputs)
    return len(outputs) == 1 and len(outputs[0].shape) == 2 and outputs[0].shape[1] is not None


def _makes(graph: Graph, step: Step) -> bool:
    """Whether a step, in its graph or in a nested one, makes the only output."""
    return len(graph.outputs) == 1 and any(
        flat(own.outputs)[0] is graph.outputs[0]
        and (own is step or (own.inside is not None and _makes(own.inside, step)))
        for own in graph.steps
    )


def _trail(graph: Graph, wanted: Step) -> list[Step]:
    """The nested models that a step is in, outermost first, and it; a nested model in the place of its own end."""
    for step in graph.steps:
        if step is wanted:
            return [step]
        if step.inside:
            inner = _trail(step.inside, wanted)
            if inner:
                return [step] if _makes(step.inside, inner[-1]) else [step, *inner]
    return []


def _split(
    graph: Graph, network: Any, trail: Sequence[Step], copies: Copies, names: tuple[str, str]
) -> tuple[keras.Model, keras.Model]:
    """Copies of what is before the end of a trail, with it, and of what is behind."""
    step, *deeper = trail
    before = _ancestors(graph, step)
    behind = list(_behind(graph, step, before))
    inner = (
        _split(step.inside, step.operation, deeper, copies, (step.operation.name,) * 2)
        if step.inside and deeper
        else None
    )
    code = flat(trail[-1].outputs)[0]
    if isinstance(network, keras.Sequential):
        first = [copies.of(own) for own in before] + [inner[0] if inner else copies.of(step)]
        second = ([inner[1]] if inner else []) + [copies.of(own) for own in behind]
        return (
            keras.Sequential([_input(graph.inputs[0]), *first], name=names[0]),
            keras.Sequential([_input(code), *second], name=names[1]),
        )
    inputs, codes = [_input(tensor) for tensor in graph.inputs], _input(code)
    values = run_steps(before, graph.inputs, inputs, copies)
    given = copies.filled(step, values)
    made = inner[0](*given[0], **given[1]) if inner else copies.of(step)(*given[0], **given[1])
    # Of the call, what says whether it is in training.
    mode = {name: value for name, value in step.kwargs.items() if name == "training"}
    ends = flat(inner[1](codes, **mode)) if inner else [codes]
    values = run_steps(behind, flat(step.outputs), ends, copies)
    outputs = [values[id(tensor)] for tensor in graph.outputs]
    return (
        keras.Model(_one_or_all(inputs), made, name=names[0]),
        keras.Model(codes, _one_or_all(outputs), name=names[1]),
    )


def _input(tensor: Any) -> Any:
    return keras.Input(tensor.shape[1:], dtype=tensor.dtype)


def _one_or_all(tensors: list[Any]) -> Any:
    return tensors[0] if len(tensors) == 1 else tensors


def _ancestors(graph: Graph, step: Step) -> list[Step]:
    """The steps that one step needs, in the order of their running."""
    wanted = {id(tensor) for tensor in _taken(step)}
    found = []
    for own in reversed(graph.steps[: list(graph.steps).index(step)]):
        if any(id(tensor) in wanted for tensor in flat(own.outputs)):
            found.append(own)
            wanted |= {id(tensor) for tensor in _taken(own)}
    return found[::-1]


def _behind(graph: Graph, step: Step, before: Sequence[Step]) -> Iterator[Step]:
    """The steps that stand on what a step gives alone; raises InputError where one takes something else."""
    made = {id(tensor): own.path for own in before for tensor in flat(own.outputs)}
    made |= {id(tensor): "the images" for tensor in graph.inputs}
    for own in graph.steps:
        if own is step or own in before:
            continue
        past = next((made[id(tensor)] for tensor in _taken(own) if id(tensor) in made), None)
        if past is not None:
            raise InputError(
                f"{own.path} uses the output of {past}, which bypasses the code layer {step.path}: name a code layer "
                "that no connection bypasses."
            )
        yield own


def _taken(step: Step) -> list[Any]:
    return [part for part in flat((step.args, step.kwargs)) if isinstance(part, keras.KerasTensor)]


def _check_halves(encoder: keras.Model, classifier: keras.Model, code: Step) -> None:
    if not classifier.weights:
        raise InputError(f"behind the code layer {code.path!r} the model has no weights: name a layer before it.")
    first = {id(weight) for weight in encoder.weights}
    shared = next((weight.path for weight in classifier.weights if id(weight) in first), None)
    if shared is not None:
        raise InputError(
            f"the model uses the weights {shared} before and behind the code layer {code.path!r}: name another code "
            "layer, or a layer of its own for each."
        )


def _computes_in_half(model: keras.Model) -> bool:
    return any(layer.compute_dtype in ("float16", "bfloat16") for layer in model._flatten_layers())


def _compare(expected: np.ndarray, found: np.ndarray, tolerance: float) -> None:
    difference = np.abs(found - expected).max() if found.shape == expected.shape else np.inf
    if difference <= tolerance * max(1.0, np.abs(expected).max()):
        return
    raise InputError(
        f"a copy of the model gives other logits than the model, by {difference:.3g}: let the get_config, and the "
        "weights, of its own layers hold all that they compute with."
    )
