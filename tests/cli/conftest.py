"""What the tests of commands share."""

import pytest


@pytest.fixture
def anywhere(tmp_path, monkeypatch):
    """The working folder, empty."""
    monkeypatch.chdir(tmp_path)
    return tmp_path
