"""Bars for people who wait, in a terminal or a notebook."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars

from erkeras.errors import InputError
from erkeras.progress import Progress


class ProgressBar(Progress):
    """Draws a bar for each stage, with an estimate of the time left and the latest figure.

    Example:
        with erkeras.ProgressBar() as progress:
            erkeras.evaluate_robustness(model, split, attacks, progress=progress)

    Args:
        console: where the bars are drawn; by default the notebook, or standard error.
        disable: whether nothing is drawn.
    """

    def __init__(self, console: Console | None = None, disable: bool = False) -> None:
        self._bars = Bars(
            TextColumn("{task.description:20}", markup=False),
            BarColumn(bar_width=16),
            TaskProgressColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}", markup=False),
            console=console or Console(stderr=True, highlight=False, markup=False),
            speed_estimate_period=300,  # seconds: a step of a large network may take more than Rich's 30
            disable=disable,
        )
        self._task: Any = None

    def __enter__(self) -> ProgressBar:
        self._bars.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None and issubclass(kind, InputError):
            # Bad input is one sentence, without a bar above it.
            self._bars.live.transient = True
            for task in self._bars.task_ids:
                self._bars.remove_task(task)
        self._bars.stop()

    def stage(self, name: str, total: int) -> None:
        self._task = self._bars.add_task(name, total=total, note="")

    def advance(self, units: int, note: str = "") -> None:
        if self._task is None:  # an attack alone does not say how much it has to do
            self._task = self._bars.add_task("working", total=None, note="")
        fields: dict[str, Any] = {"note": note} if note else {}
        self._bars.update(self._task, advance=units, **fields)
