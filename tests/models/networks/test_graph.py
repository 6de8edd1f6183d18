"""A network's hidden layers, wherever they are: inside nested models, blocks, and operations that are no layers."""

import keras
import numpy as np
import pytest
from keras import layers

from erkeras.detection.features import combined_code
from erkeras.errors import InputError
from erkeras.models.networks.graph import read_graph

SHAPE = (8, 8, 3)


@pytest.fixture
def images():
    return np.random.default_rng(0).uniform(size=(3, *SHAPE)).astype(np.float32)


def residual(name):
    """A block with layers of the same names as another one's."""
    inputs = keras.Input((None, None, 4))
    outputs = layers.Conv2D(4, 3, padding="same", activation="relu", name="first")(inputs)
    outputs = layers.Conv2D(4, 3, padding="same", name="second")(outputs)
    return keras.Model(inputs, layers.ReLU(name="out")(layers.add([inputs, outputs])), name=name)


def nested():
    inputs = keras.Input(SHAPE)
    outputs = layers.Conv2D(4, 3, padding="same", name="stem")(inputs)
    outputs = keras.Sequential([residual("one"), residual("two")], name="body")(outputs)
    outputs = layers.Dense(5, name="code")(layers.GlobalAveragePooling2D()(outputs))
    return keras.Model(inputs, outputs)


class OwnBlock(layers.Layer):
    """A residual block of one's own, with its ReLU in `call`."""

    def __init__(self, bent=True):
        super().__init__()
        self.convolution = layers.Conv2D(3, 3, padding="same")
        self.bent = bent

    def call(self, inputs):
        outputs = self.convolution(inputs)
        return inputs + (keras.ops.relu(outputs) if self.bent else outputs)


def hidden_paths(network):
    return [step.path for step in read_graph(network, "encoder").hidden]


def test_layers_in_nested_blocks_are_hidden_layers(images):
    network = nested()
    assert hidden_paths(network) == ["body/one/first", "body/one/out", "body/two/first", "body/two/out"]
    codes, combined = combined_code(network)(images)
    np.testing.assert_allclose(codes, network(images), atol=1e-6)
    assert combined.shape == (3, 4 * 4 + 5)
    stem = network.get_layer("stem")(images)
    one, two = network.get_layer("body").layers
    first = one.get_layer("first")(stem)
    after_one = one(stem)
    expected = [first, after_one, two.get_layer("first")(after_one), two(after_one)]
    means = np.concatenate([np.mean(part, axis=(1, 2)) for part in expected], axis=1)
    np.testing.assert_allclose(combined[:, :16], means, atol=1e-5)


def test_a_network_that_was_read_is_what_it_was(images, tmp_path):
    network = nested()
    network.compile("adam", "mse")
    before = network(images)
    combined_code(network)
    network.save(tmp_path / "network.keras")
    loaded = keras.models.load_model(tmp_path / "network.keras")
    np.testing.assert_array_equal(loaded(images), before)
    np.testing.assert_array_equal(combined_code(loaded)(images)[1], combined_code(network)(images)[1])


def test_activations_that_are_no_layers_are_found(images):
    inputs = keras.Input(SHAPE)
    outputs = keras.ops.relu(layers.Conv2D(4, 3)(inputs))
    outputs = layers.Lambda(lambda values: values / 255, name="scaled")(outputs)
    outputs = layers.Lambda(lambda values: keras.ops.tanh(values), name="bent")(outputs)
    outputs = keras.activations.gelu(outputs * 2 - 1)
    outputs = keras.ops.softmax(layers.Dense(3)(layers.Flatten()(outputs)))
    found = hidden_paths(keras.Model(inputs, outputs))
    assert len(found) == 3
    assert "bent" in found
    assert "scaled" not in found


def test_blocks_of_one_s_own_are_tried(images):
    for bent in (True, False):
        block = OwnBlock(bent)
        network = keras.Sequential([keras.Input(SHAPE), block, layers.Flatten(), layers.Dense(2)])
        assert hidden_paths(network) == ([block.name] if bent else [])


def test_wrappers_and_linear_activations():
    network = keras.Sequential(
        [
            keras.Input(SHAPE),
            layers.SpectralNormalization(layers.Conv2D(3, 3, activation="relu"), name="wrapped"),
            layers.Activation("linear"),
            layers.BatchNormalization(),
            layers.Flatten(),
            layers.Dense(2),
        ]
    )
    assert hidden_paths(network) == ["wrapped"]


@pytest.mark.parametrize("name", ["ResNet50", "MobileNetV2", "EfficientNetB0"])
def test_keras_applications_are_read(name):
    base = getattr(keras.applications, name)(weights=None, include_top=False, input_shape=(32, 32, 3), pooling="avg")
    inputs = keras.Input((32, 32, 3))
    network = keras.Model(inputs, layers.Dense(5)(base(inputs, training=False)))
    graph = read_graph(network, "model")
    assert len(graph.hidden) > 30
    images = np.random.default_rng(0).uniform(size=(2, 32, 32, 3)).astype(np.float32)
    output, (last,) = graph.runner(graph.hidden[-1:])(images)
    np.testing.assert_allclose(output, network(images, training=False), atol=1e-6)
    np.testing.assert_allclose(np.mean(last, axis=(1, 2)), base(images, training=False), atol=1e-5)


def test_a_layer_is_found_by_its_path():
    graph = read_graph(nested(), "model")
    assert graph.find("stem").path == "stem"
    assert graph.find("body/two/out") is graph.find("two.out") is graph.find("body.two.out")
    assert graph.find("two").leaf is graph.find("two/out")
    with pytest.raises(InputError, match=r"has no layer 'nothing': give the path of one, as of the last ones .*code"):
        graph.find("nothing")
    with pytest.raises(InputError, match=r"has 2 layers 'out': give the path of one, .*body/one/out, body/two/out"):
        graph.find("out")


def test_what_cannot_be_read_is_refused():
    class Own(keras.Model):
        pass

    with pytest.raises(InputError, match="the encoder is a Own, whose hidden layers cannot be read"):
        read_graph(Own(), "encoder")
    first, second = keras.Input(SHAPE), keras.Input(SHAPE)
    with pytest.raises(InputError, match="has 2 inputs and 1 outputs"):
        read_graph(keras.Model([first, second], layers.add([first, second])), "encoder")
