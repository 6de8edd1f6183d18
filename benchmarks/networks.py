"""A Keras network as plain data, and the same network in PyTorch."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    import torch

#: By how much the two networks' logits may differ, as a fraction of the largest where that is more than 1.
LOGIT_TOLERANCE = 1e-4


class Layer(NamedTuple):
    """A Keras layer as plain data, so that PyTorch's process needs no TensorFlow."""

    kind: str
    config: dict[str, Any]
    weights: list[np.ndarray]
    input_shape: tuple[int, ...]
    output_shape: tuple[int, ...]


def plain_layers(model: Any) -> list[Layer]:
    """The layers of a `Sequential` or an `ERClassifier` in their order, or of an encoder of residual.py."""
    return [
        Layer(
            type(layer).__name__,
            layer.get_config(),
            layer.get_weights(),
            tuple((layer.input[0] if isinstance(layer.input, list) else layer.input).shape[1:]),
            tuple(layer.output.shape[1:]),
        )
        for layer in _chain(model)
    ]


def _chain(model: Any) -> Iterator[Any]:
    parts = [model.encoder, model.classifier] if hasattr(model, "encoder") else model.layers
    for part in parts:
        if hasattr(part, "layers"):
            yield from _chain(part)
        elif type(part).__name__ != "InputLayer":
            yield part


def check_logits(ours: np.ndarray, torchs: np.ndarray) -> None:
    if (difference := np.abs(ours - torchs).max()) > LOGIT_TOLERANCE * max(1.0, np.abs(ours).max()):
        raise AssertionError(f"PyTorch's logits are off by {difference:.1e}: these are not the same networks.")


def torch_network(layers: Sequence[Layer], layout: torch.memory_format) -> torch.nn.Sequential:
    """The same layers with the same weights, for images in NCHW, giving logits."""
    import torch
    from torch import nn

    class Apply(nn.Module):
        def __init__(self, function: Callable[[torch.Tensor], torch.Tensor]) -> None:
            super().__init__()
            self.forward = function

    kinds = [layer.kind for layer in layers]
    if "Add" in kinds:
        from residual import residual_trunk

        end = kinds.index("GlobalAveragePooling2D") + 1
        return nn.Sequential(residual_trunk(layers[:end]), *torch_network(layers[end:], layout)).to(
            memory_format=layout
        )

    modules: list[nn.Module] = []
    rows: Any = slice(None)  # of the Dense kernel after a Flatten, in the order in which PyTorch flattens
    for kind, config, weights, input_shape, output_shape in layers:
        values = list(weights)  # in the order of the module's parameters and buffers
        if kind == "Rescaling":
            modules.append(Apply(partial(torch.add, torch.tensor(config["offset"]), alpha=config["scale"])))
        elif kind == "Conv2D":
            size, strides = config["kernel_size"], config["strides"]
            pads = [max((output_shape[i] - 1) * strides[i] + size[i] - input_shape[i], 0) for i in (0, 1)]
            padding = [pad // 2 for pad in pads]
            if any(pad % 2 for pad in pads):  # Keras' "same" puts the odd pixel to the bottom and the right
                (top, left), padding = padding, [0, 0]
                modules.append(nn.ZeroPad2d((left, pads[1] - left, top, pads[0] - top)))
            arguments = (input_shape[-1], config["filters"], size, strides, padding)
            modules.append(nn.Conv2d(*arguments, bias=config["use_bias"]))
            values[0] = values[0].transpose(3, 2, 0, 1)
        elif kind == "BatchNormalization":
            norm = nn.BatchNorm2d if len(input_shape) == 3 else nn.BatchNorm1d
            modules.append(norm(input_shape[-1], config["epsilon"], 1 - config["momentum"]))
        elif kind == "MaxPooling2D" and config["padding"] == "valid":
            modules.append(nn.MaxPool2d(config["pool_size"], config["strides"]))
        elif kind == "Flatten" and layout is torch.channels_last:  # a view, in Keras' order
            modules.append(Apply(lambda images: images.permute(0, 2, 3, 1).flatten(1)))
        elif kind == "Flatten":
            modules.append(nn.Flatten())
            rows = np.arange(math.prod(input_shape)).reshape(input_shape).transpose(2, 0, 1).ravel()
        elif kind == "Dense":
            modules.append(nn.Linear(*input_shape, config["units"], config["use_bias"]))
            values[0], rows = values[0][rows].T, slice(None)
        elif kind == "ReLU":
            modules.append(nn.ReLU(inplace=True))
        elif kind in ("Activation", "Dropout", "Softmax"):  # the last two do nothing to logits
            modules.append(nn.Identity())
        else:
            raise NotImplementedError(f"a {kind} layer: say here what it is in PyTorch.")
        state = [tensor for tensor in modules[-1].state_dict().values() if tensor.is_floating_point()]
        for tensor, value in zip(state, values, strict=True):
            tensor.copy_(torch.from_numpy(np.ascontiguousarray(value)))
        if config.get("activation") == "relu":
            modules.append(nn.ReLU(inplace=True))
    return nn.Sequential(*modules).to(memory_format=layout)
