"""PreAct and Wide ResNets: the papers' counts, a forward pass in NumPy, and all that is done with an encoder."""

import subprocess
import sys
from itertools import pairwise

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from erkeras.attacks import PGD
from erkeras.detection import ERDetector, combined_code
from erkeras.errors import InputError
from erkeras.models import Checkpoint, ERClassifier, WassersteinCritic
from erkeras.models.networks import (
    build_colour_classifier,
    build_critic,
    build_networks,
    build_preact_resnet_encoder,
    build_wide_resnet_encoder,
    without_bottleneck,
)
from erkeras.models.precision import in_bfloat16
from erkeras.serving.export import export_classifier
from erkeras.threat import ThreatModel
from helpers.training_state import assert_same, state

SHAPE = (32, 32, 3)
#: The smallest: one block a stage. Name -> encoder
TINY = {
    "preact": lambda shape=SHAPE: build_preact_resnet_encoder(shape, 4, depth=10, width=2),
    "wide": lambda shape=SHAPE: build_wide_resnet_encoder(shape, 4, depth=10, width=1),
}


@pytest.fixture(scope="module")
def data():
    random = np.random.default_rng(0)
    labels = np.arange(12) % 3
    images = 0.2 * random.uniform(size=(12, *SHAPE)) + labels[:, None, None, None] / 4
    return images.astype(np.float32), labels


def build_model(initial=1, **options):
    keras.utils.set_random_seed(initial)
    model = ERClassifier(
        TINY["preact"](),
        build_colour_classifier(4, 3),
        regularizer=WassersteinCritic(0.1, build_critic(4, units=(8,))),
        adversary=PGD(ThreatModel("l_inf", 8 / 255), steps=1),
        **options,
    )
    model.compile(*(keras.optimizers.Adam(0.01) for _ in range(3)))
    return model


def fit(model, data, epochs, **options):
    return model.fit(*data, batch_size=4, epochs=epochs, shuffle=False, verbose=0, **options).history


# The papers' sizes.


def convolution(size, inputs, outputs):
    return size * size * inputs * outputs


def block(inputs, outputs):
    """Both convolutions, the scale and shift before each, and the shortcut's convolution where there is one."""
    shortcut = 0 if inputs == outputs else convolution(1, inputs, outputs)
    return 2 * inputs + convolution(3, inputs, outputs) + 2 * outputs + convolution(3, outputs, outputs) + shortcut


def trunk(first, widths, blocks):
    """From three channels to the average over positions."""
    inputs = [first, *(width for width in widths for _ in range(blocks))]
    return convolution(3, 3, first) + sum(block(*pair) for pair in pairwise(inputs)) + 2 * widths[-1]


@pytest.mark.parametrize(
    ("name", "size", "expected", "millions"),
    [
        ("preact-resnet18", 512, trunk(64, (64, 128, 256, 512), 2), 11.17),
        ("wide-resnet28-10", 640, trunk(16, (160, 320, 640), 4), 36.5),
        ("wide-resnet34-10", 640, trunk(16, (160, 320, 640), 5), 46.2),
    ],
)
def test_without_a_code_they_have_the_papers_parameters(name, size, expected, millions):
    with_code = build_networks(name, SHAPE, 16, 10)
    assert [parameters(part) for part in with_code] == [expected + (size + 1) * 16, 17 * 128 + 129 * 10]
    encoder, classifier = without_bottleneck(with_code[0], 10)
    count = parameters(encoder) + parameters(classifier)
    assert count == expected + (size + 1) * 10
    assert round(count / 1e6, 2 if millions < 12 else 1) == millions


def parameters(network):
    return sum(int(np.prod(weight.shape)) for weight in network.trainable_variables)


def test_depth_and_width_are_as_asked_for():
    assert parameters(build_preact_resnet_encoder(SHAPE, 5, 26, 3)) == trunk(3, (3, 6, 12, 24), 3) + 25 * 5
    assert parameters(build_wide_resnet_encoder(SHAPE, 5, 16, 2)) == trunk(16, (32, 64, 128), 2) + 129 * 5


