"""Detectors on models that are no ERClassifier, and on encoders of every make."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from erkeras.detection import ERDetector, KDDetector, LIDDetector
from erkeras.errors import InputError
from erkeras.models import ERClassifier
from erkeras.serving import export_saved_model

SHAPE = (6, 6, 1)
KINDS = {"kd": KDDetector, "lid": LIDDetector, "er": ERDetector}


@pytest.fixture(scope="module")
def data():
    random = np.random.RandomState(0)
    labels = np.arange(240) % 3
    images = np.clip(0.5 * random.rand(240, *SHAPE) + labels[:, None, None, None] / 6, 0, 1).astype(np.float32)
    return images, labels, random.randint(0, 2, (60, *SHAPE)).astype(np.float32)


def plain(*ends, last=None, seed=0):
    keras.utils.set_random_seed(seed)
    return keras.Sequential(
        [
            keras.Input(SHAPE),
            layers.Conv2D(4, 3, activation="relu", name="conv"),
            layers.Flatten(),
            layers.Dense(7, activation="relu", name="hidden"),
            layers.Dense(3, activation=last, name="end"),
            *ends,
        ]
    )


def behind_a_backbone():
    keras.utils.set_random_seed(0)
    inputs = keras.Input(SHAPE)
    outputs = layers.Conv2D(4, 3, padding="same", name="stem")(inputs)
    outputs = layers.ReLU(name="block_relu")(layers.add([outputs, layers.Conv2D(4, 3, padding="same")(outputs)]))
    outputs = layers.Conv2D(5, 3, activation="relu", name="top")(outputs)
    backbone = keras.Model(inputs, outputs, name="backbone")
    inputs = keras.Input(SHAPE)
    outputs = layers.GlobalAveragePooling2D()(backbone(inputs, training=False))
    return keras.Model(inputs, layers.Dense(3, activation="softmax")(outputs))


def fitted(kind, model, data, *args, **options):
    images, labels, odd = data
    return kind(model, *args, **options).fit(images[:150], labels[:150]).calibrate(images[150:], odd[:30])


@pytest.mark.parametrize("kind", KINDS.values())
@pytest.mark.parametrize(
    "model",
    [
        plain(),
        plain(last="softmax"),
        plain(layers.Softmax()),
        plain(layers.Activation("softmax")),
        plain(layers.Lambda(lambda values: keras.ops.exp(values) / keras.ops.sum(keras.ops.exp(values), 1, True))),
    ],
    ids=["logits", "softmax", "softmax layer", "activation", "own softmax"],
)
def test_every_end_of_a_model_gives_the_same(kind, model, data):
    """The softmax is taken off, so that a model with it is the model without it."""
    odd = data[2]
    reference = plain()
    reference.set_weights(model.get_weights())
    expected, found = (fitted(kind, one, data).predict(odd[30:]) for one in (reference, model))
    np.testing.assert_allclose(found.probabilities, keras.ops.softmax(reference(odd[30:])), atol=1e-6)
    np.testing.assert_array_equal(found.label, expected.label)
    np.testing.assert_allclose(found.score, expected.score, atol=2e-3)


def test_the_code_is_the_last_hidden_layer_or_the_one_that_is_named(data):
    images = data[0][:5]
    model = plain()
    conv = model.layers[0](images)
    hidden = model.layers[2](layers.Flatten()(conv))
    for name, expected in ((None, hidden), ("hidden", hidden), ("conv", np.mean(conv, axis=(1, 2)))):
        codes, features, logits = ERDetector(model, "code", code_layer=name)._extract(tf.constant(images))
        np.testing.assert_allclose(codes, expected, atol=1e-6)
        np.testing.assert_allclose(features, expected, atol=1e-6)
        np.testing.assert_allclose(logits, model(images), atol=1e-6)
    combined = ERDetector(model)._extract(tf.constant(images))[1]
    np.testing.assert_allclose(combined, np.concatenate([np.mean(conv, axis=(1, 2)), hidden], axis=1), atol=1e-6)
    np.testing.assert_allclose(KDDetector(model)._extract(tf.constant(images))[1], hidden, atol=1e-6)


def test_a_path_reaches_into_a_backbone(data):
    images = data[0][:5]
    model = behind_a_backbone()
    for path in ("backbone/block_relu", "backbone.block_relu", "block_relu"):
        detector = ERDetector(model, "code", code_layer=path)
        inside = keras.Model(
            model.get_layer("backbone").inputs, model.get_layer("backbone").get_layer("block_relu").output
        )
        expected = np.mean(inside(images), axis=(1, 2))
        np.testing.assert_allclose(detector._extract(tf.constant(images))[0], expected, atol=1e-6)
    assert ERDetector(model)._extract(tf.constant(images))[1].shape == (5, 4 + 5)  # block_relu's means, top's
    with pytest.raises(InputError, match="has no layer 'nothing'"):
        ERDetector(model, code_layer="nothing")


@pytest.mark.parametrize("kind", KINDS.values())
def test_it_finds_saves_loads_and_exports(kind, data, tmp_path):
    odd = data[2]
    model = behind_a_backbone()
    features = {"features": "code"} if kind is ERDetector else {}
    detector = fitted(kind, model, data, code_layer="backbone/block_relu", **features)
    found = detector.predict(odd)
    detector.save(tmp_path / "detector.npz")
    loaded = kind.load(tmp_path / "detector.npz", model)
    assert loaded.code_layer == "backbone/block_relu"
    np.testing.assert_array_equal(loaded.score(odd), found.score)
    model.save(tmp_path / "model.keras")
    again = kind.load(tmp_path / "detector.npz", keras.models.load_model(tmp_path / "model.keras"))
    np.testing.assert_array_equal(again.score(odd), found.score)

    export_saved_model(detector, tmp_path / "1")
    served = tf.saved_model.load(str(tmp_path / "1")).signatures
    answer = served["detect"](images=tf.constant(odd))
    np.testing.assert_allclose(answer["adversarial_score"], found.score, atol=1e-4)
    np.testing.assert_allclose(answer["probabilities"], model(odd), atol=1e-5)
    logits = served["logits"](images=tf.constant(odd))["logits"]
    np.testing.assert_allclose(keras.ops.softmax(logits), model(odd), atol=1e-5)
    assert np.abs(np.sum(logits, axis=1) - 1).max() > 1e-3  # no probabilities
    assert served["embed"](images=tf.constant(odd))["code"].shape == (60, 4)
    outputs = tf.function(detector.outputs)(tf.constant(odd))  # what an adaptive attacker sees
    np.testing.assert_array_equal(outputs.numpy()[:, :3].argmax(axis=1), found.label)


class Own(keras.Model):
    """An encoder that shows no layers and knows no shapes."""

    def __init__(self, **options):
        super().__init__(**options)
        self.flatten, self.hidden, self.code = layers.Flatten(), layers.Dense(6, "relu"), layers.Dense(4)

    def call(self, images, training=False):
        return self.code(self.hidden(self.flatten(images)))


def test_an_encoder_of_one_s_own_is_called(data, tmp_path):
    images, _, odd = data
    keras.utils.set_random_seed(0)
    encoder = Own()
    encoder(images[:1])
    model = ERClassifier(encoder, keras.Sequential([keras.Input((4,)), layers.Dense(3)]))
    detector = fitted(ERDetector, model, data, "code")
    assert detector.predict(odd).score.shape == (60,)
    np.testing.assert_allclose(detector.predict(odd).probabilities, keras.ops.softmax(model(odd)), atol=1e-6)
    detector.save(tmp_path / "detector.npz")
    np.testing.assert_array_equal(ERDetector.load(tmp_path / "detector.npz", model).score(odd), detector.score(odd))
    export_saved_model(detector, tmp_path / "1")
    with pytest.raises(InputError, match="and the model takes"):
        detector.predict(np.zeros((1, 7, 6, 1)))  # fitted on another size
    with pytest.raises(InputError, match=r"encoder is a Own, whose hidden layers cannot be read.*features 'code'\."):
        ERDetector(model)


def two_inputs():
    first, second = keras.Input(SHAPE), keras.Input(SHAPE)
    return keras.Model([first, second], layers.Dense(3)(layers.Flatten()(layers.add([first, second]))))


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        (lambda: lambda images: images, {}, "on a function: give an ERClassifier, or a Sequential or Functional"),
        (Own, {}, "is a Own, whose layers cannot be read: give a Sequential or Functional one, or an ERClassifier"),
        (two_inputs, {}, "has 2 inputs and 1 outputs"),
        (lambda: keras.Sequential([keras.Input((9,)), layers.Dense(3)]), {}, r"takes inputs of shape \(9,\)"),
        (
            lambda: keras.Sequential([keras.Input(SHAPE), layers.Flatten(), layers.Dense(3)]),
            {},
            "no hidden layer with a nonlinearity, whose output would be the code: name a layer by code_layer",
        ),
        (plain, {"code_layer": "conv"}, "no hidden layer before its code: use the features 'code'"),
        (plain, {"features": "hidden"}, "features are 'hidden'"),
    ],
)
def test_a_model_that_it_cannot_look_at_is_refused(model, options, message):
    with pytest.raises(InputError, match=message):
        ERDetector(model(), **options)


def test_one_sigmoid_is_refused(data):
    images, labels, _ = data
    model = keras.Sequential(
        [keras.Input(SHAPE), layers.Flatten(), layers.Dense(4, "relu"), layers.Dense(1, "sigmoid")]
    )
    with pytest.raises(InputError, match="give two logits"):
        ERDetector(model, "code").fit(images, labels % 2)


def test_an_er_classifier_has_a_code_of_its_own(tiny_model):
    with pytest.raises(InputError, match="code_layer is 'dense' and the model is an ERClassifier"):
        ERDetector(tiny_model(), code_layer="dense")


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
@pytest.mark.parametrize("kind", KINDS.values())
def test_probabilities_are_float32_under_mixed_precision(policy, kind, data):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        found = fitted(kind, plain(last="softmax"), data).predict(data[2])
    finally:
        keras.config.set_dtype_policy(before)
    assert found.probabilities.dtype == found.score.dtype == np.float32
    np.testing.assert_allclose(found.probabilities.sum(axis=1), 1, atol=1e-5)
