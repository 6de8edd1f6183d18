"""Residual networks whose blocks begin with BatchNorm and ReLU, on which papers of this field compare defenses.

PreAct ResNet: He et al. 2016, "Identity Mappings in Deep Residual Networks", in the form for CIFAR-10 with four stages.
Wide ResNet: Zagoruyko & Komodakis 2016, "Wide Residual Networks", without dropout. A block that changes filters or
positions takes its shortcut from behind its first ReLU, through a 1 x 1 convolution. All other shortcuts are the
identity. The first block's is too, as in the code that the field shares; He et al. have BatchNorm and ReLU before it.
"""

from __future__ import annotations

from collections.abc import Sequence

import keras

from erkeras.errors import InputError
from erkeras.models.networks.channels_last import Conv2D, GlobalAveragePooling2D, ZeroPadding2D
from erkeras.models.networks.ends import branching_encoder_of

#: The smallest side of an image that the first convolution halves.
_LARGE = 64


def build_preact_resnet18_encoder(image_shape: Sequence[int] = (32, 32, 3), code_size: int = 16) -> keras.Model:
    """Builds the PreAct ResNet of depth 18 and width 64; see `build_preact_resnet_encoder`."""
    return build_preact_resnet_encoder(image_shape, code_size)


def build_wide_resnet28_10_encoder(image_shape: Sequence[int] = (32, 32, 3), code_size: int = 16) -> keras.Model:
    """Builds the Wide ResNet of depth 28 and width 10; see `build_wide_resnet_encoder`."""
    return build_wide_resnet_encoder(image_shape, code_size, depth=28)


def build_wide_resnet34_10_encoder(image_shape: Sequence[int] = (32, 32, 3), code_size: int = 16) -> keras.Model:
    """Builds the Wide ResNet of depth 34 and width 10; see `build_wide_resnet_encoder`."""
    return build_wide_resnet_encoder(image_shape, code_size, depth=34)


def build_preact_resnet_encoder(
    image_shape: Sequence[int] = (32, 32, 3), code_size: int = 16, depth: int = 18, width: int = 64
) -> keras.Model:
    """Builds a PreAct ResNet: images in [0, 1] -> codes `[n, code_size]`.

    Its four stages have 32, 16, 8 and 4 positions a side on images of 32 x 32 or 64 x 64. From 64 on the first
    convolution has stride 2. On images of 96 x 96 the stages have 48, 24, 12 and 6 positions a side. An average over
    positions comes before the code.

    Args:
        image_shape: (height, width, channels). Sides are 32 or more and multiples of 8, of 16 from 64 on.
        code_size: k of the paper.
        depth: convolutions and the last layer, shortcuts not counted: 8 for each block a stage, and 2.
        width: filters of the first stage. Each further stage has twice as many.

    Returns:
        A Functional model of Keras' own layers.

    Raises:
        InputError: for a depth, a width or images that do not fit.
    """
    name = f"preact-resnet{depth}"
    blocks = _blocks_a_stage(name, depth, width, per_block=8, others=2)
    stages = [(2**stage * width, blocks) for stage in range(4)]
    return _build_encoder(name, image_shape, code_size, width, stages)


def build_wide_resnet_encoder(
    image_shape: Sequence[int] = (32, 32, 3), code_size: int = 16, depth: int = 28, width: int = 10
) -> keras.Model:
    """Builds a Wide ResNet, WRN-depth-width: images in [0, 1] -> codes `[n, code_size]`.

    Its three stages have 32, 16 and 8 positions a side on images of 32 x 32 or 64 x 64. From 64 on the first
    convolution has stride 2. On images of 96 x 96 the stages have 48, 24 and 12 positions a side. An average over
    positions comes before the code.

    Args:
        image_shape: (height, width, channels). Sides are 32 or more and multiples of 4, of 8 from 64 on.
        code_size: k of the paper.
        depth: convolutions, those of shortcuts counted as in the paper: 6 for each block a stage, and 4.
        width: k of Zagoruyko & Komodakis. The stages have 16, 32 and 64 times as many filters.

    Returns:
        A Functional model of Keras' own layers.

    Raises:
        InputError: for a depth, a width or images that do not fit.
    """
    name = f"wide-resnet{depth}-{width}"
    blocks = _blocks_a_stage(name, depth, width, per_block=6, others=4)
    stages = [(2**stage * 16 * width, blocks) for stage in range(3)]
    return _build_encoder(name, image_shape, code_size, 16, stages)


def _blocks_a_stage(name: str, depth: int, width: int, per_block: int, others: int) -> int:
    """Finds how many blocks a stage has, of the layers that one more in each stage adds and those outside of blocks."""
    blocks, left = divmod(depth - others, per_block)
    if blocks < 1 or left:
        allowed = ", ".join(str(others + per_block * count) for count in (1, 2, 3))
        raise InputError(f"{name} has the depth {depth}: give one of {allowed} and so on.")
    if width < 1:
        raise InputError(f"{name} has the width {width}: give 1 or more.")
    return blocks


def _build_encoder(
    name: str, image_shape: Sequence[int], code_size: int, stem: int, stages: Sequence[tuple[int, int]]
) -> keras.Model:
    """Builds an encoder of stages (filters, blocks); each but the first halves the image."""
    stride = _first_stride(name, image_shape, 2 ** (len(stages) - 1))

    def hidden(images: keras.KerasTensor) -> keras.KerasTensor:
        features = _convolve(images, stem, 3, stride)
        for stage, (filters, blocks) in enumerate(stages):
            for block in range(blocks):
                features = _block(features, filters, 2 if stage and not block else 1)
        return GlobalAveragePooling2D()(_activate(features))

    return branching_encoder_of(image_shape, hidden, code_size)


def _first_stride(name: str, image_shape: Sequence[int], divisor: int) -> int:
    height, width, _ = image_shape
    stride = 2 if min(height, width) >= _LARGE else 1
    if min(height, width) < 32:
        raise InputError(f"{name} is made for images of 32 x 32 or more and was given {width} x {height}: resize them.")
    if height % (stride * divisor) or width % (stride * divisor):
        raise InputError(
            f"{name} halves an image several times and was given {width} x {height}: give sides that are multiples "
            f"of {stride * divisor}."
        )
    return stride


def _block(features: keras.KerasTensor, filters: int, stride: int) -> keras.KerasTensor:
    activated = _activate(features)
    changes = stride > 1 or features.shape[-1] != filters
    shortcut = _convolve(activated, filters, 1, stride) if changes else features
    residual = _convolve(activated, filters, 3, stride)
    return keras.layers.Add()([shortcut, _convolve(_activate(residual), filters, 3, 1)])


def _activate(features: keras.KerasTensor) -> keras.KerasTensor:
    return keras.layers.ReLU()(keras.layers.BatchNormalization(momentum=0.9, epsilon=1e-5)(features))


def _convolve(features: keras.KerasTensor, filters: int, size: int, stride: int) -> keras.KerasTensor:
    padding = "same"
    if stride > 1 and size > 1:
        # A pixel on every side, as in the papers' code; Keras' "same" of stride 2 adds below and to the right alone.
        features, padding = ZeroPadding2D(size // 2)(features), "valid"
    # Section 2.2 of He et al. 2015, backward. Each has an initializer of its own, which draws numbers of its own.
    initializer = keras.initializers.VarianceScaling(2.0, mode="fan_out", distribution="untruncated_normal")
    return Conv2D(filters, size, stride, padding, use_bias=False, kernel_initializer=initializer)(features)