def test_batch_norm_and_weights_are_as_the_papers_have_them():
    encoder = build_preact_resnet_encoder(SHAPE, 4, depth=10, width=32)
    norms = [layer for layer in encoder.layers if isinstance(layer, layers.BatchNormalization)]
    assert {(norm.momentum, norm.epsilon) for norm in norms} == {(0.9, 1e-5)}
    convolutions = [layer for layer in encoder.layers if isinstance(layer, layers.Conv2D)]
    assert not any(layer.use_bias for layer in convolutions)
    for layer in convolutions[1:]:
        size = layer.kernel_size[0]
        assert np.std(layer.kernel) == pytest.approx(np.sqrt(2 / (size * size * layer.filters)), rel=0.05)
    first, second = (layer.kernel.numpy().ravel()[:99] for layer in convolutions[1:3])
    assert not np.allclose(first, second)


# Shapes.


@pytest.mark.parametrize(
    ("kind", "shape", "positions"),
    [
        ("preact", (32, 32, 3), [(32, 32), (16, 16), (8, 8), (4, 4)]),
        ("preact", (64, 64, 3), [(32, 32), (16, 16), (8, 8), (4, 4)]),
        ("preact", (96, 96, 3), [(48, 48), (24, 24), (12, 12), (6, 6)]),
        ("preact", (32, 72, 1), [(32, 72), (16, 36), (8, 18), (4, 9)]),
        ("wide", (32, 32, 3), [(32, 32), (16, 16), (8, 8)]),
        ("wide", (64, 64, 3), [(32, 32), (16, 16), (8, 8)]),
        ("wide", (96, 96, 3), [(48, 48), (24, 24), (12, 12)]),
        ("wide", (36, 44, 3), [(36, 44), (18, 22), (9, 11)]),
    ],
)
def test_positions_of_each_stage(kind, shape, positions):
    encoder = TINY[kind](shape)
    found = [tuple(layer.output.shape[1:3]) for layer in encoder.layers if isinstance(layer, layers.Add)]
    assert found == positions
    codes = encoder(np.full((2, *shape), 0.5, np.float32))
    assert codes.shape == (2, 4)
    assert np.isfinite(codes).all()


@pytest.mark.parametrize(
    ("kind", "shape", "message"),
    [
        ("preact", (28, 28, 1), "preact-resnet10 is made for images of 32 x 32 or more and was given 28 x 28: resize"),
        ("wide", (32, 31, 3), "wide-resnet10-1 is made for images of 32 x 32 or more and was given 31 x 32"),
        ("preact", (36, 32, 3), "was given 32 x 36: give sides that are multiples of 8"),
        ("preact", (72, 72, 3), "was given 72 x 72: give sides that are multiples of 16"),
        ("wide", (33, 32, 3), "was given 32 x 33: give sides that are multiples of 4"),
        ("wide", (64, 68, 3), "was given 68 x 64: give sides that are multiples of 8"),
    ],
)
def test_images_too_small_or_odd_are_refused(kind, shape, message):
    with pytest.raises(InputError, match=message):
        TINY[kind](shape)


@pytest.mark.parametrize(
    ("build", "given", "message"),
    [
        (build_preact_resnet_encoder, {"depth": 20}, "preact-resnet20 has the depth 20: give one of 10, 18, 26 and"),
        (build_preact_resnet_encoder, {"depth": 2}, "preact-resnet2 has the depth 2"),
        (build_wide_resnet_encoder, {"depth": 18}, "wide-resnet18-10 has the depth 18: give one of 10, 16, 22 and"),
        (build_wide_resnet_encoder, {"width": 0}, "wide-resnet28-0 has the width 0: give 1 or more"),
    ],
)
def test_other_depths_and_widths_are_refused(build, given, message):
    with pytest.raises(InputError, match=message):
        build(SHAPE, 4, **given)


# The forward pass, against NumPy.


