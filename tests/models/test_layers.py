import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from erkeras.errors import InputError
from erkeras.models import ERClassifier
from erkeras.models.layers import GaussianCode


def code_layer(coefficient=1.0):
    keras.utils.set_random_seed(3)
    layer = GaussianCode(4, coefficient)
    layer.build((None, 6))
    rng = np.random.default_rng(0)
    layer.set_weights([rng.normal(0, 0.4, weight.shape) for weight in layer.get_weights()])
    return layer


def features(n=5):
    return tf.constant(np.random.default_rng(1).normal(size=(n, 6)), tf.float32)


def distribution(layer, inputs):
    mean_kernel, mean_bias, kernel, bias = layer.get_weights()
    inputs = inputs.numpy().astype(np.float64)
    return inputs @ mean_kernel + mean_bias, np.exp((inputs @ kernel + bias) / 2)


def test_inference_gives_the_mean_and_loses_nothing():
    layer, inputs = code_layer(), features()
    mean, _ = distribution(layer, inputs)
    np.testing.assert_allclose(layer(inputs), mean, atol=1e-6)
    np.testing.assert_allclose(layer(inputs, training=False), mean, atol=1e-6)
    assert layer.losses == []


def test_training_samples_the_distribution():
    layer, inputs = code_layer(), features(1)
    mean, deviation = distribution(layer, inputs)
    codes = layer(tf.repeat(inputs, 40_000, axis=0), training=True).numpy()
    np.testing.assert_allclose(codes.mean(axis=0), mean[0], atol=0.03)
    np.testing.assert_allclose(codes.std(axis=0), deviation[0], rtol=0.03)
    correlation = np.corrcoef(codes.T)
    np.testing.assert_allclose(correlation, np.eye(4), atol=0.03)


def test_its_loss_is_the_divergence_from_the_prior():
    """In closed form, and as what it stands for: the mean of log q - log p over samples of q."""
    layer, inputs = code_layer(0.5), features()
    mean, deviation = distribution(layer, inputs)
    layer(inputs, training=True)
    (loss,) = layer.losses
    closed = 0.5 * np.sum(mean**2 + deviation**2 - 2 * np.log(deviation) - 1, axis=1)
    assert float(loss) == pytest.approx(0.5 * closed.mean(), rel=1e-5)
    noise = np.random.default_rng(2).normal(size=(100_000, *mean.shape))
    samples = mean + deviation * noise
    log_ratio = np.sum(-(noise**2) / 2 - np.log(deviation) + samples**2 / 2, axis=2)
    np.testing.assert_allclose(log_ratio.mean(axis=0), closed, rtol=0.02, atol=0.02)


def test_a_negative_coefficient_is_refused():
    with pytest.raises(InputError, match=r"is -0.1"):
        GaussianCode(4, -0.1)


@pytest.mark.parametrize("place", ["encoder", "classifier"])
def test_losses_of_layers_are_descended(images, labels, place):
    """Weight decay of a user's own layer acts as it would under Keras' own training."""

    def trained(decay):
        keras.utils.set_random_seed(5)
        penalty = {place: keras.regularizers.L2(decay)} if decay else {}
        encoder = keras.Sequential(
            [
                keras.Input((4, 4, 1)),
                layers.Flatten(),
                layers.Dense(3, kernel_regularizer=penalty.get("encoder")),
            ]
        )
        classifier = keras.Sequential(
            [keras.Input((3,)), layers.Dense(3, kernel_regularizer=penalty.get("classifier"))]
        )
        model = ERClassifier(encoder, classifier)
        model.compile(keras.optimizers.SGD(0.1))
        before = {"encoder": encoder, "classifier": classifier}[place].get_weights()[0]
        model.train_step((tf.constant(images), tf.constant(labels)))
        return before, {"encoder": encoder, "classifier": classifier}[place].get_weights()[0]

    before, plain = trained(0.0)
    again, decayed = trained(0.5)
    np.testing.assert_array_equal(before, again)
    np.testing.assert_allclose(decayed, plain - 0.1 * 2 * 0.5 * before, atol=1e-6)


def test_noise_goes_on_where_a_saved_model_left_off(images, labels, tmp_path):
    def build():
        keras.utils.set_random_seed(5)
        encoder = keras.Sequential([keras.Input((4, 4, 1)), layers.Flatten(), GaussianCode(3, 0.1)])
        model = ERClassifier(encoder, keras.Sequential([keras.Input((3,)), layers.Dense(3)]))
        model.compile(keras.optimizers.Adam(0.01))
        return model

    straight, first = build(), build()
    straight.fit(images, labels, epochs=2, batch_size=4, shuffle=False, verbose=0)
    first.fit(images, labels, epochs=1, batch_size=4, shuffle=False, verbose=0)
    first.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    again.fit(images, labels, epochs=1, batch_size=4, shuffle=False, verbose=0)
    for one, other in zip(straight.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
