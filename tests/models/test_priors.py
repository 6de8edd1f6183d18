import keras
import numpy as np
import tensorflow as tf

from erkeras.models import StandardNormal


def test_standard_normal_is_standard_and_a_function_of_its_seed():
    samples = StandardNormal().sample([4000, 2], tf.constant([1, 2]), tf.float64)
    assert samples.dtype == tf.float64
    np.testing.assert_allclose(samples.numpy().mean(axis=0), 0, atol=0.06)
    np.testing.assert_allclose(np.cov(samples.numpy().T), np.eye(2), atol=0.08)
    np.testing.assert_array_equal(StandardNormal().sample([4000, 2], tf.constant([1, 2]), tf.float64), samples)
    assert not np.allclose(StandardNormal().sample([4000, 2], tf.constant([2, 2]), tf.float64), samples)


def test_standard_normal_comes_back_from_its_config():
    config = keras.saving.serialize_keras_object(StandardNormal())
    assert config["registered_name"] == "erkeras>StandardNormal"
    assert type(keras.saving.deserialize_keras_object(config)) is StandardNormal
