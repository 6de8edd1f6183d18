"""What the tests of detectors share: small untrained models, images of three classes, and layers one by one."""

import numpy as np

from erkeras.recipes import find_recipe
from erkeras.training import build_model

SHAPE = (8, 8, 1)


def model_of(defense):
    """An untrained model of three classes, any row of the paper's."""
    model = build_model(find_recipe("default", "digits", SHAPE, defense), SHAPE, 3, 1, seed=0)
    for layer in model.classifier.layers:  # logits far enough apart for a softmax that tells
        layer.kernel.assign(3 * layer.kernel)
    return model


def three_classes():
    """400 images of three classes, their labels, and 80 odd images."""
    random = np.random.RandomState(0)
    labels = np.arange(400) % 3
    images = np.clip(0.6 * random.rand(400, *SHAPE) + labels[:, None, None, None] / 6, 0, 1).astype(np.float32)
    return images, labels, random.randint(0, 2, (80, *SHAPE)).astype(np.float32)


def outputs_of_layers(model, images):
    outputs = [images]
    for layer in [*model.encoder.layers, *model.classifier.layers]:
        outputs.append(layer(outputs[-1]).numpy())
    return outputs
