from itertools import pairwise

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from erkeras.attacks import PGD
from erkeras.detection.features import combined_code
from erkeras.errors import InputError
from erkeras.models import ERClassifier, WassersteinCritic
from erkeras.models.networks import NETWORKS, build_critic, build_networks
from erkeras.threat import ThreatModel

SHAPES = {
    "digits": [(8, 8, 1), (9, 11, 3)],
    "mnist": [(28, 28, 1)],
    "mnist-deep": [(28, 28, 1), (16, 20, 3)],
    "mnist-large": [(28, 28, 1)],
    "colour": [(32, 32, 3), (16, 20, 1), (64, 64, 3), (96, 96, 3)],
    "vgg16": [(32, 32, 3)],
    "vgg19": [(32, 40, 1)],
    "stl10": [(96, 96, 3)],
    "tiny-imagenet": [(64, 64, 3)],
}


@pytest.mark.parametrize(("name", "shape"), [(name, shape) for name, shapes in SHAPES.items() for shape in shapes])
def test_builds_for_its_shapes(name, shape):
    encoder, classifier = build_networks(name, shape, 5, 7)
    codes = encoder(np.zeros((2, *shape), np.float32))
    assert codes.shape == (2, 5)
    assert classifier(codes).shape == (2, 7)
    assert classifier.layers[-1].activation is keras.activations.linear
    assert [layer.name for layer in (encoder.layers[-1], classifier.layers[-1])] == ["code", "logits"]


def test_every_network_has_a_test():
    assert set(SHAPES) == set(NETWORKS)


def test_unknown_network_is_refused():
    with pytest.raises(InputError, match=r"'resnet'.*digits"):
        build_networks("resnet", (8, 8, 1), 4, 10)


@pytest.mark.parametrize("name", NETWORKS)
def test_first_layer_maps_0_1_to_minus_1_1(name):
    first = NETWORKS[name][0](SHAPES[name][0]).layers[0]
    np.testing.assert_allclose(first(tf.constant([[0.0, 0.5, 1.0]])), [[-1, 0, 1]])


@pytest.mark.parametrize("name", NETWORKS)
def test_defaults_of_encoder_and_classifier_fit(name):
    encoder, classifier = (builder() for builder in NETWORKS[name])
    assert encoder.output_shape == classifier.input_shape
    assert classifier.output_shape == (None, 10)


def test_large_mnist_network_is_the_authors():
    encoder, classifier = build_networks("mnist-large", (28, 28, 1), 4, 10)
    convolutions = [layer for layer in encoder.layers if isinstance(layer, layers.Conv2D)]
    assert [(layer.filters, layer.kernel_size, layer.strides, layer.use_bias) for layer in convolutions] == [
        (filters, (4, 4), (2, 2), False) for filters in (128, 256, 512, 1024)
    ]
    kinds = [type(layer) for layer in encoder.layers]
    assert kinds[1:3] == [layers.Conv2D, layers.ReLU]
    assert kinds.count(layers.BatchNormalization) == 3
    assert [layer.units for layer in classifier.layers if isinstance(layer, layers.Dense)] == [500, 256, 10]
    assert sum(isinstance(layer, layers.BatchNormalization) for layer in classifier.layers) == 2


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


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        ("vgg16", (28, 28, 1), "vgg16 halves an image five times and was given 28 x 28: give 32 x 32"),
        ("tiny-imagenet", (31, 64, 3), "vgg19 .* was given 64 x 31"),
        ("mnist-deep", (28, 15, 1), "mnist-deep leaves nothing of images of 15 x 28: give 16 x 16 or more"),
        ("stl10", (64, 96, 3), "stl10 leaves nothing of images of 96 x 64: give larger ones than 64 x 64"),
    ],
)
def test_images_too_small_for_a_network_are_refused(name, shape, message):
    with pytest.raises(InputError, match=message):
        build_networks(name, shape, 16, 10)


def test_the_smallest_image_of_the_stl10_network():
    assert build_networks("stl10", (65, 65, 3), 4, 10)[0].output_shape == (None, 4)


def test_critic_output_may_be_a_log_sigmoid():
    linear, bounded = (build_critic(3, units=(8, 6), output=output) for output in ("linear", "log_sigmoid"))
    bounded.set_weights(linear.get_weights())
    codes = tf.constant(np.random.default_rng(0).normal(size=(9, 3)) * 9, tf.float32)
    assert linear(codes).shape == (9, 1)
    assert np.ptp(linear(codes)) > 1
    np.testing.assert_allclose(bounded(codes), -np.log1p(np.exp(-linear(codes).numpy())), rtol=1e-4, atol=1e-6)


def test_critic_with_another_output_is_refused():
    with pytest.raises(InputError, match="'sigmoid'"):
        build_critic(3, output="sigmoid")


def test_log_sigmoid_critic_survives_its_config():
    critic = build_critic(3, units=(4,), output="log_sigmoid")
    again = keras.Sequential.from_config(critic.get_config())
    assert again.layers[-1].activation is keras.activations.log_sigmoid


def test_colour_images_train_a_step():
    random = np.random.default_rng(0)
    images, labels = random.uniform(size=(4, 32, 32, 3)).astype(np.float32), np.arange(4) % 2
    model = ERClassifier(
        *build_networks("colour", (32, 32, 3), 8, 2),
        regularizer=WassersteinCritic(0.1, build_critic(8, units=(8,))),
        adversary=PGD(ThreatModel("l_inf", 8 / 255), steps=2),
    )
    model.compile()
    before = [weight.copy() for weight in model.get_weights()]
    logs = model.fit(images, labels, batch_size=4, verbose=0).history
    assert np.isfinite([values[0] for values in logs.values()]).all()
    unmoved = [
        weight.path
        for weight, old in zip(model.weights, before, strict=True)
        if np.array_equal(weight.numpy(), old) and "critic" not in weight.path
    ]
    assert unmoved == []
