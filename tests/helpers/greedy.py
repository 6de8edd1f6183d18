"""A network that runs out of memory where a batch has a certain number of images."""

import keras
import tensorflow as tf
from keras import layers

#: Images in a batch for which a layer has no memory.
TRAINING, ATTACK = 64, 128


def _no_memory(_):
    raise MemoryError


def ask_for_memory(where):
    """Gives 0, or raises what an allocation that fails raises, without the 10 seconds that TensorFlow waits for it."""
    zero = tf.cond(where, lambda: tf.py_function(_no_memory, [0.0], tf.float32), lambda: tf.constant(0.0))
    return tf.ensure_shape(zero, [])


@keras.saving.register_keras_serializable("erkeras-tests")
class Greedy(layers.Layer):
    """Gives what it gets."""

    def __init__(self, images, **kwargs):
        super().__init__(**kwargs)
        self.images = images

    def call(self, inputs):
        return inputs + tf.cast(ask_for_memory(tf.shape(inputs)[0] == self.images), inputs.dtype)

    def get_config(self):
        return {**super().get_config(), "images": self.images}


def build(image_shape, code_size, images=TRAINING):
    """Builds an encoder that trains on other batches than of so many images."""
    return keras.Sequential([keras.Input(image_shape), Greedy(images), layers.Flatten(), layers.Dense(code_size)])


def build_for_attacks(image_shape, code_size):
    """Builds an encoder that trains, and cannot be attacked."""
    return build(image_shape, code_size, ATTACK)
