"""Networks of the user's own: what a function of a module makes, or a trained classifier in a file."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from erkeras import models, saved
from erkeras.data import Split
from erkeras.errors import InputError
from erkeras.memory import is_out_of_memory
from erkeras.models import networks
from erkeras.recipes import Recipe, network_kind

#: What training knows, and a function may ask for.
_KNOWN = ("image_shape", "classes", "code_size")
_ALLOWED = "give MODULE:FUNCTION, a function of a module in this folder that makes a network."


def import_own(path: str, what: str, allowed: str) -> Any:
    """Imports what MODULE:NAME names in a module of the user's own.

    Args:
        path: MODULE:NAME.
        what: what it is called in an error.
        allowed: what else there is to do, in an error.

    Raises:
        InputError: where the module cannot be imported, or has no such name.
    """
    module, _, name = path.partition(":")
    try:
        return getattr(importlib.import_module(module), name)
    except Exception as error:  # a module may raise anything
        raise InputError(f"the {what} {path!r} cannot be imported ({_reason(error)}): {allowed}") from error


def own_networks(recipe: Recipe, image_shape: Sequence[int], classes: int) -> tuple[keras.Model, keras.Model]:
    """Builds encoder and classifier of a network that is no name of ours.

    A function is called with what it asks for of `image_shape`, `classes` and `code_size`. It gives an encoder, whose
    classifier is then one Dense layer; or a whole classifier, which is cut in two; or a pair of both. A model is a
    whole classifier where the recipe has a code layer, where the function asks for `classes`, or where it does not
    ask for `code_size` and gives one number a class.

    All weights of a file are trained, those of its frozen layers too.

    Args:
        image_shape: (height, width, channels).
        classes: number of classes.

    Raises:
        InputError: for a function or a file that does not give a network for such images and classes.
    """
    name = recipe.network
    if network_kind(name) == "file":
        encoder, classifier = _of_file(recipe)
    else:
        encoder, classifier = _of_function(recipe, image_shape, classes)
    takes = networks.image_shape(encoder)
    if takes and len(takes) == 3 and any(size not in (None, own) for size, own in zip(takes, image_shape, strict=True)):
        raise InputError(
            f"the network {name!r} takes images of {_size(takes)} and the data set has images of {_size(image_shape)}: "
            "give another network, or images of its size."
        )
    given = (getattr(classifier, "output_shape", None) or (classes,))[-1]
    if given != classes:
        raise InputError(
            f"the network {name!r} gives {given} classes and the data set has {classes}: give a network with as many."
        )
    if not encoder.trainable_weights:
        raise InputError(f"the network {name!r} has no weights that train before its code: set trainable to True.")
    return encoder, classifier


def check_code_size(recipe: Recipe) -> None:
    """Raises InputError where a recipe's function does not ask for the code size, which then has no effect."""
    if network_kind(recipe.network) == "function" and "code_size" not in _asked(_function(recipe.network), recipe):
        raise InputError(
            f"code size was given, and has no effect: the network {recipe.network!r} does not ask for the argument "
            "code_size."
        )


def warnings_of_start(recipe: Recipe, model: Any, validation: Split) -> tuple[str, ...]:
    """Looks at a model that starts from a file, before it is trained.

    Returns:
        A sentence where it is right on few validation images, as one is that takes other pixels than [0, 1].
    """
    if network_kind(recipe.network) != "file" or not len(validation):
        return ()
    logits = model.predict(validation.images, batch_size=250, verbose=0)
    accuracy = float(np.mean(logits.argmax(axis=1) == validation.labels))
    if accuracy >= 2 / logits.shape[1]:
        return ()
    return (
        f"{recipe.network} was right on {accuracy:.1%} of the validation images before training: where it takes pixels "
        "of 0 to 255, put keras.layers.Rescaling(255.0) in front of it, and train again.",
    )


