"""One step of WGAN-GP against NumPy."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from erkeras.errors import InputError
from erkeras.models import Checkpoint, WassersteinGAN
from erkeras.models.networks import build_generator, build_image_critic
from erkeras.models.wasserstein_gan import gradient_penalty

SHAPE = (4, 4, 1)


def sequential(*stack):
    return keras.Sequential(stack)


def linear_generator(latent_size=3):
    return sequential(keras.Input((latent_size,)), layers.Dense(16, bias_initializer="normal"), layers.Reshape(SHAPE))


@pytest.fixture
def eights():
    return np.random.default_rng(3).uniform(size=(9, 8, 8, 1)).astype(np.float32)


def test_the_penalty_of_a_linear_critic_is_known(images):
    critic = sequential(keras.Input(SHAPE), layers.Flatten(), layers.Dense(1))
    length = np.linalg.norm(critic.get_weights()[0])
    np.testing.assert_allclose(gradient_penalty(critic, tf.constant(images)), (length - 1) ** 2, rtol=1e-5)


def test_the_penalty_of_a_flat_critic_has_a_gradient(images):
    critic = sequential(keras.Input(SHAPE), layers.Flatten(), layers.Dense(1, kernel_initializer="zeros"))
    with tf.GradientTape() as tape:
        penalty = gradient_penalty(critic, tf.constant(images))
    assert float(penalty) == pytest.approx(1, abs=1e-5)
    assert np.isfinite(tape.gradient(penalty, critic.trainable_variables[0])).all()


def linear_gan(critic_updates=2, seed=4):
    critic = sequential(keras.Input(SHAPE), layers.Flatten(), layers.Dense(1))
    gan = WassersteinGAN(linear_generator(), critic, penalty=7.0, critic_updates=critic_updates, seed=seed)
    gan.compile(keras.optimizers.SGD(0.1), critic_optimizer=keras.optimizers.SGD(0.02))
    return gan


def test_steps_are_those_of_a_numpy_rendering(images):
    """D(x) = w x + b and G(z) = z A + c, their gradients by hand; three steps of two critic updates each."""
    gan = linear_gan()
    (kernel, bias), (weight, offset) = (
        [array.astype(np.float64) for array in network.get_weights()] for network in (gan.generator, gan.critic)
    )
    step = tf.function(gan.train_step, autograph=False)
    flat = images.reshape(12, 16).astype(np.float64)
    for number in range(3):
        logs = step((tf.constant(images),))
        for update in range(2):
            real = flat[6 * update : 6 * update + 6]
            latent, _ = gan.draws(number, update, 6)
            fake = latent.numpy() @ kernel + bias
            length = np.linalg.norm(weight)
            distance = ((real - fake) @ weight).mean()
            penalty = (length - 1) ** 2
            slope = 7 * 2 * (length - 1) * weight / length - (real - fake).mean(axis=0)[:, None]
            weight = weight - 0.02 * slope
        if number == 0:
            assert float(logs["wasserstein_distance"]) == pytest.approx(distance, abs=1e-5)
            assert float(logs["gradient_penalty"]) == pytest.approx(penalty, abs=1e-5)
        latent, _ = gan.draws(number, 2, 6)
        kernel = kernel + 0.1 * latent.numpy().mean(axis=0)[:, None] * weight.T
        bias = bias + 0.1 * weight[:, 0]
    for found, expected in zip(
        [*gan.generator.get_weights(), *gan.critic.get_weights()], [kernel, bias, weight, offset], strict=True
    ):
        np.testing.assert_allclose(found, expected, atol=1e-5)


def test_the_mixture_is_of_each_image(images):
    """A critic of squares: its gradient, 2 x, tells where the penalty was taken."""
    critic = sequential(keras.Input(SHAPE), layers.Lambda(lambda x: tf.reduce_sum(x**2, axis=[1, 2, 3])[:, None]))
    points = tf.constant(images)
    lengths = 2 * np.sqrt((images**2).sum(axis=(1, 2, 3)))
    np.testing.assert_allclose(gradient_penalty(critic, points), ((lengths - 1) ** 2).mean(), rtol=1e-5)


def test_draws_are_of_seed_step_and_update_alone():
    gan = linear_gan()
    drawn = {
        (step, update): np.concatenate([np.ravel(part) for part in gan.draws(step, update, 6)])
        for step in range(3)
        for update in range(3)
    }
    assert len({values.tobytes() for values in drawn.values()}) == len(drawn)
    np.testing.assert_array_equal(np.concatenate([np.ravel(part) for part in gan.draws(2, 1, 6)]), drawn[2, 1])
    assert not np.array_equal(np.ravel(linear_gan(seed=5).draws(2, 1, 6)[0]), drawn[2, 1][:18])


def test_training_goes_on_bit_for_bit(eights, tmp_path):
    data = np.concatenate([eights] * 4)[:32]

    def build(initial=1):
        keras.utils.set_random_seed(initial)
        gan = WassersteinGAN(build_generator((8, 8, 1), 5, 4), build_image_critic((8, 8, 1), 4), critic_updates=2)
        gan.compile(keras.optimizers.Adam(1e-3, 0.5, 0.9), critic_optimizer=keras.optimizers.Adam(1e-3, 0.5, 0.9))
        return gan

    def fit(gan, epochs, checkpoint=None, first=0):
        callbacks = [checkpoint] if checkpoint else None
        gan.fit(data, batch_size=16, epochs=epochs, initial_epoch=first, shuffle=False, verbose=0, callbacks=callbacks)

    straight, checkpoint = build(), Checkpoint(tmp_path)
    before = straight.generator.get_weights()
    fit(straight, 1, checkpoint)
    fit(straight, 3, first=1)
    assert all(not np.array_equal(*pair) for pair in zip(before, straight.generator.get_weights(), strict=True))
    assert set(checkpoint.history[0]) == {"wasserstein_distance", "gradient_penalty"}
    resumed = build(initial=2)
    assert Checkpoint(tmp_path).restore(resumed) == 1
    fit(resumed, 3, first=1)
    for network in ("generator", "critic"):
        for one, other in zip(
            getattr(straight, network).get_weights(), getattr(resumed, network).get_weights(), strict=True
        ):
            np.testing.assert_array_equal(one, other)


def test_a_batch_that_cannot_be_shared_out_is_refused(images):
    with pytest.raises(InputError, match="a batch has 7 images"):
        linear_gan().train_step((tf.constant(images[:7]),))
