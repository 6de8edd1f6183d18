"""Loss scaling: what is learned in mixed_float16 is what is learned in float32."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers
from keras.mixed_precision import LossScaleOptimizer

from erkeras.attacks import PGD
from erkeras.data import load_dataset
from erkeras.models import DefenseGAN, ERClassifier, MaximumMeanDiscrepancy, WassersteinCritic, WassersteinGAN
from erkeras.models.networks import build_critic, build_networks, with_gaussian_code
from erkeras.threat import ThreatModel
from helpers.training_state import OPTIMIZERS, assert_same, fit, state


@pytest.fixture(autouse=True)
def _float32_again():
    yield
    keras.config.set_dtype_policy("float32")


@pytest.fixture(scope="module")
def digits():
    return load_dataset("digits").train


def dense_model(policy, rate=0.1, coupling="separate", **options):
    keras.config.set_dtype_policy(policy)
    keras.utils.set_random_seed(0)
    encoder = keras.Sequential(
        [keras.Input((8, 8, 1)), layers.Flatten(), layers.Dense(32, activation="relu"), layers.Dense(8)]
    )
    classifier = keras.Sequential([keras.Input((8,)), layers.Dense(10)])
    model = ERClassifier(
        encoder,
        classifier,
        **{
            "regularizer": WassersteinCritic(0.1, build_critic(8, units=(16,)), clip=0.1, coupling=coupling),
            "adversary": PGD(ThreatModel("l_inf", 0.1), steps=2),
            **options,
        },
    )
    model.compile(*(keras.optimizers.SGD(rate, momentum=0.9) for _ in OPTIMIZERS))
    return model


@pytest.mark.parametrize("coupling", ["separate", "joint"])
def test_six_epochs_learn_what_float32_learns(digits, coupling):
    found = []
    for policy in ("float32", "mixed_float16"):
        model = dense_model(policy, 0.05, coupling)
        model.fit(digits.images, digits.labels, epochs=6, batch_size=64, verbose=0)
        found.append(model.evaluate(digits.images, digits.labels, verbose=0, return_dict=True))
    for name in ("clean_accuracy", "adversarial_accuracy"):
        assert found[0][name] > 0.5
        assert found[1][name] == pytest.approx(found[0][name], abs=0.03)


@pytest.mark.parametrize("place", OPTIMIZERS)
def test_a_step_of_each_optimizer_is_as_long_as_in_float32(digits, place):
    """Of each alone; the others stand still."""
    moved = []
    for policy in ("float32", "mixed_float16"):
        model = dense_model(policy)
        for name in OPTIMIZERS:
            getattr(model, name).learning_rate = 0.1 if name == place else 0.0
        before = [variable.numpy() for variable in model.trainable_variables]
        model.fit(digits.images[:64], digits.labels[:64], batch_size=64, verbose=0)
        moved.append([variable - old for variable, old in zip(model.trainable_variables, before, strict=True)])
    lengths = [np.sqrt(sum(np.sum(np.square(part)) for part in parts)) for parts in moved]
    assert lengths[0] > 1e-4
    assert lengths[1] == pytest.approx(lengths[0], rel=0.05)


@pytest.mark.parametrize("place", OPTIMIZERS)
def test_loss_scale_factor_leaves_the_step_as_it_is(tiny_networks, images, labels, place):
    found = []
    for factor in (None, 1024.0):
        keras.utils.set_random_seed(1)
        critic = WassersteinCritic(0.5, build_critic(3, units=(5,)), clip=0.1)
        model = ERClassifier(*tiny_networks(), regularizer=critic)
        factors = {name: factor if name == place else None for name in OPTIMIZERS}
        model.compile(*(keras.optimizers.SGD(0.1, loss_scale_factor=value) for value in factors.values()))
        fit(model, images, labels, 1)
        found.append([variable.numpy() for variable in model.trainable_variables])
    for one, other in zip(*found, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


def test_each_optimizer_scales_its_own_loss(tiny_networks):
    def kinds(model, **options):
        model.compile(**options)
        return [isinstance(getattr(model, name), LossScaleOptimizer) for name in OPTIMIZERS]

    assert kinds(ERClassifier(*tiny_networks())) == [False] * 3
    # One layer is enough, which Keras does not see.
    assert kinds(ERClassifier(*tiny_networks(layers.Dense(4, dtype="mixed_float16")))) == [True] * 3
    keras.config.set_dtype_policy("mixed_float16")
    assert kinds(ERClassifier(*tiny_networks())) == [True] * 3
    assert kinds(ERClassifier(*tiny_networks()), auto_scale_loss=False) == [False] * 3
    given = LossScaleOptimizer(keras.optimizers.SGD(0.1))
    model = ERClassifier(*tiny_networks())
    model.compile(given)
    assert model.optimizer is given


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
@pytest.mark.parametrize("passes", [1, 2])
def test_logits_and_codes_are_float32(policy, passes, digits):
    model = dense_model(policy, passes=passes)
    images = tf.constant(digits.images[:4])
    codes = model.embed(images)
    found = [model(images), codes, model.classify(images, codes), model(images, training=True)]
    assert {tensor.dtype for tensor in found} == {tf.float32}
    assert model.predict(digits.images[:4], verbose=0).dtype == np.float32


def test_training_goes_on_bit_for_bit(tiny_model, images, labels, tmp_path):
    keras.config.set_dtype_policy("mixed_float16")
    straight = tiny_model()
    fit(straight, images, labels, 2)
    halfway = tiny_model()
    fit(halfway, images, labels, 1)
    halfway.save(tmp_path / "model.keras")
    restored = keras.models.load_model(tmp_path / "model.keras")
    assert_same(state(halfway), state(restored))
    fit(restored, images, labels, 1)
    assert_same(state(straight), state(restored))
    assert isinstance(restored.critic_optimizer, LossScaleOptimizer)


def test_a_model_without_scaling_is_loaded_without(tiny_model, tmp_path):
    keras.config.set_dtype_policy("mixed_float16")
    tiny_model(compiled={"auto_scale_loss": False}).save(tmp_path / "model.keras")
    restored = keras.models.load_model(tmp_path / "model.keras")
    assert not any(isinstance(getattr(restored, name), LossScaleOptimizer) for name in OPTIMIZERS)


@pytest.mark.parametrize("part", ["mmd", "gaussian code", "noise of bfloat16"])
def test_other_parts_train(digits, part):
    keras.config.set_dtype_policy("mixed_float16")
    encoder, classifier = build_networks("digits", (8, 8, 1), 8, 10)
    if part == "gaussian code":
        encoder = with_gaussian_code(encoder, 1e-3)
    regularizer = MaximumMeanDiscrepancy(0.1) if part == "mmd" else None
    adversary = PGD(ThreatModel("l_inf", 0.1), steps=1)
    model = ERClassifier(
        encoder, classifier, regularizer=regularizer, adversary=adversary, inner_bfloat16=part.endswith("bfloat16")
    )
    model.compile(keras.optimizers.Adam(1e-3))
    history = model.fit(digits.images[:256], digits.labels[:256], batch_size=32, epochs=2, verbose=0).history
    assert np.isfinite(list(history.values())).all()
    assert history["loss"][1] < history["loss"][0]


def test_the_gan_and_its_purifier_work():
    moved = []
    images = np.random.default_rng(0).uniform(size=(20, 4, 4, 1)).astype(np.float32)
    for policy in ("float32", "mixed_float16"):
        keras.config.set_dtype_policy(policy)
        keras.utils.set_random_seed(2)
        generator = keras.Sequential([keras.Input((3,)), layers.Dense(16, "sigmoid"), layers.Reshape((4, 4, 1))])
        critic = keras.Sequential(
            [keras.Input((4, 4, 1)), layers.Flatten(), layers.Dense(8, "leaky_relu"), layers.Dense(1)]
        )
        gan = WassersteinGAN(generator, critic, critic_updates=2)
        # From 32768, what it starts from by itself, the scale first falls: the penalty's gradients overflow.
        gan.compile(
            *(LossScaleOptimizer(keras.optimizers.SGD(rate), initial_scale=64.0) for rate in (0.1, 0.01)),
        )
        before = [variable.numpy() for variable in gan.trainable_variables]
        gan.fit(images, batch_size=20, verbose=0)
        moved.append([variable - old for variable, old in zip(gan.trainable_variables, before, strict=True)])
    exact, rounded = (np.concatenate([np.ravel(part) for part in parts]) for parts in moved)
    assert np.linalg.norm(rounded) == pytest.approx(np.linalg.norm(exact), rel=0.3)
    assert np.dot(rounded, exact) > 0.9 * np.linalg.norm(rounded) * np.linalg.norm(exact)
    classifier = keras.Sequential([keras.Input((4, 4, 1)), layers.Flatten(), layers.Dense(3)])
    logits = DefenseGAN(generator, classifier, steps=3, restarts=2)(images)
    assert logits.dtype == tf.float32
    assert np.isfinite(logits).all()
