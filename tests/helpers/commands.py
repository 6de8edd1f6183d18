"""Commands of erkeras, run in this process."""

from click.testing import CliRunner

from erkeras.cli import main


def run(*arguments):
    """What a command prints, and its exit code."""
    return CliRunner().invoke(main, [str(argument) for argument in arguments], terminal_width=200)


def refused(result, message):
    """Checks that bad input got one sentence, and exit code 2."""
    assert result.exit_code == 2, result.output
    (line,) = result.output.strip().splitlines()
    assert line.startswith("Error: ")
    assert line.endswith(".")
    assert message in line, line
