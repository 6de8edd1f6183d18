"""Networks of the user's own: what a function gives, and a trained classifier's file."""

import dataclasses
import sys
import types

import keras
import numpy as np
import pytest
from keras import layers

from erkeras.data import Split, load_dataset
from erkeras.errors import InputError
from erkeras.models import ERClassifier, WassersteinCritic
from erkeras.models.layers import NoiseLayer
from erkeras.recipes import Job, Recipe
from erkeras.training import (
    build_model,
    check_code_size,
    check_output,
    fit_model,
    own_networks,
    pinned,
    train,
    training_folder,
)
from erkeras.training.own import warnings_of_start
from helpers.interruptions import Interrupt

SHAPE = (8, 8, 1)
BASE = Recipe("digits", 16, epochs=1, batch_size=64, epsilon=0.1, steps=1, critic_units=(4,))


def encoder(image_shape, code_size=5):
    return keras.Sequential(
        [keras.Input(image_shape), layers.Conv2D(3, 3, activation="relu"), layers.Flatten(), layers.Dense(code_size)]
    )


def whole(image_shape=SHAPE, classes=10, size=6, last=None):
    inputs = keras.Input(image_shape)
    code = layers.Dense(size, activation="relu", name="code")(layers.Flatten()(inputs))
    code = layers.Dense(4, activation="relu", name="late")(code)
    return keras.Model(inputs, layers.Dense(classes, activation=last, name="end")(code))


@pytest.fixture
def given(monkeypatch):
    """Puts a function into a module, and gives the recipe that names it."""

    def name(function, **changes):
        module = types.ModuleType("own_networks_of_test")
        module.build = function
        monkeypatch.setitem(sys.modules, module.__name__, module)
        return dataclasses.replace(BASE, network=f"{module.__name__}:build", **changes)

    return name


@pytest.fixture
def saved(tmp_path):
    """Saves a model, and gives the recipe that starts from it."""

    def save(model, **changes):
        model.save(tmp_path / "own.keras")
        return dataclasses.replace(BASE, network=str(tmp_path / "own.keras"), **changes)

    return save


def made(recipe, classes=10):
    """Sizes of code and classes, and how many layers with weights the classifier has."""
    networks = own_networks(recipe, SHAPE, classes)
    assert networks[0].output_shape == networks[1].input_shape
    return networks[0].output_shape[1], networks[1].output_shape[1], len(networks[1].weights) // 2


@pytest.mark.parametrize(
    ("function", "changes", "found"),
    [
        (encoder, {}, (16, 10, 1)),  # it asks for code_size
        (encoder, {"code_size": 10}, (10, 10, 1)),  # of as many numbers as there are classes
        (lambda image_shape: encoder(image_shape, 7), {}, (7, 10, 1)),
        (lambda: encoder(SHAPE, 7), {}, (7, 10, 1)),
        (lambda **known: encoder(known["image_shape"], known["code_size"]), {"code_layer": None}, None),
        (whole, {}, (4, 10, 1)),  # it asks for classes
        (whole, {"code_layer": "code"}, (6, 10, 2)),
        (lambda: whole(last="softmax"), {}, (4, 10, 1)),  # it gives one number a class
        (lambda code_size, classes: whole(size=code_size), {"code_layer": "code", "code_size": 9}, (9, 10, 2)),
        (lambda code_size, image_shape: whole(size=code_size), {"code_layer": "code"}, (16, 10, 2)),
        (lambda: (encoder(SHAPE, 3), keras.Sequential([keras.Input((3,)), layers.Dense(10)])), {}, (3, 10, 1)),
    ],
)
def test_an_encoder_and_a_whole_classifier_are_told_apart(given, function, changes, found):
    if found is None:  # it takes all there is: classes too, so it is whole, and must give them
        with pytest.raises(InputError, match="gives 16 classes and the data set has 10"):
            made(given(function, **changes))
        return
    assert made(given(function, **changes)) == found


def test_a_whole_recipe_takes_them(given):
    model = build_model(given(encoder), SHAPE, 10, 3, seed=0)
    assert model.regularizer.critic.input_shape == (None, 16)
    model = build_model(given(whole, code_layer="code"), SHAPE, 10, 3, seed=0)
    assert type(model.regularizer) is WassersteinCritic
    assert model.regularizer.critic.input_shape == (None, 6)
    again = build_model(given(whole, code_layer="code"), SHAPE, 10, 3, seed=0)
    assert all(np.array_equal(*pair) for pair in zip(model.get_weights(), again.get_weights(), strict=True))


