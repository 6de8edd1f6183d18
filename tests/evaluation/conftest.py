"""A finished evaluation, and its model in memory."""

import pytest

import erkeras
from helpers.evaluations import evaluation


@pytest.fixture(scope="session")
def straight(saved_model, tmp_path_factory):
    """A record that nothing interrupted, and what its run gave. Not to be written to."""
    made = evaluation(saved_model, record=tmp_path_factory.mktemp("straight") / "record")
    return made, made.run()


@pytest.fixture(scope="session")
def in_memory(saved_model):
    return erkeras.load(saved_model).model
