"""VGG networks with BatchNorm, the paper's for CIFAR-10 and Tiny ImageNet (Appendix G).

The authors' VGG-19 starts from trained weights; with BatchNorm, as in their later VGG-16, it trains from scratch.
"""

from __future__ import annotations

from collections.abc import Sequence

import keras

from erkeras.errors import InputError
from erkeras.models.networks.channels_last import Conv2D, Flatten, MaxPooling2D
from erkeras.models.networks.ends import classifier_of, encoder_of

#: How many 3 x 3 convolutions each block has, and their filters; a pooling that halves the image ends each block.
_PLANS = {
    "vgg16": ((2, 64), (2, 128), (3, 256), (3, 512), (3, 512)),
    "vgg19": ((2, 64), (2, 128), (4, 256), (4, 512), (4, 512)),
}


def build_vgg16_encoder(image_shape: Sequence[int] = (32, 32, 3), code_size: int = 16) -> keras.Model:
    """Builds an encoder of images in [0, 1], of 32 x 32 or more, -> codes `[n, code_size]`, by 13 convolutions."""
    return _build_encoder("vgg16", image_shape, code_size)


def build_vgg19_encoder(image_shape: Sequence[int] = (32, 32, 3), code_size: int = 16) -> keras.Model:
    """Builds an encoder of images in [0, 1], of 32 x 32 or more, -> codes `[n, code_size]`, by 16 convolutions."""
    return _build_encoder("vgg19", image_shape, code_size)


def build_vgg_classifier(code_size: int = 16, classes: int = 10) -> keras.Model:
    """Builds a classifier of codes -> logits: the authors', whose first layer has no nonlinearity."""
    hidden = [
        keras.layers.Dense(512),
        keras.layers.Dropout(0.5),
        keras.layers.Dense(512, activation="relu"),
        keras.layers.Dropout(0.5),
        keras.layers.Dense(512, activation="relu"),
    ]
    return classifier_of(code_size, hidden, classes)


def _build_encoder(name: str, image_shape: Sequence[int], code_size: int) -> keras.Model:
    height, width, _ = image_shape
    if min(height, width) < 32:
        raise InputError(f"{name} halves an image five times and was given {width} x {height}: give 32 x 32 or more.")
    layers: list[keras.layers.Layer] = []
    for convolutions, filters in _PLANS[name]:
        for _ in range(convolutions):
            layers += [
                Conv2D(filters, 3, padding="same", use_bias=False),
                keras.layers.BatchNormalization(),
                keras.layers.ReLU(),
            ]
        layers.append(MaxPooling2D(2))
    return encoder_of(image_shape, [*layers, Flatten()], code_size)