def test_rows_that_change_an_encoder_change_one_of_layers(given):
    model = build_model(given(encoder, noise=0.2, coefficient=0.0, defense="rse"), SHAPE, 10, 3, seed=0)
    assert isinstance(model.encoder.layers[0], NoiseLayer)
    model = build_model(given(encoder, regularizer="gaussian-kl"), SHAPE, 10, 3, seed=0)
    assert model.encoder.layers[-1].units == 16
    plain = build_model(given(whole, bottleneck=False, coefficient=0.0), SHAPE, 10, 3, seed=0)
    assert plain.encoder.output_shape == (None, 4)  # as it is
    noisy = build_model(given(whole, noise=0.2, coefficient=0.0), SHAPE, 10, 3, seed=0)
    assert any(isinstance(layer, NoiseLayer) for layer in noisy.encoder.layers)

    def nested(image_shape, code_size):
        return keras.Sequential([keras.Input(image_shape), encoder(image_shape, code_size)])

    with pytest.raises(InputError, match=r"\(rse\) was asked for, and the encoder has a model among its layers"):
        build_model(given(nested, noise=0.2, coefficient=0.0), SHAPE, 10, 3, seed=0)
    with pytest.raises(InputError, match=r"\(gaussian-kl\) was asked for, and the encoder has a model"):
        build_model(given(nested, regularizer="gaussian-kl"), SHAPE, 10, 3, seed=0)


def raises():
    raise KeyError("no such thing")


def frozen():
    model = whole()
    model.trainable = False
    return model


@pytest.mark.parametrize(
    ("function", "changes", "message"),
    [
        (3, {}, "is a int: give MODULE:FUNCTION"),
        (raises, {}, r"cannot be made \(KeyError: 'no such thing'\): correct the function"),
        (lambda: None, {}, "gives a NoneType: let it return a keras.Model"),
        (lambda: keras.Sequential([layers.Dense(3)]), {}, "gives a model that is not built: give the model an Input"),
        (lambda depth: whole(), {}, "asks for 'depth': let it take image_shape, classes, code_size, by these names"),
        (lambda image_shape, /: whole(), {}, "asks for 'image_shape': let it take"),
        (lambda: (whole(),), {}, "gives 1 models: give a pair of encoder and classifier"),
        (
            lambda: (whole(), whole()),
            {"code_layer": "code"},
            "gives 2 models and the code layer is 'code': give a pair",
        ),
        (lambda code_size: encoder(SHAPE, 3), {}, "was asked for codes of size 16 and gives 3: let it end in Dense"),
        (
            lambda: keras.Sequential([keras.Input(SHAPE), layers.Conv2D(3, 3)]),
            {},
            r"outputs of shape \(None, 6, 6, 3\)",
        ),
        (lambda classes: whole(classes=7), {}, "gives 7 classes and the data set has 10: give a network with as many"),
        (
            lambda: whole((8, 8, 3)),
            {},
            "takes images of 8 x 8 x 3 and the data set has images of 8 x 8 x 1: give another",
        ),
        (lambda: whole((9, 8, 1)), {}, "takes images of 9 x 8 x 1"),
        (
            whole,
            {"code_layer": "nothing"},
            "cannot be cut in two: the model has no layer 'nothing': .* code, late, end",
        ),
        (lambda: whole(last="sigmoid"), {}, "cannot be cut in two: the model ends in sigmoids"),
        (frozen, {}, "has no weights that train before its code: set trainable to True"),
    ],
)
def test_a_function_that_makes_no_network_is_one_sentence(given, function, changes, message):
    with pytest.raises(InputError, match=message):
        made(given(function, **changes))


def test_a_function_that_is_none_is_one_sentence():
    for network, message in (
        ("no_such_module:build", "cannot be imported \\(ModuleNotFoundError"),
        ("math:nothing", "cannot be imported \\(AttributeError"),
    ):
        with pytest.raises(InputError, match=message):
            own_networks(dataclasses.replace(BASE, network=network), SHAPE, 10)


def test_a_code_size_that_nobody_asks_for_is_refused(given):
    check_code_size(BASE)
    check_code_size(given(encoder))
    with pytest.raises(
        InputError, match=r"code size was given, and has no effect: .* does not ask for .* code_size\.$"
    ):
        check_code_size(given(whole))


def test_training_starts_from_the_weights_of_a_file(saved):
    images = load_dataset("digits").test.images[:5]
    model = frozen()
    built = build_model(saved(model, code_layer="code"), SHAPE, 10, 3, seed=0)
    np.testing.assert_allclose(built(images), model(images), atol=1e-6)
    assert built.encoder.output_shape == (None, 6)
    assert len(built.encoder.trainable_weights + built.classifier.trainable_weights) == 6  # what was frozen as well


def test_training_goes_on_from_an_er_classifier(saved):
    halves = own_networks(given_er(saved), SHAPE, 10)
    assert halves[0].output_shape == (None, 5)
    with pytest.raises(InputError, match=r"a code layer was given, and .*own\.keras is an ERClassifier"):
        own_networks(dataclasses.replace(given_er(saved), code_layer="code"), SHAPE, 10)


def given_er(saved):
    return saved(ERClassifier(encoder(SHAPE), keras.Sequential([keras.Input((5,)), layers.Dense(10)])))


