"""What a recipe's network may be."""

import pytest

from erkeras.models.networks import NETWORKS
from erkeras.recipes import NETWORK_NAMES, network_kind


def test_the_names_are_those_of_the_networks():
    assert set(NETWORK_NAMES) == set(NETWORKS)
    assert {network_kind(name) for name in NETWORK_NAMES} == {"name"}


@pytest.mark.parametrize(
    ("network", "kind"),
    [("nets:build", "function"), ("own.nets:Net", "function"), ("a/b.keras", "file"), ("C:x.keras", "file")],
)
def test_a_users_own_is_a_function_or_a_file(network, kind):
    assert network_kind(network) == kind
