import keras
import numpy as np
import pytest
import tensorflow as tf

from erkeras.attacks import DivergencePGD
from erkeras.errors import InputError
from erkeras.models import TRADES, CrossEntropy, ERClassifier
from erkeras.threat import ThreatModel


def test_cross_entropy_is_one_number_an_example():
    logits = np.random.default_rng(0).normal(size=(6, 4))
    labels = np.arange(6) % 4
    expected = np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(6), labels]
    np.testing.assert_allclose(CrossEntropy()(labels, tf.constant(logits)), expected, rtol=1e-10)


def test_cross_entropy_comes_back_from_its_config():
    config = keras.saving.serialize_keras_object(CrossEntropy())
    assert config["registered_name"] == "erkeras>CrossEntropy"
    assert type(keras.saving.deserialize_keras_object(config)) is CrossEntropy


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.9])
def test_label_smoothing_shares_a_fraction_among_all_classes(smoothing):
    logits = np.random.default_rng(0).normal(0, 3, size=(6, 4))
    labels = np.arange(6) % 4
    targets = (1 - smoothing) * np.eye(4)[labels] + smoothing / 4
    expected = -(targets * log_softmax(logits)).sum(axis=1)
    np.testing.assert_allclose(CrossEntropy(smoothing)(labels, tf.constant(logits)), expected, rtol=1e-10)
    theirs = keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=smoothing, reduction=None)
    np.testing.assert_allclose(theirs(np.eye(4)[labels], tf.constant(logits)), expected, rtol=1e-5)


def test_trades_smooths_the_labels_of_clean_logits_alone():
    attacked, clean = np.random.default_rng(0).normal(0, 3, (2, 6, 4))
    labels = np.arange(6) % 4
    smoothed, plain = (
        TRADES(3.0, fraction)(labels, tf.constant(attacked), tf.constant(clean)) for fraction in (0.2, 0)
    )
    expected = CrossEntropy(0.2)(labels, tf.constant(clean)) - CrossEntropy()(labels, tf.constant(clean))
    np.testing.assert_allclose(smoothed - plain, expected, rtol=1e-6)


@pytest.mark.parametrize("objective", [CrossEntropy, TRADES])
def test_a_smoothing_comes_back_from_its_config_and_none_is_not_in_it(objective):
    assert "label_smoothing" not in objective().get_config()  # a model's fingerprint is what it was
    found = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(objective(label_smoothing=0.3)))
    assert (type(found), found.label_smoothing) == (objective, 0.3)
    for fraction in (-0.1, 1.0, float("nan")):
        with pytest.raises(InputError, match=r"label_smoothing is .*: give a number from 0 up to, not including, 1"):
            objective(label_smoothing=fraction)


def log_softmax(logits):
    logits = logits - logits.max(axis=1, keepdims=True)
    return logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))


def trades_slowly(labels, attacked, clean, beta):
    p, q = log_softmax(clean), log_softmax(attacked)
    return -p[np.arange(len(labels)), labels] + beta * np.sum(np.exp(p) * (p - q), axis=1)


@pytest.mark.parametrize("beta", [0.0, 1.0, 6.0])
def test_trades_is_what_its_equation_says(beta):
    rng = np.random.default_rng(0)
    attacked, clean = rng.normal(0, 3, (2, 7, 4))
    labels = rng.integers(0, 4, 7)
    losses = TRADES(beta)(tf.constant(labels), tf.constant(attacked), tf.constant(clean))
    np.testing.assert_allclose(losses, trades_slowly(labels, attacked, clean, beta), rtol=1e-6)
    np.testing.assert_allclose(
        TRADES(beta)(tf.constant(labels), tf.constant(clean), tf.constant(clean)),
        trades_slowly(labels, clean, clean, 0),
        rtol=1e-6,
    )


def test_a_step_descends_trades_in_both_of_its_terms(tiny_networks, images, labels):
    """One step of SGD against finite differences of the whole objective, the adversarial images held fixed."""
    encoder, classifier = tiny_networks(dtype="float64")
    images = tf.constant(images, tf.float64)
    attack = DivergencePGD(ThreatModel("l_inf", 0.2), steps=3)
    adversarial = attack.perturb(lambda images: classifier(encoder(images)), images, labels, tf.constant([4, 0]))
    assert float(tf.reduce_max(tf.abs(adversarial - images))) > 0.05

    class Known(DivergencePGD):
        def perturb(self, logits, images, labels, seeds, scale=1.0):
            return adversarial

    model = ERClassifier(encoder, classifier, adversary=Known(), objective=TRADES(2.0), seed=4)
    model.compile(keras.optimizers.SGD(0.5))

    def objective():
        attacked, clean = model(adversarial).numpy(), model(images).numpy()
        return trades_slowly(labels, attacked, clean, 2.0).mean()

    variables = model.trainable_variables
    before = [variable.numpy() for variable in variables]
    expected = []
    for variable, value in zip(variables, before, strict=True):
        gradient = np.zeros_like(value)
        for place in np.ndindex(*value.shape):
            for sign in (1, -1):
                moved = value.copy()
                moved[place] += sign * 1e-6
                variable.assign(moved)
                gradient[place] += sign * objective() / 2e-6
        variable.assign(value)
        expected.append(value - 0.5 * gradient)
    model.train_step((images, tf.constant(labels)))
    for variable, value in zip(variables, expected, strict=True):
        np.testing.assert_allclose(variable, value, atol=1e-6)


def test_trades_comes_back_from_its_config():
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(TRADES(3.0)))
    assert again.beta == 3.0
    with pytest.raises(InputError, match="beta is -1"):
        TRADES(-1)