@pytest.mark.parametrize(
    ("model", "changes", "message"),
    [
        (lambda: whole(classes=7), {}, "gives 7 classes and the data set has 10"),
        (lambda: whole((8, 8, 3)), {}, "takes images of 8 x 8 x 3"),
        (lambda: whole(), {"code_layer": "nothing"}, "the model has no layer 'nothing'"),
        (
            lambda: whole(),
            {"regularizer": "gaussian-kl"},
            "gaussian-kl makes a new code, and .*own.keras has a trained",
        ),
        (
            lambda: keras.Sequential(
                [keras.Input(SHAPE), layers.Lambda(lambda x: x), layers.Flatten(), layers.Dense(10)]
            ),
            {},
            "own.keras has a Lambda layer, which would run code of the file: save the model with a layer class",
        ),
    ],
)
def test_a_file_that_does_not_fit_is_one_sentence(saved, model, changes, message):
    with pytest.raises(InputError, match=message):
        own_networks(saved(model(), **changes), SHAPE, 10)


def test_a_job_knows_the_file_that_it_started_from(saved, tmp_path):
    job = Job("digits", saved(whole()), limit=20, restarts=1, deterministic=False)
    output = tmp_path / "model"
    with pytest.raises(KeyboardInterrupt):
        train(job, output, progress=Interrupt(after=5))
    assert pinned(job).recipe.network_fingerprint
    saved(whole())  # other weights
    with pytest.raises(InputError, match="was started with network_fingerprint"):
        check_output(output, job, resume=True)
    with pytest.raises(InputError, match=r"own\.keras has the fingerprint .* and the job started from 1234: give the"):
        pinned(dataclasses.replace(job, recipe=dataclasses.replace(job.recipe, network_fingerprint="1234")))


def test_a_card_says_what_it_started_from(saved, tmp_path):
    job = Job("digits", saved(whole(), code_layer="code"), limit=20, restarts=1, baseline=True, deterministic=False)
    card = train(job, tmp_path / "model")
    assert card.job == pinned(job)
    assert card.training.code_size == 6
    text = " ".join((tmp_path / "model" / "README.md").read_text().split())
    digest = card.job.recipe.network_fingerprint[:16]
    assert (
        f"It started from the network's weights (fingerprint `{digest}`). The network is cut at its layer `code`."
        in text
    )
    assert "code size 6, 1 epochs" in text
    assert card.evaluation.baseline is not None
    assert "of the validation images before training" in card.training.warnings[0]


def test_a_file_that_is_right_on_few_images_is_said_to_be(saved):
    class Right:
        def __init__(self, right):
            self.right = right

        def predict(self, images, **_):
            return np.eye(10)[np.where(np.arange(100) < self.right, 3, 4)]

    validation = Split(np.zeros((100, *SHAPE), np.uint8), np.full(100, 3, np.int32), np.arange(100))
    recipe = saved(whole())
    assert warnings_of_start(recipe, Right(20), validation) == ()
    (sentence,) = warnings_of_start(recipe, Right(19), validation)
    assert "own.keras was right on 19.0% of the validation images before training: where it takes pixels" in sentence
    assert warnings_of_start(BASE, Right(0), validation) == ()


def test_nothing_is_written_for_a_network_that_cannot_be_built(tmp_path, given):
    job = Job("digits", given(raises), deterministic=False)
    with pytest.raises(InputError, match="cannot be made"):
        train(job, tmp_path / "folder" / "model")
    assert list(tmp_path.iterdir()) == []
    assert not training_folder(tmp_path / "folder" / "model").exists()


def test_fine_tuning_is_ahead_of_a_start_from_nothing_and_the_same_again(given, saved):
    """Two epochs against an adversary, from the weights of three on clean images."""
    digits, settings = load_dataset("digits"), {"code_layer": "code", "epochs": 2, "epsilon": 0.05}

    def plain():
        keras.utils.set_random_seed(1)
        hidden = [layers.Flatten(), layers.Dense(128, activation="relu", name="code")]
        return keras.Sequential([keras.Input(SHAPE), *hidden, layers.Dense(10)])

    model = plain()
    model.compile(keras.optimizers.Adam(3e-3), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(digits.train.images, digits.train.labels, batch_size=64, epochs=3, shuffle=False, verbose=0)
    recipe = saved(model, **settings)
    tuned, again, fresh = (fit_model(Job("digits", of), digits) for of in (recipe, recipe, given(plain, **settings)))
    for weights in zip(tuned.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(*weights)
    validation = digits.validation
    options = {"verbose": 0, "return_dict": True}
    figures = [model.evaluate(validation.images, validation.labels, **options) for model in (tuned, fresh)]
    assert figures[0]["adversarial_accuracy"] > figures[1]["adversarial_accuracy"] + 0.1
    assert figures[0]["clean_accuracy"] > 0.8
