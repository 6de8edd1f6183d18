"""The group of commands, and what an error looks like."""

from __future__ import annotations

import io
import os
import sys
import warnings
from typing import Any

import rich_click as click
from click.exceptions import NoArgsIsHelpError

from erkeras import __version__
from erkeras.errors import InputError, RobustnessWarning
from erkeras.memory import is_out_of_memory

from .attack import attack
from .curve import curve
from .detect import detect
from .detectors import detectors
from .embed import embed
from .export import export
from .report import report
from .rows import rows
from .table import table
from .train import train
from .verify import verify

BAD_INPUT, INTERRUPTED, BROKEN_PIPE = 2, 130, 141


class Commands(click.RichGroup):
    """Says what is wrong in one sentence and exits with code 2."""

    def main(self, *args: Any, **kwargs: Any) -> Any:
        kwargs["standalone_mode"] = False
        warnings.simplefilter("ignore", RobustnessWarning)  # commands print them, above their tables
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="backslashreplace")  # names of files that are no UTF-8
        try:
            sys.exit(super().main(*args, **kwargs) or 0)
        except InputError as error:
            self._fail(str(error))
        except BrokenPipeError:  # as by `| head`
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            sys.exit(BROKEN_PIPE)
        except OSError as error:  # a disk that is full, a folder that is none
            place = f"{error.filename}: " if error.filename else ""
            self._fail(f"{place}{error.strerror or error}; make room, or give a place that can be read and written.")
        except NoArgsIsHelpError as error:
            error.show()
            sys.exit(error.exit_code)
        except click.UsageError as error:
            help_command = error.ctx.command_path if error.ctx else self._named(args[0] if args else kwargs.get("args"))
            self._fail(f"{error.format_message().rstrip('.')}; {help_command} --help lists what is allowed.")
        except click.ClickException as error:
            self._fail(error.format_message())
        except (click.Abort, KeyboardInterrupt):
            click.echo("Interrupted.", err=True)
            sys.exit(INTERRUPTED)
        except Exception as error:
            if is_out_of_memory(error):
                self._fail("there is not enough memory: give fewer or smaller images, or a smaller model.")
            if not _is_of_writing(error):
                raise
            self._fail(f"{str(error).splitlines()[0]}; make room, or give a place that can be written to.")

    def _named(self, arguments: Any) -> str:
        """The command that was asked for, where the parser does not say: it does not for an option without value."""
        first = list(sys.argv[1:] if arguments is None else arguments)[:1]
        return " ".join(["erkeras", *(word for word in first if word in self.commands)])

    @staticmethod
    def _fail(sentence: str) -> None:
        shown = "".join(letter if letter.isprintable() else " " for letter in sentence)
        click.echo(f"Error: {shown}", err=True)
        sys.exit(BAD_INPUT)


def _is_of_writing(error: Exception) -> bool:
    """Tells whether TensorFlow, where it is loaded, could not write."""
    words = ("No space left", "File too large", "Disk quota", "Read-only file system", "Permission denied")
    return type(error).__module__.startswith("tensorflow") and any(word in str(error) for word in words)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="erkeras")
@click.option("-q", "--quiet", is_flag=True, help="Draw no bars. Results, warnings and errors are still printed.")
def erkeras(quiet: bool) -> None:
    """Train image classifiers that withstand adversarial perturbations, attack them, and find what gets through."""


for command in (train, attack, verify, detect, detectors, export, curve, embed, table, report, rows):
    erkeras.add_command(command)
