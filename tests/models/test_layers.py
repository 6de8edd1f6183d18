import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from erkeras.errors import InputError
from erkeras.models import ERClassifier
from erkeras.models.layers import GaussianCode, NoiseLayer, noise_of_pass
from erkeras.models.networks import with_noise


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


def noisy_network():
    keras.utils.set_random_seed(5)
    encoder = keras.Sequential(
        [
            keras.Input((6, 6, 1)),
            layers.Rescaling(2.0, offset=-1.0),
            layers.Conv2D(3, 3, activation="relu"),
            layers.Conv2D(4, 3, activation="relu"),
            layers.Flatten(),
            layers.Dense(5),
        ]
    )
    classifier = keras.Sequential([keras.Input((5,)), layers.Dense(3)])
    return with_noise(encoder, 0.4), classifier


def pictures(n=7):
    return np.random.default_rng(4).uniform(size=(n, 6, 6, 1)).astype(np.float32)


@pytest.mark.parametrize("training", [True, False])
def test_noise_has_its_standard_deviation(training):
    added = NoiseLayer(0.3)(tf.ones([4, 60, 60, 2]), training=training).numpy() - 1
    assert added.mean() == pytest.approx(0, abs=0.01)
    assert added.std() == pytest.approx(0.3, rel=0.03)


def test_noise_in_training_is_new_for_every_image_and_step():
    layer, images = NoiseLayer(0.3), tf.zeros([2, 5, 5, 1])
    first, second = layer(images, training=True).numpy(), layer(images, training=True).numpy()
    assert len({part.tobytes() for part in (*first, *second)}) == 4


def test_noise_in_prediction_is_that_of_the_pass():
    one, other, images = NoiseLayer(0.3, number=1), NoiseLayer(0.3, number=2), tf.zeros([3, 5, 5, 1])
    drawn = []
    for layer in (one, other):
        for number in (0, 1):
            with noise_of_pass(number):
                noise = layer(images).numpy()
            assert np.ptp(noise, axis=0).max() == 0  # the same for each image
            drawn.append(noise[0].tobytes())
    assert len(set(drawn)) == 4
    assert one(images).numpy()[0].tobytes() == drawn[0]  # pass 0, where none is said


def test_prediction_is_the_mean_softmax_over_the_passes():
    encoder, classifier = noisy_network()
    model = ERClassifier(encoder, classifier, passes=4)
    images = pictures()
    members = []
    for number in range(4):
        with noise_of_pass(number):
            members.append(tf.nn.softmax(classifier(encoder(images))).numpy().astype(np.float64))
    assert np.ptp(members, axis=0).max() > 1e-3  # the passes differ
    expected = np.mean(members, axis=0)
    np.testing.assert_allclose(np.exp(model(images)), expected, rtol=1e-5)
    compiled = tf.function(lambda part: model(part, training=False))
    np.testing.assert_allclose(np.exp(compiled(images)), expected, rtol=1e-5)
    # Whatever the neighbours.
    np.testing.assert_allclose(np.exp(model(images[3:4])), expected[3:4], rtol=1e-5)
    np.testing.assert_allclose(np.exp(model.classify(images, model.embed(images))), expected, rtol=1e-5)


def test_the_gradient_of_the_ensemble_is_the_expectation_over_its_passes():
    """Of the mean probability, against central differences."""
    encoder, classifier = noisy_network()
    model = ERClassifier(encoder, classifier, passes=3)
    images = tf.constant(pictures(1))
    with tf.GradientTape() as tape:
        tape.watch(images)
        logits = model(images)[0, 1]
    gradient = tape.gradient(logits, images).numpy()[0, :, :, 0]
    for place in ((0, 0), (2, 3), (5, 1)):
        step = np.zeros((1, 6, 6, 1), np.float32)
        step[0, *place, 0] = 1e-2
        difference = float(model(images + step)[0, 1] - model(images - step)[0, 1]) / 2e-2
        assert gradient[place] == pytest.approx(difference, rel=0.05, abs=2e-3)


def test_an_ensemble_of_confident_members_keeps_its_gradient():
    """Logits of thousands: the softmax of a member is 0 in float32, and the logarithm of the mean is not."""
    encoder, classifier = noisy_network()
    classifier.layers[-1].set_weights([weight * 5_000 for weight in classifier.layers[-1].get_weights()])
    model = ERClassifier(encoder, classifier, passes=3)
    images = tf.constant(pictures(2))
    with tf.GradientTape() as tape:
        tape.watch(images)
        lowest = tf.reduce_min(model(images), axis=1)
    assert np.all(np.isfinite(lowest))
    assert np.all(lowest.numpy() < -200)
    assert np.all(np.abs(tape.gradient(lowest, images).numpy()).max(axis=(1, 2, 3)) > 1)


def test_bad_noise_is_refused():
    with pytest.raises(InputError, match="standard deviation -1"):
        NoiseLayer(-1.0)
    with pytest.raises(InputError, match="passes is 0"):
        ERClassifier(*noisy_network(), passes=0)
