import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from erkeras.attacks import PGD
from erkeras.errors import InputError
from erkeras.models import ERClassifier
from erkeras.models.networks import build_networks
from erkeras.models.precision import in_bfloat16
from erkeras.threat import ThreatModel


@pytest.fixture
def digits():
    return np.random.default_rng(0).uniform(size=(16, 8, 8, 1)).astype(np.float32)


def test_logits_are_close_to_float32_and_not_equal(digits):
    encoder, classifier = build_networks("digits", (8, 8, 1), 6, 10)
    exact = classifier(encoder(digits)).numpy()
    rounded = in_bfloat16(encoder, classifier)(tf.constant(digits))
    assert rounded.dtype == tf.float32
    difference = np.abs(rounded - exact).max() / np.abs(exact).max()
    assert 1e-5 < difference < 0.05


def test_follows_the_variables(digits):
    encoder, classifier = build_networks("digits", (8, 8, 1), 6, 10)
    run = tf.function(in_bfloat16(encoder, classifier))
    before = run(tf.constant(digits)).numpy()
    last = classifier.layers[-1].kernel
    last.assign(2 * last)
    np.testing.assert_allclose(run(tf.constant(digits)), 2 * before, rtol=1e-2, atol=1e-3)


def test_computes_in_bfloat16_and_keeps_variables_float32(tiny_networks, images):
    seen = []

    @keras.saving.register_keras_serializable("tests")
    class Spy(layers.Layer):
        def call(self, inputs):
            seen.append(inputs.dtype)
            return inputs

    encoder, classifier = tiny_networks(Spy(), keras.Sequential([keras.Input((6,)), layers.Dense(6), Spy()]))
    run = in_bfloat16(encoder, classifier)
    seen.clear()
    run(tf.constant(images))
    assert seen == [tf.bfloat16, tf.bfloat16]
    assert {variable.dtype for variable in [*encoder.variables, *classifier.variables]} == {"float32"}


def test_batch_norm_runs_in_inference_mode(tiny_networks, images):
    encoder, classifier = tiny_networks(layers.BatchNormalization(), layers.Dropout(0.9))
    norm = encoder.layers[-3]
    norm.moving_mean.assign(norm.moving_mean + 0.5)
    statistics = norm.moving_mean.numpy()
    rounded = in_bfloat16(encoder, classifier)(tf.constant(images))
    np.testing.assert_allclose(rounded, classifier(encoder(images)), atol=0.03)
    np.testing.assert_array_equal(norm.moving_mean, statistics)


def build(tiny_networks, **options):
    keras.utils.set_random_seed(1)
    model = ERClassifier(*tiny_networks(), adversary=PGD(ThreatModel("l_inf", 0.2), steps=2), **options)
    model.compile(keras.optimizers.SGD(0.1))
    return model


def test_only_the_adversary_is_rounded(tiny_networks, images, labels):
    models = [build(tiny_networks, inner_bfloat16=rounded) for rounded in (False, True)]
    np.testing.assert_array_equal(models[0](images), models[1](images))
    logs = [model.train_step((tf.constant(images), tf.constant(labels))) for model in models]
    assert float(logs[0]["loss"]) == pytest.approx(float(logs[1]["loss"]), rel=0.02)
    perturbed = models[1].adversary.perturb(
        in_bfloat16(models[1].encoder, models[1].classifier),
        tf.constant(images), tf.constant(labels), tf.constant([0, 0]),
    )  # fmt: skip
    assert perturbed.dtype == tf.float32
    assert not np.array_equal(perturbed, tf.cast(tf.cast(perturbed, tf.bfloat16), tf.float32))


def test_twin_is_neither_a_weight_nor_saved(tiny_networks, images, labels, tmp_path):
    sizes = []
    for rounded in (False, True):
        model = build(tiny_networks, inner_bfloat16=rounded)
        model.fit(images, labels, verbose=0)
        assert len(model.weights) == 8
        assert {variable.dtype for variable in model.weights} == {"float32"}
        model.save_weights(tmp_path / f"{rounded}.weights.h5")
        sizes.append((tmp_path / f"{rounded}.weights.h5").stat().st_size)
    assert sizes[0] == sizes[1]


def test_option_survives_saving(tiny_networks, images, tmp_path):
    build(tiny_networks, inner_bfloat16=True).save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    assert again.inner_bfloat16
    assert again.evaluate(images, np.zeros(12), verbose=0, return_dict=True)["adversarial_accuracy"] >= 0


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.dense = layers.Dense(3)

    def call(self, images):
        return self.dense(tf.reshape(images, [tf.shape(images)[0], 16]))


def test_subclassed_network_is_refused(images):
    network = Subclassed()
    network(images)
    with pytest.raises(InputError, match="Subclassed"):
        in_bfloat16(network)
