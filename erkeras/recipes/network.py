"""Reads a recipe's `network`: a name of ours, a user's own function, or a trained classifier's file."""

from __future__ import annotations

from typing import Literal

#: Names in `erkeras.models.networks.NETWORKS`, known without TensorFlow.
NETWORK_NAMES = (
    "digits",
    "mnist",
    "mnist-deep",
    "mnist-large",
    "colour",
    "vgg16",
    "vgg19",
    "stl10",
    "tiny-imagenet",
    "preact-resnet18",
    "wide-resnet28-10",
    "wide-resnet34-10",
)


def network_kind(network: str) -> Literal["name", "function", "file"]:
    """Tells what kind of network a recipe names.

    Returns:
        "file" for FILE.keras, "function" for MODULE:FUNCTION, else "name".
    """
    if network.endswith(".keras"):
        return "file"
    return "function" if ":" in network else "name"
