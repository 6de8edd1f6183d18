"""A whole classifier is cut in two: the same logits, or one sentence."""

import keras
import numpy as np
import pytest
from keras import layers, ops

from erkeras.attacks.victim import Victim
from erkeras.errors import InputError
from erkeras.models.networks import cut_classifier

SHAPE = (8, 8, 3)


@pytest.fixture
def images():
    return np.random.default_rng(0).uniform(size=(5, *SHAPE)).astype(np.float32)


def randomized(model):
    """A model whose every weight, those of statistics among them, says something."""
    random = np.random.RandomState(0)
    for weight in model.weights:
        if weight.dtype == "float32":
            low, high = (0.5, 1.5) if "variance" in weight.path or "gamma" in weight.path else (-0.5, 0.5)
            weight.assign(random.uniform(low, high, weight.shape))
    return model


def sequential(*ends, last=None):
    return randomized(
        keras.Sequential(
            [
                keras.Input(SHAPE),
                layers.Rescaling(2.0, -1.0),
                layers.Conv2D(4, 3, activation="relu", name="conv"),
                layers.BatchNormalization(),
                layers.Flatten(name="flat"),
                layers.Dropout(0.3),
                layers.Dense(7, activation="relu", name="hidden"),
                layers.Dropout(0.3),
                layers.Dense(3, activation=last, name="end"),
                *ends,
            ]
        )
    )


def functional(last="softmax", **options):
    """With operations that are no layers, a skip connection before the code, and one behind it."""
    inputs = keras.Input(SHAPE)
    outputs = layers.Conv2D(4, 3, padding="same", name="stem")(inputs * 2.0 - ops.mean(inputs, axis=-1, keepdims=True))
    outputs = layers.ReLU(name="relu")(layers.add([outputs, layers.Conv2D(4, 1)(outputs)]))
    outputs = layers.GlobalAveragePooling2D(name="pool")(outputs)
    code = layers.Dense(5, name="code")(outputs)
    outputs = layers.Dense(5, activation="relu", name="hidden")(code)
    outputs = layers.Concatenate(name="both")([outputs, code])
    return randomized(keras.Model(inputs, layers.Dense(3, activation=last, name="end")(outputs), **options))


def behind_a_backbone(training=False):
    inputs = keras.Input(SHAPE)
    outputs = layers.BatchNormalization(name="norm")(layers.Conv2D(4, 3, name="stem")(inputs))
    outputs = layers.ReLU(name="top")(outputs)
    backbone = keras.Model(inputs, layers.GlobalMaxPooling2D(name="pool")(outputs), name="backbone")
    inputs = keras.Input(SHAPE)
    outputs = backbone(layers.Rescaling(255.0)(inputs) / 127.5 - 1.0, training=training)
    return randomized(keras.Model(inputs, layers.Dense(3, activation="softmax")(layers.Dropout(0.2)(outputs))))


def inside_another(code="code"):
    """The code is in a nested model, whose end is a softmax of `keras.ops`."""
    inner = functional(last=None)
    inner = keras.Model(inner.inputs, ops.softmax(inner.outputs[0]), name="inner")
    return keras.Sequential([keras.Input(SHAPE), layers.Rescaling(0.5), inner], name="outer")


def convolutional():
    return randomized(
        keras.Sequential(
            [
                keras.Input(SHAPE),
                layers.Conv2D(6, 8, activation="relu", name="wide"),
                layers.Reshape((6,), name="code"),
                layers.Reshape((1, 1, 6)),
                layers.Conv2D(3, 1, name="logits"),
                layers.Flatten(),
                layers.Activation("softmax"),
                layers.Reshape((3,)),
            ]
        )
    )