def _of_file(recipe: Recipe) -> tuple[keras.Model, keras.Model]:
    if recipe.regularizer == "gaussian-kl" and recipe.coefficient:
        raise InputError(
            f"the regularizer gaussian-kl makes a new code, and {recipe.network} has a trained one: give another "
            "regularizer or defense."
        )
    kind, path, _ = saved.find_model(Path(recipe.network))
    model = saved.load_model(kind, path)
    if isinstance(model, models.ERClassifier):
        if recipe.code_layer:
            raise InputError(f"a code layer was given, and {path} is an ERClassifier, which has a code: leave it out.")
        halves = model.encoder, model.classifier
    else:
        halves = _cut(recipe, model)
    for half in halves:
        # One by one: of a model that trains, TensorFlow passes True on to nothing.
        for layer in half._flatten_layers():
            layer.trainable = True
    return halves


def _of_function(recipe: Recipe, image_shape: Sequence[int], classes: int) -> tuple[Any, Any]:
    function, name = _function(recipe.network), recipe.network
    asked = _asked(function, recipe)
    known = {"image_shape": tuple(image_shape), "classes": classes, "code_size": recipe.code_size}
    try:
        found = function(**{argument: known[argument] for argument in asked})
    except Exception as error:  # a function of the user's own may raise anything
        if is_out_of_memory(error):
            raise
        raise InputError(f"the network {name!r} cannot be made ({_reason(error)}): correct the function.") from error
    given = found if isinstance(found, (tuple, list)) else [found]
    for model in given:
        if not isinstance(model, keras.Model):
            raise InputError(f"the network {name!r} gives a {type(model).__name__}: let it return a keras.Model.")
        if not model.built:
            raise InputError(f"the network {name!r} gives a model that is not built: give the model an Input.")
    if isinstance(found, (tuple, list)):
        if len(found) != 2 or recipe.code_layer:
            more = f" and the code layer is {recipe.code_layer!r}" if recipe.code_layer else ""
            raise InputError(
                f"the network {name!r} gives {len(found)} models{more}: give a pair of encoder and classifier without "
                "a code layer, or one model."
            )
        return found[0], found[1]
    size = _output_size(found, name)
    if recipe.code_layer or "classes" in asked or ("code_size" not in asked and size == classes):
        return _cut(recipe, found)
    if "code_size" in asked and size != recipe.code_size:
        raise InputError(
            f"the network {name!r} was asked for codes of size {recipe.code_size} and gives {size}: let it end in "
            "Dense(code_size)."
        )
    return found, networks.classifier_of(size, [], classes)


def _function(network: str) -> Any:
    function = import_own(network, "network", _ALLOWED)
    if not callable(function):
        raise InputError(f"the network {network!r} is a {type(function).__name__}: {_ALLOWED}")
    return function


def _asked(function: Any, recipe: Recipe) -> list[str]:
    """The names of what a function asks for and training knows."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError) as error:
        raise InputError(f"the network {recipe.network!r} does not say which arguments it takes: {_ALLOWED}") from error
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        return list(_KNOWN)
    for parameter in parameters:
        optional = parameter.default is not parameter.empty or parameter.kind is parameter.VAR_POSITIONAL
        if not optional and (parameter.name not in _KNOWN or parameter.kind is parameter.POSITIONAL_ONLY):
            raise InputError(
                f"the network {recipe.network!r} asks for {parameter.name!r}: let it take {', '.join(_KNOWN)}, by "
                "these names, and give other arguments a default."
            )
    return [parameter.name for parameter in parameters if parameter.name in _KNOWN]


def _cut(recipe: Recipe, model: keras.Model) -> tuple[keras.Model, keras.Model]:
    try:
        return networks.cut_classifier(model, recipe.code_layer)
    except InputError as error:
        raise InputError(f"the network {recipe.network!r} cannot be cut in two: {error}") from error


def _output_size(model: keras.Model, name: str) -> int:
    shape = getattr(model, "output_shape", None)
    if not isinstance(shape, tuple) or len(shape) != 2 or not isinstance(shape[1], int):
        raise InputError(
            f"the network {name!r} gives outputs of shape {shape}: let it be a Sequential or Functional model that "
            "gives [n, code_size] or [n, classes]."
        )
    return shape[1]


def _size(shape: Sequence[int | None]) -> str:
    return " x ".join("any" if size is None else str(size) for size in shape)


def _reason(error: Exception) -> str:
    first = next(iter(str(error).strip().splitlines()), "")
    return f"{type(error).__name__}: {first[:200]}" if first else type(error).__name__
