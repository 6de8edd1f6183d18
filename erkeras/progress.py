"""Who hears how long work gets on."""

from __future__ import annotations


class Progress:
    """Hears how long work gets on. This one says nothing; a subclass draws a bar.

    Example:
        class Printed(Progress):
            def stage(self, name, total):
                print(f"{name}: {total} units")
    """

    def stage(self, name: str, total: int) -> None:
        """Begins a stage of `total` units."""

    def advance(self, units: int, note: str = "") -> None:
        """Reports units of the stage that are done; `note` is the latest figure."""