@pytest.mark.parametrize(
    ("build", "code_layer", "size"),
    [
        (sequential, None, 7),
        (sequential, "hidden", 7),
        (sequential, "flat", 144),
        (lambda: sequential(last="softmax"), None, 7),
        (lambda: sequential(layers.Softmax()), None, 7),
        (lambda: sequential(layers.Activation("softmax"), layers.Reshape((3,))), None, 7),
        (lambda: sequential(layers.Activation("log_softmax")), "hidden", 7),
        (functional, "code", 5),
        (functional, "pool", 4),
        (lambda: functional(None), "code", 5),
        (behind_a_backbone, None, 4),
        (behind_a_backbone, "backbone", 4),
        (behind_a_backbone, "backbone/pool", 4),
        (lambda: behind_a_backbone(training=True), "backbone", 4),
        (inside_another, "inner/code", 5),
        (inside_another, "pool", 4),
        (convolutional, None, 6),
    ],
)
def test_the_halves_give_the_models_own_logits(images, build, code_layer, size):
    model = build()
    seen = Victim(model)
    expected = seen.outputs_for(images, "logits", len(images))
    encoder, classifier = cut_classifier(model, code_layer)
    codes = encoder(images, training=False)
    assert codes.shape == (5, size)
    assert np.ptp(expected) > 0.01
    np.testing.assert_allclose(classifier(codes, training=False), expected, atol=1e-6, rtol=1e-6)
    assert encoder.output_shape == classifier.input_shape == (None, size)
    assert classifier.output_shape == (None, 3)
    assert len(encoder.weights) + len(classifier.weights) == len(model.weights)


def test_a_sequential_model_gives_sequential_halves():
    halves = cut_classifier(sequential())
    assert [type(half) for half in halves] == [keras.Sequential] * 2
    assert [half.name for half in halves] == ["encoder", "classifier"]
    assert [layer.name for layer in halves[1].layers][-1] == "end"
    assert [type(half).__name__ for half in cut_classifier(functional(), "code")] == ["Functional"] * 2


def test_the_halves_are_copies(images):
    model = functional()
    before, expected = model.get_weights(), np.array(model(images))
    for half in cut_classifier(model, "code"):
        for weight in half.weights:
            weight.assign(weight + 1)
    assert all(np.array_equal(*pair) for pair in zip(before, model.get_weights(), strict=True))
    np.testing.assert_array_equal(model(images), expected)
    assert model.layers[-1].activation is keras.activations.softmax


def test_what_is_frozen_stays_so(images):
    model = behind_a_backbone()
    model.get_layer("backbone").trainable = False
    encoder, classifier = cut_classifier(model, "pool")
    assert (len(encoder.trainable_weights), len(classifier.trainable_weights)) == (0, 2)
    np.testing.assert_array_equal(encoder(images, training=True), encoder(images))
    trained, _ = cut_classifier(behind_a_backbone(training=None), "pool")
    assert not np.allclose(trained(images, training=True), trained(images), atol=1e-3)
    assert len(trained.trainable_weights) == 4


def test_a_layer_that_adapts_keeps_what_it_has_adapted_to(images):
    normalization = layers.Normalization()
    normalization.adapt(images)
    model = keras.Sequential(
        [keras.Input(SHAPE), normalization, layers.Flatten(), layers.Dense(4, "relu"), layers.Dense(3)]
    )
    encoder, classifier = cut_classifier(model)
    np.testing.assert_allclose(classifier(encoder(images)), model(images), atol=1e-6)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision_stays(images, policy):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        model = sequential(layers.Activation("softmax", dtype="float32"))
        encoder, classifier = cut_classifier(model)
    finally:
        keras.config.set_dtype_policy(before)
    assert encoder.get_layer("conv").dtype_policy.name == policy
    np.testing.assert_allclose(ops.softmax(classifier(encoder(images))), model(images), atol=1e-6)


@keras.saving.register_keras_serializable("test_cut")
def doubled(values):
    return 2 * values


def test_a_lambda_of_a_registered_function_is_kept_and_another_refused(images):
    model = sequential(layers.Lambda(doubled))
    encoder, classifier = cut_classifier(model)
    np.testing.assert_allclose(classifier(encoder(images)), model(images), atol=1e-6)
    with pytest.raises(InputError, match="the layer 'own' is a Lambda of a function that no file can hold: register"):
        cut_classifier(sequential(layers.Lambda(lambda values: 2 * values, name="own")))


class Unconfigured(layers.Layer):
    """One whose argument no configuration holds."""

    def __init__(self, function, **options):
        super().__init__(**options)
        self.function = function

    def call(self, values):
        return self.function(values)


class Forgetful(layers.Layer):
    """One whose configuration leaves out what it computes with."""

    factor = 1.0

    def call(self, values):
        return self.factor * values


def forgetful():
    layer = Forgetful()
    layer.factor = 2.0
    return layer


class OwnSoftmax(layers.Layer):
    def call(self, values):
        return ops.softmax(values)


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.end = layers.Dense(3)

    def call(self, images):
        return self.end(layers.Flatten()(images))


