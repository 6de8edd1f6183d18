"""What Keras does with the same data, options and networks, ERClassifier does too, or refuses in one sentence."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from erkeras.attacks import PGD
from erkeras.errors import InputError
from erkeras.models import DefenseGAN, ERClassifier, WassersteinCritic, WassersteinGAN
from erkeras.models.networks import NETWORKS, build_generator, build_image_critic, build_networks
from erkeras.randomness import StepStream
from erkeras.threat import ThreatModel
from helpers.training_state import OPTIMIZERS, assert_same, fit, state

WEIGHTS = np.linspace(0, 3, 12).astype(np.float32)
KERAS_LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def decaying():
    """Encoder and classifier with penalties of all kinds that Keras knows."""
    keras.utils.set_random_seed(1)
    encoder = keras.Sequential(
        [
            keras.Input((4, 4, 1)),
            layers.Flatten(),
            layers.Dense(6, "tanh", kernel_regularizer=keras.regularizers.L2(0.1)),
            layers.Dense(3, activity_regularizer=keras.regularizers.L2(0.1)),
        ]
    )
    classifier = keras.Sequential(
        [keras.Input((3,)), layers.Dense(3, bias_regularizer=keras.regularizers.L1(0.1), bias_initializer="ones")]
    )
    return encoder, classifier


@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_loss_and_steps_are_those_of_keras(images, labels, weights):
    """Of a plain Keras model of the same networks: logged in training and validation, and descended."""
    plain = keras.Sequential([keras.Input((4, 4, 1)), *decaying()])
    plain.compile(keras.optimizers.SGD(0.1), KERAS_LOSS)
    model = ERClassifier(*decaying())
    model.compile(keras.optimizers.SGD(0.1))
    validation = (images, labels) if weights is None else (images, labels, weights)
    histories = [
        one.fit(
            images, labels, sample_weight=weights, epochs=2, batch_size=5, shuffle=False, verbose=0,
            validation_data=validation,
        ).history
        for one in (plain, model)
    ]  # fmt: skip
    for name in ("loss", "val_loss"):
        np.testing.assert_allclose(histories[1][name], histories[0][name], rtol=1e-5)
    for one, other in zip(plain.trainable_variables, model.trainable_variables, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


@pytest.mark.parametrize("adversary", [None, PGD(ThreatModel("l_inf", 0.2), steps=2)])
def test_weights_in_a_column_weigh_as_in_a_row(tiny_model, images, labels, adversary):
    found = []
    for weights in (WEIGHTS, WEIGHTS[:, np.newaxis]):
        model = tiny_model(adversary=adversary)
        history = model.fit(images, labels, sample_weight=weights, batch_size=4, shuffle=False, verbose=0).history
        found.append((state(model), history, model.evaluate(images, labels, sample_weight=weights, verbose=0)))
    assert_same(found[0][0], found[1][0])
    assert found[0][1:] == found[1][1:]


@pytest.mark.parametrize("weights", [np.ones((12, 3)), np.ones((12, 1, 1))])
@pytest.mark.parametrize("method", ["train_step", "test_step"])
def test_weights_of_another_shape_are_refused(tiny_model, images, labels, weights, method):
    with pytest.raises(InputError, match="sample_weight has shape"):
        getattr(tiny_model(), method)((tf.constant(images), tf.constant(labels), tf.constant(weights)))


def test_a_loss_of_keras_is_an_objective(tiny_networks, images, labels):
    keras.utils.set_random_seed(1)
    ours = ERClassifier(*tiny_networks())
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction=None)
    theirs = ERClassifier(ours.encoder, ours.classifier, objective=loss)
    found = []
    for model in (ours, theirs):
        model.compile("sgd")
        found.append(model.evaluate(images, labels, sample_weight=WEIGHTS, verbose=0))
    assert found[0] == pytest.approx(found[1], rel=1e-6)


@pytest.mark.parametrize("objective", [KERAS_LOSS, lambda labels, logits: logits])
def test_an_objective_of_other_than_one_loss_an_image_is_refused(tiny_networks, images, labels, objective):
    model = ERClassifier(*tiny_networks(), objective=objective)
    model.compile("sgd")
    with pytest.raises(InputError, match="one for each image"):
        model.train_step((tf.constant(images), tf.constant(labels)))


@pytest.mark.parametrize("options", [{}, {"inner_bfloat16": True}, {"clean_fraction": 0.5}, {"adversary": None}])
def test_metrics_of_compile_see_clean_images(tiny_model, images, labels, options):
    """In training and in validation, as clean_accuracy does."""
    names = {"metrics": "accuracy", "weighted_metrics": "weighted"}
    metrics = {kind: [keras.metrics.SparseCategoricalAccuracy(name=name)] for kind, name in names.items()}
    model = tiny_model(initial=2, compiled=metrics, **options)
    history = model.fit(
        images, labels, sample_weight=WEIGHTS, batch_size=4, epochs=3, verbose=0,
        validation_data=(images, labels, WEIGHTS),
    ).history  # fmt: skip
    assert history["weighted"] == pytest.approx(history["clean_accuracy"])
    assert history["val_weighted"] == pytest.approx(history["val_clean_accuracy"])
    model.optimizer.learning_rate = 0.0
    history = model.fit(images, labels, verbose=0, validation_data=(images, labels)).history
    if "adversary" not in options:
        assert history["accuracy"] == pytest.approx(history["clean_accuracy"])


def test_every_micro_batch_draws_its_own_numbers(tiny_networks, images, labels):
    model = ERClassifier(*tiny_networks(), adversary=PGD(ThreatModel("l_inf", 0.2), steps=1))
    optimizer = keras.optimizers.SGD(0.1, gradient_accumulation_steps=3)
    model.compile(optimizer, run_eagerly=True)
    keys = []
    inner = model._step_seed

    def spy(step, stream):
        keys.append((stream, *inner(step, stream).numpy()))
        return inner(step, stream)

    model._step_seed = spy
    model.fit(images, labels, batch_size=2, epochs=2, shuffle=False, verbose=0)
    assert optimizer.iterations == 4
    assert len(keys) == len(set(keys)) == 24
    assert {stream for stream, *_ in keys} == {StepStream.ADVERSARY, StepStream.PRIOR}


def test_accumulated_training_goes_on_bit_for_bit(tiny_model, images, labels, tmp_path):
    """Saved in the middle of an accumulation."""

    def build():
        model = tiny_model()
        model.compile(*(keras.optimizers.SGD(0.1, gradient_accumulation_steps=2) for _ in OPTIMIZERS))
        return model

    straight, halfway = build(), build()
    fit(straight, images, labels, 2)
    fit(halfway, images, labels, 1)  # three batches
    halfway.save(tmp_path / "model.keras")
    restored = keras.models.load_model(tmp_path / "model.keras")
    fit(restored, images, labels, 1)
    assert_same(state(straight), state(restored))


@pytest.mark.parametrize("when", ["built", "trained", "loaded"])
def test_export_of_keras_works(tiny_model, images, labels, tmp_path, when):
    model = tiny_model()
    if when == "trained":
        fit(model, images, labels, 1)
    if when == "loaded":
        model.save(tmp_path / "model.keras")
        model = keras.models.load_model(tmp_path / "model.keras")
    model.export(tmp_path / "exported", verbose=False)
    exported = tf.saved_model.load(tmp_path / "exported")
    np.testing.assert_allclose(exported.serve(tf.constant(images)), model(images), atol=1e-6)


def test_export_of_an_ensemble_and_behind_a_purifier_works(tiny_model, images, tmp_path):
    generator = keras.Sequential([keras.Input((3,)), layers.Dense(16), layers.Reshape((4, 4, 1))])
    classifier = keras.Sequential([keras.Input((4, 4, 1)), layers.Flatten(), layers.Dense(3)])
    purified = DefenseGAN(generator, classifier, steps=2, restarts=2)
    for name, model in (("ensemble", tiny_model(passes=2)), ("purified", purified)):
        model.export(tmp_path / name, verbose=False)
        exported = tf.saved_model.load(tmp_path / name)
        np.testing.assert_allclose(exported.serve(tf.constant(images)), model(images), atol=1e-5)


@pytest.mark.parametrize("first", OPTIMIZERS)
def test_one_optimizer_in_two_places_is_refused(tiny_model, first):
    model = tiny_model()
    shared = keras.optimizers.Adam(1e-3)
    second = OPTIMIZERS[(OPTIMIZERS.index(first) + 1) % 3]
    with pytest.raises(InputError, match="same optimizer"):
        model.compile(**{first: shared, second: shared})


def test_an_optimizer_of_another_model_is_refused(tiny_model, images, labels):
    first, second = tiny_model(), tiny_model()
    with pytest.raises(InputError, match="other variables"):
        second.compile(first.optimizer)
    with pytest.raises(InputError, match="other variables"):
        second.compile(first.critic_optimizer)
    before = [variable.numpy() for variable in first.optimizer.variables]
    first.compile(*(getattr(first, name) for name in OPTIMIZERS))  # its own go on
    assert_same(before, [variable.numpy() for variable in first.optimizer.variables])
    fit(first, images, labels, 1)


def test_an_optimizer_of_another_gan_is_refused():
    first, second = (WassersteinGAN(build_generator((8, 8, 1)), build_image_critic((8, 8, 1))) for _ in range(2))
    first.compile()
    with pytest.raises(InputError, match="other variables"):
        second.compile(first.optimizer)
    shared = keras.optimizers.Adam(1e-3)
    with pytest.raises(InputError, match="same optimizer"):
        second.compile(shared, shared)


@pytest.fixture
def _channels_first():
    keras.config.set_image_data_format("channels_first")
    yield
    keras.config.set_image_data_format("channels_last")


def outputs(network):
    return [layer.output.shape for layer in network.layers]


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_are_the_same_under_channels_first(name):
    shape = {"digits": (8, 8, 1), "stl10": (96, 96, 3)}.get(name, (32, 32, 3))
    expected = outputs(build_networks(name, shape, 4, 10)[0])
    try:
        keras.config.set_image_data_format("channels_first")
        assert outputs(build_networks(name, shape, 4, 10)[0]) == expected
        assert outputs(build_generator((8, 8, 1)))[-1] == (None, 8, 8, 1)
        assert outputs(build_image_critic((8, 8, 1)))[1] == (None, 4, 4, 16)
    finally:
        keras.config.set_image_data_format("channels_last")


class Convolutions(keras.Model):
    """A convolution and a code; a class of one's own, which knows no shapes before it is called."""

    def __init__(self, data_format, permute=False):
        super().__init__()
        self.permute = permute
        self.convolution = layers.Conv2D(4, 3, padding="same", data_format=data_format)
        self.flatten, self.code = layers.Flatten(), layers.Dense(3)

    def call(self, images):
        if self.permute:
            images = tf.transpose(images, [0, 3, 1, 2])
        return self.code(self.flatten(self.convolution(images)))


