"""Options of a training on several devices and machines."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import rich_click as click

from erkeras.errors import InputError
from erkeras.recipes import Place

from .options import COUNT, WHERE


class Devices(click.ParamType):
    """Parses a number of devices of at least 1, or "all", which becomes None."""

    name = "number or all"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int | None:
        if value == "all":
            return None
        if not (str(value).isascii() and str(value).isdigit() and int(value) > 0):
            self.fail(f"{value!r} is neither a number from 1 on nor all.", param, ctx)
        return int(value)


def several(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds the options that say on how many devices and machines to train."""
    options = (
        click.option(
            "--devices",
            type=Devices(),
            default="1",
            show_default=True,
            panel=WHERE,
            help="Share each batch among this many GPUs, or all. Without a GPU, divide the processor instead.",
        ),
        click.option(
            "--synchronized",
            is_flag=True,
            panel=WHERE,
            help="Compute BatchNorm's statistics over the whole batch that devices share, not over each device's part.",
        ),
        click.option(
            "--workers",
            type=COUNT,
            panel=WHERE,
            help="Train with this many processes that Ray starts, on this machine or on --cluster.",
        ),
        click.option(
            "--cluster",
            "address",
            metavar="ADDRESS",
            panel=WHERE,
            help="Start --workers on this Ray cluster: HOST:PORT, or auto for the one that this machine belongs to.",
        ),
    )
    for option in reversed(options):
        command = option(command)
    return command


def check_where(
    place: Place | None, devices: int | None, synchronized: bool, workers: int | None, address: str | None
) -> None:
    """Checks that options of several devices and machines go together.

    Raises:
        InputError: where not.
    """
    alone = place is None and (workers or 1) == 1
    if synchronized and devices == 1 and alone:
        raise InputError("--synchronized was given, and has no effect on one device: give --devices, or leave it out.")
    if address is not None and (workers or 1) == 1:
        raise InputError("--cluster was given without --workers of 2 or more: say by how many workers to train.")
    if place is not None and workers is not None:
        raise InputError("--workers was given, and TF_CONFIG names the workers already: leave out one of them.")