def convolved(images, kernel, stride):
    """A convolution that pads each side by half the kernel, as PyTorch's."""
    size, pad = kernel.shape[0], kernel.shape[0] // 2
    padded = np.pad(images, ((0, 0), (pad, pad), (pad, pad), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (size, size), (1, 2))[:, ::stride, ::stride]
    return np.einsum("nhwcij,ijco->nhwo", windows, kernel)


def activated(images, norm):
    gamma, beta, mean, variance = norm
    return np.maximum((images - mean) / np.sqrt(variance + 1e-5) * gamma + beta, 0)


def forward(weights, images, strides):
    """Codes of a network of one block a stage; `weights` gives kernels of 3 x 3 and 1 x 1, norms and the code's."""
    threes, ones, norms = (iter(weights[kind]) for kind in ("3 x 3", "1 x 1", "norms"))
    features = convolved(2 * images - 1, next(threes), strides[0])
    for stride in strides[1:]:
        before = activated(features, next(norms))
        inside = activated(convolved(before, first := next(threes), stride), next(norms))
        same = stride == 1 and first.shape[2] == first.shape[3]
        shortcut = features if same else convolved(before, next(ones), stride)
        features = shortcut + convolved(inside, next(threes), 1)
    features = activated(features, next(norms)).mean(axis=(1, 2))
    assert not any(list(left) for left in (threes, ones, norms))
    kernel, bias = weights["code"]
    return features @ kernel + bias


@pytest.mark.parametrize(
    ("kind", "shape", "strides"),
    [
        ("preact", (32, 32, 3), (1, 1, 2, 2, 2)),
        ("preact", (64, 64, 3), (2, 1, 2, 2, 2)),
        ("wide", (32, 32, 3), (1, 1, 2, 2)),
        ("wide", (64, 72, 1), (2, 1, 2, 2)),
    ],
)
def test_the_forward_pass_is_the_papers(kind, shape, strides):
    """Through blocks with and without a convolution in their shortcut."""
    random = np.random.default_rng(0)
    encoder = TINY[kind](shape)
    for weight in encoder.weights:  # BatchNorm's too, which start as the identity
        low, high = (-0.5, 0.5) if "kernel" in weight.path else (0.5, 1.5)
        weight.assign(random.uniform(low, high, weight.shape))
    convolutions = [layer for layer in encoder.layers if isinstance(layer, layers.Conv2D)]
    kernels = [layer.kernel.numpy().astype(float) for layer in convolutions]
    weights = {f"{size} x {size}": [kernel for kernel in kernels if len(kernel) == size] for size in (1, 3)}
    norms = [layer for layer in encoder.layers if isinstance(layer, layers.BatchNormalization)]
    weights |= {"norms": [layer.get_weights() for layer in norms], "code": encoder.layers[-1].get_weights()}
    images = random.uniform(size=(2, *shape))
    expected = forward(weights, images, strides)
    np.testing.assert_allclose(encoder(images.astype(np.float32)), expected, rtol=1e-4, atol=1e-4)


# What is done with an encoder.


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory):
    """A model after an epoch, its weights before and after, its logs, and the folder of its checkpoint."""
    model, folder = build_model(), tmp_path_factory.mktemp("checkpoint")
    before = model.get_weights()
    logs = fit(model, data, 1, callbacks=[Checkpoint(folder)])
    return model, before, model.get_weights(), logs, folder


def test_training_moves_every_weight(trained):
    model, before, after, logs, _ = trained
    assert {"loss", "clean_accuracy", "adversarial_accuracy", "wasserstein"} <= set(logs)
    assert np.isfinite([values[0] for values in logs.values()]).all()
    unmoved = [
        weight.path
        for weight, *values in zip(model.weights, before, after, strict=True)
        if np.array_equal(*values) and "critic" not in weight.path  # its last bias has no gradient
    ]
    assert unmoved == []


def test_a_checkpoint_goes_on_bit_for_bit(trained, data):
    straight, *_, folder = trained
    resumed, checkpoint = build_model(initial=2), Checkpoint(folder)
    assert checkpoint.restore(resumed) == 1
    logs = [fit(model, data, 2, initial_epoch=1) for model in (straight, resumed)]
    assert logs[0] == logs[1]
    assert_same(state(straight), state(resumed))


