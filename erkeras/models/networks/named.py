"""Networks by name, as recipes choose them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import keras

from erkeras.errors import InputError
from erkeras.models.networks.colour import build_colour_classifier, build_colour_encoder
from erkeras.models.networks.digits import build_digits_classifier, build_digits_encoder
from erkeras.models.networks.mnist import build_mnist_classifier, build_mnist_deep_encoder, build_mnist_encoder
from erkeras.models.networks.residual import (
    build_preact_resnet18_encoder,
    build_wide_resnet28_10_encoder,
    build_wide_resnet34_10_encoder,
)
from erkeras.models.networks.strided import (
    build_mnist_large_classifier,
    build_mnist_large_encoder,
    build_stl10_classifier,
    build_stl10_encoder,
)
from erkeras.models.networks.vgg import build_vgg16_encoder, build_vgg19_encoder, build_vgg_classifier

Builder = Callable[..., keras.Model]

#: name -> (encoder of (image_shape, code_size), classifier of (code_size, classes))
NETWORKS: dict[str, tuple[Builder, Builder]] = {
    "digits": (build_digits_encoder, build_digits_classifier),
    "mnist": (build_mnist_encoder, build_mnist_classifier),
    "mnist-deep": (build_mnist_deep_encoder, build_mnist_classifier),
    "mnist-large": (build_mnist_large_encoder, build_mnist_large_classifier),
    "colour": (build_colour_encoder, build_colour_classifier),
    "vgg16": (build_vgg16_encoder, build_vgg_classifier),
    "vgg19": (build_vgg19_encoder, build_vgg_classifier),
    "preact-resnet18": (build_preact_resnet18_encoder, build_colour_classifier),
    "wide-resnet28-10": (build_wide_resnet28_10_encoder, build_colour_classifier),
    "wide-resnet34-10": (build_wide_resnet34_10_encoder, build_colour_classifier),
    "stl10": (build_stl10_encoder, build_stl10_classifier),
    # Nothing is published but "similar to VGG19": the same plan, which leaves 2 x 2 positions of 64 x 64.
    "tiny-imagenet": (build_vgg19_encoder, build_vgg_classifier),
}


def build_networks(
    name: str, image_shape: Sequence[int], code_size: int, classes: int
) -> tuple[keras.Model, keras.Model]:
    """Builds encoder and classifier of a name in `NETWORKS`.

    Args:
        image_shape: (height, width, channels).
        code_size: k of the paper.
        classes: number of classes.

    Raises:
        InputError: for an unknown name, or images whose size the network does not take.
    """
    if name not in NETWORKS:
        raise InputError(f"there is no network {name!r}: give one of {', '.join(NETWORKS)}.")
    encoder, classifier = NETWORKS[name]
    return encoder(image_shape, code_size), classifier(code_size, classes)
