"""The combined code of every kind of encoder, against its layers one after the other."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from erkeras.detection.features import combined_code, feature_function
from erkeras.errors import InputError
from erkeras.recipes import DEFENSES, find_recipe
from erkeras.training import build_model

SHAPE = (8, 8, 1)


@pytest.fixture
def images():
    return np.random.default_rng(0).uniform(size=(5, *SHAPE)).astype(np.float32)


def layer_by_layer(encoder, images):
    """Means over positions of what each nonlinearity but the last layer's gives, then the code."""
    means, outputs = [], images
    for layer in encoder.layers:
        outputs = layer(outputs)
        activation = getattr(layer, "activation", None)
        if layer is not encoder.layers[-1] and activation is keras.activations.relu:
            values = outputs.numpy()
            means.append(values.reshape(len(images), -1, values.shape[-1]).mean(axis=1))
    return outputs.numpy(), np.concatenate([*means, outputs.numpy()], axis=1)


@pytest.mark.parametrize("defense", DEFENSES)
def test_combined_code_of_every_row(defense, images):
    """Rows that change a network share layers with the one they changed."""
    encoder = build_model(find_recipe("default", "digits", SHAPE, defense), SHAPE, 10, 1, seed=0).encoder
    codes, combined = combined_code(encoder)(images)
    expected_codes, expected = layer_by_layer(encoder, images)
    np.testing.assert_allclose(codes, expected_codes, atol=1e-5)
    np.testing.assert_allclose(combined, expected, atol=1e-5)
    bottleneck = DEFENSES[defense].get("bottleneck", True)
    assert combined.shape == (5, 32 + 64 + (128 + 16 if bottleneck else 128))


def test_combined_code_of_a_functional_encoder(images):
    inputs = keras.Input(SHAPE)
    first = layers.Conv2D(3, 3, activation="relu")(inputs)
    second = layers.Conv2D(4, 3, activation="relu")(first)
    joined = layers.Concatenate()([layers.Flatten()(first), layers.Flatten()(second)])
    encoder = keras.Model(inputs, layers.Dense(2)(joined))
    parts = keras.Model(inputs, [first, second, encoder.output])(images)
    means = [part.numpy().mean(axis=(1, 2)) for part in parts[:2]]
    codes, combined = combined_code(encoder)(images)
    np.testing.assert_allclose(codes, parts[2], atol=1e-6)
    np.testing.assert_allclose(combined, np.concatenate([*means, parts[2]], axis=1), atol=1e-6)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_means_of_half_numbers_are_taken_in_float32(images, policy):
    encoder = keras.Sequential(
        [
            keras.Input(SHAPE),
            layers.Conv2D(3, 3, activation="relu", dtype=policy),
            layers.Flatten(dtype=policy),
            layers.Dense(2, dtype=policy),
        ]
    )
    codes, combined = combined_code(encoder)(images)
    assert (codes.dtype, combined.dtype) == (tf.as_dtype(policy.removeprefix("mixed_")), tf.float32)
    expected = encoder.layers[0](images).numpy().astype(np.float32).mean(axis=(1, 2))
    np.testing.assert_allclose(combined[:, :3], expected, rtol=1e-6)


def test_the_code_alone(images):
    encoder = keras.Sequential([keras.Input(SHAPE), layers.Flatten(), layers.Dense(3)])
    codes, features = feature_function(encoder, "code")(images)
    np.testing.assert_array_equal(codes, features)
    with pytest.raises(InputError, match="no hidden layer"):
        combined_code(encoder)