WITHOUT_ERKERAS = """
import sys
sys.modules["erkeras"] = None  # importing it fails
import keras, numpy as np, tensorflow as tf
folder = sys.argv[1]
images = np.load(f"{folder}/images.npy")
encoder, classifier = (keras.models.load_model(f"{folder}/{name}.keras") for name in ("encoder", "classifier"))
served = tf.saved_model.load(f"{folder}/1").signatures["logits"](images=tf.constant(images))["logits"]
np.savez(f"{folder}/found.npz", keras=classifier(encoder(images)), served=served)
"""


def test_saved_and_exported_it_gives_the_same_logits(trained, data, tmp_path):
    """The whole model where erkeras is, its networks and its SavedModel where erkeras is not."""
    model = trained[0]
    expected = model(data[0])
    model.save(tmp_path / "model.keras")
    np.testing.assert_array_equal(keras.models.load_model(tmp_path / "model.keras")(data[0]), expected)
    model.encoder.save(tmp_path / "encoder.keras")
    model.classifier.save(tmp_path / "classifier.keras")
    export_classifier(model, SHAPE, tmp_path / "1")
    np.save(tmp_path / "images.npy", data[0])
    subprocess.run([sys.executable, "-c", WITHOUT_ERKERAS, str(tmp_path)], check=True, timeout=300)
    with np.load(tmp_path / "found.npz") as found:
        for name in ("keras", "served"):
            np.testing.assert_allclose(found[name], expected, atol=1e-5)


@pytest.mark.parametrize("kind", TINY)
def test_passes_in_bfloat16_are_close(kind, data):
    encoder, classifier = TINY[kind](), build_colour_classifier(4, 3)
    exact = classifier(encoder(data[0])).numpy()
    rounded = in_bfloat16(encoder, classifier)(tf.constant(data[0]))
    difference = np.abs(rounded - exact).max() / np.abs(exact).max()
    assert 1e-5 < difference < 0.05


@pytest.mark.parametrize("kind", TINY)
def test_the_combined_code_has_the_activations_behind_every_norm(kind, data):
    """Two in each block and the last; that of the next block or the last is what a block's sum goes through."""
    encoder = TINY[kind]()
    relus = [layer for layer in encoder.layers if isinstance(layer, layers.ReLU)]
    sums = [layer for layer in encoder.layers if isinstance(layer, layers.Add)]
    assert len(relus) == 2 * len(sums) + 1
    outputs = keras.Model(encoder.input, [*(layer.output for layer in relus), encoder.output])(data[0])
    *means, codes = (np.asarray(output) for output in outputs)
    expected = np.concatenate([*(mean.mean(axis=(1, 2)) for mean in means), codes], axis=1)
    found = combined_code(encoder)(data[0])
    np.testing.assert_allclose(found[0], codes, atol=1e-5)
    np.testing.assert_allclose(found[1], expected, atol=1e-5)
    # The last of them, averaged, is what the code is made of.
    pooled = keras.Model(encoder.input, encoder.layers[-2].output)(data[0])
    np.testing.assert_allclose(found[1][:, -4 - pooled.shape[1] : -4], pooled, atol=1e-5)


@pytest.mark.parametrize("features", ["code", "combined"])
def test_er_detectors_tell_odd_images(features, data, tmp_path):
    random = np.random.default_rng(1)
    labels = np.arange(90) % 3
    images = 0.2 * random.uniform(size=(90, *SHAPE)) + labels[:, None, None, None] / 4
    images, odd = images.astype(np.float32), random.integers(0, 2, (40, *SHAPE)).astype(np.float32)
    model = build_model()
    detector = ERDetector(model, features).fit(images[:60], labels[:60]).calibrate(images[60:75], odd[:20])
    assert detector.evaluate(images[75:], odd[20:]).auroc > 0.95
    detector.save(tmp_path / "detector.npz")
    again = ERDetector.load(tmp_path / "detector.npz", model)
    np.testing.assert_array_equal(again.score(odd), detector.score(odd))
