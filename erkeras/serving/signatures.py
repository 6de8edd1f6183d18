"""Defines what each signature of our SavedModels answers, and checks answers.

No TensorFlow here: a client needs none.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from erkeras.errors import InputError

#: Signature -> its outputs, for `images`; for `encoded_images` see `bytes_twin`.
SIGNATURES = {
    "serving_default": ("probabilities", "label"),
    "detect": ("probabilities", "label", "adversarial_score", "verdict"),
    "embed": ("code",),
    "logits": ("logits",),
}
IMAGES, ENCODED_IMAGES = "images", "encoded_images"
#: The dtype of each output.
DTYPES = {
    "probabilities": "float32",
    "label": "int32",
    "adversarial_score": "float32",
    "verdict": "bool",
    "code": "float32",
    "logits": "float32",
}
#: The number of axes of each output; the first counts images.
RANKS = {"probabilities": 2, "label": 1, "adversarial_score": 1, "verdict": 1, "code": 2, "logits": 2}
#: The most pixels that an encoded image may have, as 4096 x 4096: more is refused before it is decoded.
MOST_PIXELS = 2**24
#: Kind of a dtype -> the types of its values in JSON.
_JSON_TYPES: dict[str, set[type]] = {"f": {int, float}, "i": {int}, "b": {bool}}
#: The longest name of a signature or an input that is believed.
_LONGEST_NAME = 100

#: Signature -> input -> its shape, -1 where any size is allowed.
Shapes = dict[str, dict[str, list[int]]]


class MalformedError(InputError):
    """Signals an answer that does not fit any of these signatures."""


def bytes_twin(signature: str) -> str:
    """Gives the name of the signature that takes PNG and JPEG files instead of pixels."""
    return f"{signature.removeprefix('serving_')}_bytes"


#: The outputs of each signature, twins included.
OUTPUTS = SIGNATURES | {bytes_twin(name): outputs for name, outputs in SIGNATURES.items()}


def check_answer(signature: str, outputs: Mapping[str, Any], rows: int) -> dict[str, np.ndarray]:
    """Turns what a server said into arrays: of these names, dtypes and shapes, with values that can be.

    Args:
        signature: what was asked; of a signature that is not ours any outputs are taken.
        outputs: arrays by gRPC, nested lists by REST.
        rows: how many images were sent.

    Raises:
        MalformedError: where an output is missing, has another dtype or shape, or values that it cannot have.
    """
    if signature not in OUTPUTS:
        return {name: _any_array(name, value) for name, value in outputs.items()}
    found = {}
    for name in OUTPUTS[signature]:
        if name not in outputs:
            raise MalformedError(f"{name} is missing")
        found[name] = _array(name, outputs[name], rows)
    if "label" in found:
        label, classes = found["label"], found["probabilities"].shape[1]
        if np.any((label < 0) | (label >= classes)):
            raise MalformedError(f"label is not in 0..{classes - 1}")
    return found


def check_shapes(shapes: Mapping[str, Mapping[str, list[int]]]) -> Shapes:
    """Checks the shapes of signatures' inputs, as a server describes them.

    Raises:
        MalformedError: for names that cannot be printed, and for `images` that cannot be held.
    """
    for signature, inputs in shapes.items():
        for name in (signature, *inputs):
            if not (name.isprintable() and 0 < len(name) <= _LONGEST_NAME):
                raise MalformedError("a signature has a name that cannot be")
        for shape in inputs.values():
            if any(size < -1 for size in shape):
                raise MalformedError(f"an input of {signature} has a negative size")
        image = inputs.get(IMAGES, [])[1:]
        if signature in OUTPUTS and len(image) == 3:
            height, width, channels = image
            # Here already: an attack makes an image of this shape before it asks for anything.
            if min(image) < 1 or height * width > MOST_PIXELS or height * width * channels > 4 * MOST_PIXELS:
                raise MalformedError(f"{IMAGES} of {signature} have a shape that cannot be")
    return {signature: {name: list(shape) for name, shape in inputs.items()} for signature, inputs in shapes.items()}


def _any_array(name: str, value: Any) -> np.ndarray:
    if isinstance(value, np.ndarray):
        return value
    leaves, types = [value], set[type]()
    while leaves:
        leaf = leaves.pop()
        types.add(type(leaf))
        if isinstance(leaf, list):
            leaves += leaf
    types.discard(list)
    if (len(types) > 1 and not types <= {int, float}) or types & {dict, type(None)}:
        raise MalformedError(f"{name[:_LONGEST_NAME]!r} has values of several kinds, or none")
    try:
        # Strings as objects: an array of strings takes the longest one's space for each.
        return np.asarray(value, object if str in types else None)
    except ValueError as error:
        raise MalformedError(f"{name[:_LONGEST_NAME]!r} is ragged") from error


def _array(name: str, value: Any, rows: int) -> np.ndarray:
    array = value if isinstance(value, np.ndarray) else _from_lists(name, value)
    if array.dtype != DTYPES[name]:
        raise MalformedError(f"{name} is {array.dtype} and not {DTYPES[name]}")
    if array.ndim != RANKS[name] or array.shape[0] != rows or 0 in array.shape:
        raise MalformedError(f"{name} has the shape {array.shape} for {rows} images")
    if array.dtype == np.float32 and not np.isfinite(array).all():
        raise MalformedError(f"{name} is not finite")
    if name in ("probabilities", "adversarial_score") and not np.all((array >= 0) & (array <= 1 + 1e-6)):
        raise MalformedError(f"{name} is not in [0, 1]")
    return array


def _from_lists(name: str, value: Any) -> np.ndarray:
    """An array of the output's dtype from JSON's lists. NumPy would take "false" and [null] for values."""
    dtype, rank = np.dtype(DTYPES[name]), RANKS[name]
    allowed = _JSON_TYPES[dtype.kind]
    lists = [value] if rank == 1 else value
    if not isinstance(value, list) or not all(isinstance(one, list) for one in lists):
        raise MalformedError(f"{name} is no list of {rank} axes")
    if len({len(one) for one in lists}) > 1:
        raise MalformedError(f"{name} is ragged")
    if not all(set(map(type, one)) <= allowed for one in lists):
        raise MalformedError(f"{name} has values that are no {dtype}")
    try:
        with np.errstate(over="ignore"):  # what is too large is not finite
            return np.asarray(value, dtype)
    except OverflowError as error:
        raise MalformedError(f"{name} has values that are no {dtype}") from error