def convolutional(*first, data_format="channels_first", shape=(4, 4, 1)):
    stack = [*first, layers.Conv2D(4, 3, padding="same", data_format=data_format), layers.Flatten(), layers.Dense(3)]
    return keras.Sequential([keras.Input(shape), *stack])


@pytest.mark.parametrize(
    "build",
    [
        convolutional,
        lambda: convolutional(shape=(1, 4, 4)),
        lambda: convolutional(
            layers.MaxPooling2D(2, data_format="channels_first"), data_format="channels_last", shape=(4, 4, 2)
        ),
        lambda: keras.Sequential([keras.Input((4, 4, 1)), convolutional()]),
        lambda: convolutional(layers.Conv2D(2, 1), layers.MaxPooling2D(2, data_format="channels_first")),
        lambda: keras.Model(*(lambda network: (network.inputs, network.outputs))(convolutional())),
    ],
)
def test_encoders_of_channels_first_are_refused(tiny_networks, build):
    with pytest.raises(InputError, match="channels_first"):
        ERClassifier(build(), tiny_networks()[1])


def test_a_purified_classifier_of_channels_first_is_refused():
    generator = keras.Sequential([keras.Input((3,)), layers.Dense(16), layers.Reshape((4, 4, 1))])
    with pytest.raises(InputError, match="channels_first"):
        DefenseGAN(generator, convolutional())


