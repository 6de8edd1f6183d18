import keras
import numpy as np
import pytest
import tensorflow as tf

from erkeras.errors import InputError
from erkeras.models.networks import build_critic


def test_critic_output_may_be_a_log_sigmoid():
    linear, bounded = (build_critic(3, units=(8, 6), output=output) for output in ("linear", "log_sigmoid"))
    bounded.set_weights(linear.get_weights())
    codes = tf.constant(np.random.default_rng(0).normal(size=(9, 3)) * 9, tf.float32)
    assert linear(codes).shape == (9, 1)
    assert np.ptp(linear(codes)) > 1
    np.testing.assert_allclose(bounded(codes), -np.log1p(np.exp(-linear(codes).numpy())), rtol=1e-4, atol=1e-6)


def test_critic_with_another_output_is_refused():
    with pytest.raises(InputError, match="'sigmoid'"):
        build_critic(3, output="sigmoid")


def test_log_sigmoid_critic_survives_its_config():
    critic = build_critic(3, units=(4,), output="log_sigmoid")
    again = keras.Sequential.from_config(critic.get_config())
    assert again.layers[-1].activation is keras.activations.log_sigmoid