def subclassed():
    model = Subclassed()
    model(np.zeros((1, *SHAPE)))
    return model


def of_inputs(*shapes, outputs=1):
    inputs = [keras.Input(shape) for shape in shapes]
    code = layers.Dense(4, activation="relu")(layers.GlobalAveragePooling2D()(sum(inputs[1:], inputs[0])))
    made = [layers.Dense(3)(code) for _ in range(outputs)]
    return keras.Model(inputs if len(inputs) > 1 else inputs[0], made if outputs > 1 else made[0])


def shared():
    inputs, twice = keras.Input(SHAPE), layers.Dense(4, activation="relu", name="twice")
    code = twice(layers.Dense(4)(layers.Flatten()(inputs)))
    return keras.Model(inputs, layers.Dense(3)(twice(layers.Dense(4, name="between")(code))))


def skipping():
    inputs = keras.Input(SHAPE)
    first = layers.Dense(5, activation="relu", name="first")(layers.GlobalAveragePooling2D(name="pool")(inputs))
    second = layers.Dense(5, activation="relu", name="second")(first)
    return keras.Model(inputs, layers.Dense(3, name="end")(layers.add([first, second], name="sum")))


@pytest.mark.parametrize(
    ("build", "code_layer", "message"),
    [
        (lambda: "model.keras", None, "a str cannot be cut in two: give a Sequential or Functional keras.Model"),
        (lambda: keras.Sequential([layers.Dense(3)]), None, "is not built: give it an Input"),
        (subclassed, None, "the model is a Subclassed, whose hidden layers cannot be read"),
        (lambda: of_inputs(SHAPE, SHAPE), None, "has 2 inputs and 1 outputs"),
        (lambda: of_inputs(SHAPE, outputs=2), None, "has 1 inputs and 2 outputs"),
        (
            lambda: of_inputs((None, None, 3)),
            None,
            r"takes inputs of shape \(None, None, 3\): give one that .* one size",
        ),
        (lambda: keras.Sequential([keras.Input((9,)), layers.Dense(3)]), None, r"takes inputs of shape \(9,\)"),
        (
            lambda: keras.Sequential([keras.Input(SHAPE, dtype="uint8"), layers.Flatten(), layers.Dense(3)]),
            None,
            r"the model takes uint8: give one that takes float images in \[0, 1\]",
        ),
        (lambda: sequential(last="sigmoid"), None, r"ends in sigmoids \(end\), one for each label"),
        (lambda: sequential(layers.Dense(1, "sigmoid")), None, "one number for each image"),
        (lambda: sequential(OwnSoftmax(name="own")), None, "own shows no softmax that could be taken off"),
        (
            lambda: sequential(layers.Softmax(), layers.Rescaling(0.5), layers.Rescaling(2.0, name="scaled")),
            None,
            "the model gives probabilities, and scaled shows no softmax",
        ),
        (sequential, "nothing", "no layer 'nothing': give the path of one, as of the last ones .*conv.*hidden.*end"),
        (sequential, "conv", r"'conv' gives outputs of shape \(n, 6, 6, 4\): name one .* as flat, .*hidden, dropout"),
        (sequential, "end", "the code layer 'end' gives the logits: name a layer before it"),
        (lambda: sequential(layers.Softmax()), "end", "behind the code layer 'end' the model has no weights"),
        (inside_another, "inner", "the code layer 'inner' gives the logits"),
        (
            lambda: keras.Sequential([keras.Input(SHAPE), layers.Flatten(), layers.Dense(3)]),
            None,
            "no hidden layer with a nonlinearity, whose output would be the code: name a layer by code_layer",
        ),
        (functional, None, "both uses the output of code, which bypasses the code layer hidden: name a code layer"),
        (skipping, "second", "sum uses the output of first, which bypasses the code layer second"),
        (shared, "between", r"uses the weights twice/kernel before and behind the code layer 'between'"),
        (
            lambda: sequential(Unconfigured(ops.abs, name="own")),
            None,
            r"the layer 'own' \(Unconfigured\) cannot be copied",
        ),
        (lambda: sequential(forgetful()), None, "a copy of the model gives other logits than the model, by"),
    ],
)
def test_what_cannot_be_cut_is_one_sentence(build, code_layer, message):
    with pytest.raises(InputError, match=message):
        cut_classifier(build(), code_layer)