@pytest.mark.usefixtures("_channels_first")
def test_encoders_of_the_default_format_are_refused_under_channels_first(tiny_networks):
    encoder = keras.Sequential(
        [keras.Input((4, 4, 1)), layers.Conv2D(4, 3, padding="same"), layers.Flatten(), layers.Dense(3)]
    )
    with pytest.raises(InputError, match="channels_first"):
        ERClassifier(encoder, tiny_networks()[1])
    ERClassifier(*tiny_networks())  # Flatten alone is right


def test_encoders_that_permute_first_are_right(tiny_networks):
    assert ERClassifier(convolutional(layers.Permute((3, 1, 2))), tiny_networks()[1])._code_size == 3
    encoder = called(Convolutions("channels_first", permute=True), 4, 4, 1)
    assert ERClassifier(encoder, called(Logits(), 3))._code_size == 3


def test_a_class_of_ones_own_of_channels_first_is_refused(tiny_networks):
    with pytest.raises(InputError, match="channels_first"):
        ERClassifier(called(Convolutions("channels_first"), 4, 4, 1), tiny_networks()[1])


class Logits(keras.Model):
    def __init__(self, size=3):
        super().__init__()
        self.hidden, self.logits = layers.Dense(size), layers.Dense(3)

    def call(self, codes):
        return self.logits(self.hidden(codes))


def called(network, *shape):
    network(np.zeros((2, *shape), np.float32))
    return network


def test_two_classes_of_ones_own_train_save_and_export(images, labels, tmp_path):
    model = ERClassifier(
        called(Convolutions("channels_last"), 4, 4, 1), called(Logits(), 3), regularizer=WassersteinCritic(0.1)
    )
    model.compile()
    fit(model, images, labels, 1)
    assert model.embed(images).shape == (12, 3)
    model.export(tmp_path / "exported", verbose=False)
    exported = tf.saved_model.load(tmp_path / "exported")
    np.testing.assert_allclose(exported.serve(tf.constant(images)), model(images), atol=1e-5)


def test_two_classes_of_ones_own_that_do_not_fit_are_refused():
    with pytest.raises(InputError, match=r"codes of shape \(1, 3\)"):
        ERClassifier(called(Convolutions("channels_last"), 4, 4, 1), called(Logits(), 5))


def test_a_network_that_never_saw_an_image_is_refused():
    encoder, classifier = Convolutions("channels_last"), Logits()
    encoder.built = classifier.built = True
    with pytest.raises(InputError, match="or call your own encoder, "):
        ERClassifier(encoder, classifier)
    classifier = called(Logits(), 3)  # it knows
    assert ERClassifier(encoder, classifier)._code_size == 3
