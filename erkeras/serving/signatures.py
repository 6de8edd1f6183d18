"""What a SavedModel of ours answers, by the name of each signature. No TensorFlow here: a client needs none."""

from __future__ import annotations

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
#: The most pixels that an encoded image may have, as 4096 x 4096: more is refused before it is decoded.
MOST_PIXELS = 2**24


def bytes_twin(signature: str) -> str:
    """The name of the signature that takes PNG and JPEG files instead of pixels."""
    return f"{signature.removeprefix('serving_')}_bytes"
