"""Types of options that several commands share. Checked before TensorFlow is loaded."""

from __future__ import annotations

import importlib.util
import math
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import rich_click as click

from erkeras import saved
from erkeras.attacks.named import ATTACKS
from erkeras.errors import InputError
from erkeras.files import check_writable
from erkeras.recipes import NETWORK_NAMES, REGULARIZERS, network_kind
from erkeras.threat import ThreatModel


class FiniteFloat(click.FloatRange):
    """Parses a float within a range. It refuses NaN and infinity, which click's range accepts."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value!r} is not a finite number.", param, ctx)
        return number


class Epsilons(click.ParamType):
    """Parses START:STOP:STEP, both ends included, into a rising tuple of floats."""

    name = "start:stop:step"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[float, ...]:
        try:
            start, stop, step = (float(part) for part in value.split(":"))
        except ValueError:
            self.fail(f"{value!r} is not START:STOP:STEP, as in 0:0.4:0.025.", param, ctx)
        if not (0 <= start <= stop < math.inf and 0 < step < math.inf) or (stop - start) / step > 1000:
            self.fail(f"{value!r} does not rise from 0 or more by positive steps, at most 1000.", param, ctx)
        count = math.floor((stop - start) / step + 1e-9) + 1
        return tuple(round(start + number * step, 10) for number in range(count))


class Regularizer(click.ParamType):
    """Parses the name of a regularizer of ours, or MODULE:CLASS of a module in the working folder."""

    name = "name"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        module, colon, name = value.partition(":")
        if value not in REGULARIZERS and not (colon and name.isidentifier() and _is_module(module)):
            self.fail(
                f"{value!r} is neither {', '.join(REGULARIZERS)} nor MODULE:CLASS of a module in this folder.",
                param,
                ctx,
            )
        return value


class Network(click.ParamType):
    """Parses the name of a network of ours, MODULE:FUNCTION of a local module, or a trained FILE.keras."""

    name = "name"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        kind = network_kind(value)
        module, _, name = value.partition(":")
        if kind == "file":
            saved.find_model(Path(value))
        elif value not in NETWORK_NAMES and not (kind == "function" and name.isidentifier() and _is_module(module)):
            if value and Path(value).exists():
                raise InputError(
                    f"{value} is no .keras file: give FILE.keras, as model.save('FILE.keras') of Keras writes it, or "
                    "the model.keras of a folder that erkeras train wrote."
                )
            self.fail(
                f"{value!r} is neither {', '.join(NETWORK_NAMES)} nor MODULE:FUNCTION of a module in this folder nor "
                "FILE.keras.",
                param,
                ctx,
            )
        return value


class Module(click.ParamType):
    """Parses the name of a module in the working folder, or of an installed one."""

    name = "module"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if not _is_module(value):
            self.fail(f"there is no module {value!r} in this folder or installed.", param, ctx)
        return value


def _is_module(name: str) -> bool:
    # Last: a keras.py that happens to lie in the working folder must not take Keras' place.
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    try:
        return importlib.util.find_spec(name) is not None
    except Exception:  # a package that it is in is imported, and may raise anything
        return False


#: Panels of a command's help, in their order.
WHAT, HOW_STRONG, HOW_MANY, WHERE, WHERE_TO = "What", "How strong", "How many", "Where", "Where to"

PATH = click.Path(path_type=Path)
EPSILON = FiniteFloat(0, 1)
EPSILONS = Epsilons()
RADIUS = FiniteFloat(0)
COUNT = click.IntRange(1)
SEED_RANGE = click.IntRange(0, 2**31 - 1)

MODULES = click.option(
    "--import",
    "modules",
    type=Module(),
    multiple=True,
    panel=WHAT,
    help="Import this module first. It must register the Keras classes of your own that the model contains.",
)
ENDPOINT = click.option(
    "--endpoint",
    metavar="URL",
    panel=WHAT,
    help="Ask a served model instead of MODEL: http://HOST:PORT/v1/models/NAME, or grpc://HOST:PORT/NAME; https and "
    "grpcs with TLS. ERKERAS_TOKEN holds a token for it, and ERKERAS_CA the file of its CA.",
)
SEED = click.option(
    "--seed",
    type=SEED_RANGE,
    default=0,
    show_default=True,
    panel=HOW_MANY,
    help="Draw the images and the attacks' random numbers by this seed.",
)

NORM = click.option(
    "--norm",
    type=click.Choice(["l_inf", "l2"]),
    default="l_inf",
    show_default=True,
    panel=HOW_STRONG,
    help="Measure a perturbation by this norm.",
)
STEPS = click.option("--steps", type=COUNT, panel=HOW_STRONG, help="Run this many steps of PGD.  [default: 40]")
STEP_SIZE = click.option(
    "--step-size",
    type=FiniteFloat(0),
    panel=HOW_STRONG,
    help="Give each step of PGD this length.  [default: 2.5 epsilon / steps]",
)
CONFIDENCE = click.option(
    "--confidence",
    type=FiniteFloat(0),
    panel=HOW_STRONG,
    help="Let C&W ask for this margin between logits.  [default: 0]",
)


INTERNAL_BATCH = click.option(
    "--internal-batch",
    type=COUNT,
    panel=HOW_MANY,
    help="Let the model see this many images at once.  [default: 128; on a GPU 256, or what fits]",
)
XLA = click.option(
    "--xla/--no-xla",
    default=None,
    panel=HOW_MANY,
    help="Compile the loop of each attack by XLA.  [default: on a GPU]",
)


def attack_option(*default: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Makes the option --attack, of one or several names."""
    return click.option(
        "--attack",
        "attacks",
        type=click.Choice(ATTACKS),
        multiple=True,
        default=list(default),
        show_default=True,
        panel=HOW_STRONG,
        help="Run this attack. Repeat the option to run several: each gets the images that no earlier one has broken.",
    )


def folder_name(dataset: str) -> str:
    """Makes the name of a data set one that a folder may have."""
    return dataset.replace(":", "-").replace("/", "-")


def drawable(path: Path | None) -> None:
    """Checks the path of a picture to draw.

    Raises:
        InputError: as `writable`, and for another suffix than .png.
    """
    writable(path)
    if path is not None and path.suffix != ".png":
        raise InputError(f"{path} is not the name of a PNG picture: give a file that ends in .png.")


def writable(path: Path | None) -> None:
    """Checks the path of a file or folder to write, before any work is done for it.

    Raises:
        InputError: where it is a folder, or its folder is not there or cannot be written to.
    """
    if path is not None and (path.is_dir() or not path.absolute().parent.is_dir()):
        raise InputError(f"{path} cannot be written: give a file in a folder that exists.")
    if path is not None:
        check_writable(path)


def threat_of(norm: str, epsilon: float | None, models: str) -> ThreatModel | None:
    """Makes the threat model of --norm and --epsilon; None for the one that the model's card names.

    Raises:
        InputError: for another norm without an epsilon.
    """
    if epsilon is not None:
        return ThreatModel(norm, epsilon)
    if norm != "l_inf":
        raise InputError(f"no epsilon is known for {models} and the norm {norm}: give --epsilon.")
    return None
