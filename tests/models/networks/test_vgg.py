"""The paper's networks for colour images, by the number of their parameters."""

from itertools import pairwise

import numpy as np
import pytest
from keras import layers

from erkeras.detection.features import combined_code
from erkeras.models.networks import build_networks


def convolution(size, inputs, outputs):
    return size * size * inputs * outputs


def dense(inputs, outputs):
    return inputs * outputs + outputs


def normalized(channels):
    return 2 * channels  # scale and shift; its two moving statistics are not trained


VGG_CLASSIFIER = dense(16, 512) + 2 * dense(512, 512) + dense(512, 10)
VGG16 = [3, 64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512]
VGG19 = [3, 64, 64, 128, 128, 256, 256, 256, 256, 512, 512, 512, 512, 512, 512, 512, 512]
STL10 = [3, 128, 256, 512, 1024, 2048]


@pytest.mark.parametrize(
    ("name", "shape", "encoder_count", "classifier_count"),
    [
        *(
            (
                name,
                (side, side, 3),
                sum(convolution(3, *pair) for pair in pairwise(plan))
                + sum(map(normalized, plan[1:]))
                + dense(positions * 512, 16),
                VGG_CLASSIFIER,
            )
            for name, plan, side, positions in (
                ("vgg16", VGG16, 32, 1),
                ("vgg19", VGG19, 32, 1),
                ("tiny-imagenet", VGG19, 64, 4),
            )
        ),
        (
            "stl10",
            (96, 96, 3),
            sum(convolution(4, *pair) for pair in pairwise(STL10))
            + convolution(3, 2048, 2048)
            + sum(map(normalized, [*STL10[2:], 2048]))
            + dense(2048, 16),
            dense(16, 500) + normalized(500) + dense(500, 256) + normalized(256) + dense(256, 10),
        ),
    ],
)
def test_parameters_of_the_papers_colour_networks(name, shape, encoder_count, classifier_count):
    found = []
    for model in build_networks(name, shape, 16, 10):
        found.append(sum(int(np.prod(weight.shape)) for weight in model.trainable_variables))
        kinds = [type(layer) for layer in model.layers]
        if layers.Conv2D in kinds:
            # The detector finds hidden layers by their nonlinearities: one after every convolution.
            assert kinds.count(layers.ReLU) == kinds.count(layers.Conv2D)
            assert combined_code(model)(np.zeros((1, *shape), np.float32))[1].shape == (1, 16 + channels(model))
    assert found == [encoder_count, classifier_count]


def channels(encoder):
    return sum(layer.filters for layer in encoder.layers if isinstance(layer, layers.Conv2D))


def test_vgg_classifier_is_the_authors():
    _, classifier = build_networks("vgg19", (32, 32, 3), 16, 10)
    assert [
        (layer.units, layer.activation.__name__) if isinstance(layer, layers.Dense) else layer.rate
        for layer in classifier.layers
    ] == [(512, "linear"), 0.5, (512, "relu"), 0.5, (512, "relu"), (10, "linear")]
