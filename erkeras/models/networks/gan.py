"""Generator and critic of Defense-GAN: two strided convolutions each, without BatchNorm.

A gradient penalty is of each image on its own, which a batch's statistics would mix (Gulrajani et al. 2017,
section 4).
"""

from __future__ import annotations

from collections.abc import Sequence

import keras

from erkeras.errors import InputError
from erkeras.models.networks.channels_last import Conv2D, Conv2DTranspose, Flatten


def build_generator(image_shape: Sequence[int] = (28, 28, 1), latent_size: int = 128, filters: int = 16) -> keras.Model:
    """Builds a generator of latent vectors `[n, latent_size]` -> images `[n, height, width, channels]` in [0, 1].

    Args:
        image_shape: (height, width, channels), the sides multiples of 4.
        latent_size: 128 in Samangouei et al. (2018).
        filters: of the larger feature maps; the smaller ones have twice as many.

    Raises:
        InputError: for sides that are not multiples of 4.
    """
    height, width, channels = _check_shape(image_shape)
    return keras.Sequential(
        [
            keras.Input((latent_size,)),
            keras.layers.Dense(height // 4 * (width // 4) * 2 * filters, activation="relu"),
            keras.layers.Reshape((height // 4, width // 4, 2 * filters)),
            Conv2DTranspose(filters, 4, strides=2, padding="same", activation="relu"),
            Conv2DTranspose(channels, 4, strides=2, padding="same", activation="sigmoid"),
        ],
        name="generator",
    )


def build_image_critic(image_shape: Sequence[int] = (28, 28, 1), filters: int = 16) -> keras.Model:
    """Builds a critic of images in [0, 1] -> scores `[n, 1]`, with the arguments and errors of `build_generator`."""
    return keras.Sequential(
        [
            keras.Input(_check_shape(image_shape)),
            keras.layers.Rescaling(2.0, offset=-1.0),
            Conv2D(filters, 4, strides=2, padding="same", activation="leaky_relu"),
            Conv2D(2 * filters, 4, strides=2, padding="same", activation="leaky_relu"),
            Flatten(),
            keras.layers.Dense(1),
        ],
        name="critic",
    )


def _check_shape(image_shape: Sequence[int]) -> tuple[int, int, int]:
    height, width, channels = image_shape
    if height % 4 or width % 4:
        raise InputError(
            f"the images are of {height} x {width} pixels: a generator makes images whose sides are multiples of 4."
        )
    return height, width, channels
