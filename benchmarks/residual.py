"""PreAct and Wide ResNets in PyTorch, for images in NCHW, as papers of this field write them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from networks import Layer
from torch import nn
from torch.nn.functional import relu


def convolution(inputs: int, filters: int, size: int, stride: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, filters, size, stride, size // 2, bias=False)


class Block(nn.Module):
    """BatchNorm, ReLU and a 3 x 3 convolution, twice, beside a shortcut."""

    def __init__(self, inputs: int, filters: int, stride: int) -> None:
        super().__init__()
        self.first_norm = nn.BatchNorm2d(inputs)
        self.first = convolution(inputs, filters, 3, stride)
        self.second_norm = nn.BatchNorm2d(filters)
        self.second = convolution(filters, filters, 3, 1)
        changes = stride > 1 or inputs != filters
        self.shortcut = convolution(inputs, filters, 1, stride) if changes else None

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        activated = relu(self.first_norm(features), inplace=True)
        shortcut = features if self.shortcut is None else self.shortcut(activated)
        return self.second(relu(self.second_norm(self.first(activated)), inplace=True)) + shortcut


class Trunk(nn.Module):
    """Images in [0, 1] -> the average over positions `[n, filters]`.

    Args:
        channels: of an image.
        stem: filters and stride of the first convolution.
        blocks: filters and stride of each block.
    """

    def __init__(self, channels: int, stem: tuple[int, int], blocks: Sequence[tuple[int, int]]) -> None:
        super().__init__()
        self.stem = convolution(channels, stem[0], 3, stem[1])
        widths = [stem[0], *(filters for filters, _ in blocks)]
        self.blocks = nn.Sequential(*(Block(inputs, *block) for inputs, block in zip(widths[:-1], blocks, strict=True)))
        self.norm = nn.BatchNorm2d(widths[-1])

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        features = self.blocks(self.stem(2 * images - 1))
        return relu(self.norm(features), inplace=True).mean((2, 3))


def residual_trunk(layers: Sequence[Layer]) -> Trunk:
    """Builds the trunk of a Keras network's sizes, with its weights.

    Layers of one kind and size come in the order of their running: they lie one behind the other.
    """
    kernels = {size: [layer for layer in layers if layer.config.get("kernel_size") == (size, size)] for size in (1, 3)}
    stem, *inside = [(layer.config["filters"], layer.config["strides"][0]) for layer in kernels[3]]
    trunk = Trunk(kernels[3][0].input_shape[-1], stem, inside[::2])
    modules = list(trunk.modules())
    for size, found in kernels.items():
        convolutions = [part for part in modules if isinstance(part, nn.Conv2d) and part.kernel_size == (size, size)]
        for part, layer in zip(convolutions, found, strict=True):
            _copy([layer.weights[0].transpose(3, 2, 0, 1)], [part.weight])
    norms = [part for part in modules if isinstance(part, nn.BatchNorm2d)]
    for part, layer in zip(norms, (layer for layer in layers if layer.kind == "BatchNormalization"), strict=True):
        part.eps, part.momentum = layer.config["epsilon"], 1 - layer.config["momentum"]
        _copy(layer.weights, [part.weight, part.bias, part.running_mean, part.running_var])
    return trunk


def _copy(values: Sequence[np.ndarray], tensors: Sequence[torch.Tensor]) -> None:
    with torch.no_grad():
        for value, tensor in zip(values, tensors, strict=True):
            tensor.copy_(torch.from_numpy(np.ascontiguousarray(value)))
