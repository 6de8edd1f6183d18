"""A network that asks for more memory than any machine has, where a batch has a certain number of images."""

import keras
import tensorflow as tf
from keras import layers

#: Images in a batch for which a layer asks for 400 TB.
TRAINING, ATTACK = 64, 128


@keras.saving.register_keras_serializable("erkeras-tests")
class Greedy(layers.Layer):
    """Gives what it gets."""

    def __init__(self, images, **kwargs):
        super().__init__(**kwargs)
        self.images = images

    def call(self, inputs):
        # Random, so that TensorFlow does not compute it before it runs.
        side = tf.where(tf.shape(inputs)[0] == self.images, 10**7, 1)
        return inputs + tf.cast(0 * tf.reduce_sum(tf.random.uniform([side, side])), inputs.dtype)

    def get_config(self):
        return {**super().get_config(), "images": self.images}


def build(image_shape, code_size, images=TRAINING):
    """Builds an encoder that trains on other batches than of so many images."""
    return keras.Sequential([keras.Input(image_shape), Greedy(images), layers.Flatten(), layers.Dense(code_size)])


def build_for_attacks(image_shape, code_size):
    """Builds an encoder that trains, and cannot be attacked."""
    return build(image_shape, code_size, ATTACK)
