"""What an `ERClassifier` asks of its encoder and classifier."""

from __future__ import annotations

import keras

from erkeras.errors import InputError


def check_networks(encoder: keras.Model, classifier: keras.Model) -> None:
    """Checks that encoder and classifier are built and end in logits; raises InputError where not."""
    for name, network in (("encoder", encoder), ("classifier", classifier)):
        if not network.built:
            raise InputError(f"the {name} is not built: give it an Input, or call it once on a batch.")
    last = classifier.layers[-1] if classifier.layers else None
    if isinstance(last, keras.layers.Softmax) or (getattr(last, "activation", None) is keras.activations.softmax):
        raise InputError("the classifier ends in a softmax: let it end in logits, which the losses take.")


def code_size(encoder: keras.Model, classifier: keras.Model) -> int:
    """Finds k of the paper, from whichever network knows its shapes: subclassed ones do not."""
    shapes = getattr(encoder, "output_shape", None), getattr(classifier, "input_shape", None)
    sizes = [shape[-1] for shape in shapes if shape]
    if not sizes:
        raise InputError("the size of the codes is unknown: give a Sequential or Functional encoder or classifier.")
    if len(set(sizes)) > 1:
        raise InputError(
            f"the encoder gives codes of size {sizes[0]} and the classifier takes {sizes[1]}: make them fit."
        )
    return sizes[0]
