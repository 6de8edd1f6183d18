"""The group of commands, and what an error looks like."""

from __future__ import annotations

import sys
import warnings
from typing import Any

import rich_click as click
from click.exceptions import NoArgsIsHelpError

from erkeras import __version__
from erkeras.errors import InputError, RobustnessWarning

from .attack import attack
from .curve import curve
from .detect import detect
from .detectors import detectors
from .embed import embed
from .export import export
from .rows import rows
from .table import table
from .train import train
from .verify import verify

BAD_INPUT, INTERRUPTED = 2, 130


class Commands(click.RichGroup):
    """Says what is wrong in one sentence and exits with code 2."""

    def main(self, *args: Any, **kwargs: Any) -> Any:
        kwargs["standalone_mode"] = False
        warnings.simplefilter("ignore", RobustnessWarning)  # commands print them, above their tables
        try:
            sys.exit(super().main(*args, **kwargs) or 0)
        except InputError as error:
            self._fail(str(error))
        except OSError as error:  # a disk that is full, a folder that is none
            self._fail(f"{error}.")
        except NoArgsIsHelpError as error:
            error.show()
            sys.exit(error.exit_code)
        except click.UsageError as error:
            help_command = error.ctx.command_path if error.ctx else "erkeras"
            self._fail(f"{error.format_message().rstrip('.')}; {help_command} --help lists what is allowed.")
        except click.ClickException as error:
            self._fail(error.format_message())
        except (click.Abort, KeyboardInterrupt):
            click.echo("Interrupted.", err=True)
            sys.exit(INTERRUPTED)

    @staticmethod
    def _fail(sentence: str) -> None:
        click.echo(f"Error: {sentence}", err=True)
        sys.exit(BAD_INPUT)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="erkeras")
def erkeras() -> None:
    """Train image classifiers that withstand adversarial perturbations, attack them, and find what gets through."""


for command in (train, attack, verify, detect, detectors, export, curve, embed, table, rows):
    erkeras.add_command(command)
