import pytest

from helpers.closed_forms import steep_network, steep_points


@pytest.fixture
def network():
    return steep_network()


@pytest.fixture
def points(network):
    return steep_points(network)
