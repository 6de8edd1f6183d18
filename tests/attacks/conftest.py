import keras
import pytest
from keras import layers

from helpers.closed_forms import steep_network, steep_points


@pytest.fixture
def network():
    return steep_network()


@pytest.fixture
def points(network):
    return steep_points(network)


@pytest.fixture
def small_network():
    """Takes images of 4 x 4 x 1, and ends in the logits of three classes."""
    return keras.Sequential(
        [
            keras.Input((4, 4, 1)),
            layers.Flatten(),
            layers.Dense(8, activation="tanh"),
            layers.Dropout(0.5),
            layers.Dense(3, kernel_initializer=keras.initializers.VarianceScaling(9.0), bias_initializer="normal"),
        ]
    )
