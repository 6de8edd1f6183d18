"""What the README shows runs."""

import re
import shlex
from pathlib import Path

import pytest

from erkeras.cli import main

README = (Path(__file__).parent.parent / "README.md").read_text()
COMMANDS = sorted(set(re.findall(r"^    (?:\$ )?erkeras (.*?)(?:\s+#.*)?$", README, re.MULTILINE)))


def test_the_example_of_model_fit_runs_as_printed(capsys):
    (program,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    exec(compile(program, "README.md", "exec"), {})
    accuracy = float(re.search(r"robust accuracy ([\d.]+)% on 360 test images", capsys.readouterr().out).group(1))
    assert accuracy > 50


@pytest.mark.parametrize("command", COMMANDS)
def test_the_options_of_its_commands_exist(command):
    name, *arguments = shlex.split(command)
    context = main.commands[name].make_context(name, arguments)
    assert context.params


def test_there_are_commands_to_check():
    assert {command.split()[0] for command in COMMANDS} == {"train", "attack", "detect"}


def test_it_is_as_short_as_it_is_meant_to_be():
    assert len(README.splitlines()) <= 120
