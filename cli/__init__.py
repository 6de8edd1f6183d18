"""The command line; installed as `erkeras.cli`."""

from .main import erkeras as main

__all__ = ["main"]
