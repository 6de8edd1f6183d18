"""What long work looks like: tables, TensorFlow's noise, and no bars where none are wanted."""

import io
import re
import subprocess
import sys

import pytest
import rich_click as click
from rich.console import Console

from erkeras.cli import console
from erkeras.cli.main import erkeras
from helpers.commands import run


@pytest.fixture
def screen(monkeypatch):
    """What a terminal of 100 columns gets."""
    text = io.StringIO()
    for name in ("messages", "output"):
        monkeypatch.setattr(console, name, Console(file=text, force_terminal=True, width=100, markup=False))
    return text


def plain(screen):
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", screen.getvalue())


def test_a_table_has_its_numbers_on_the_right(screen):
    console.print_table("A title [x]", ["name", "value"], [["one", "1.0"], ["another [y]", "12.0"]])
    lines = plain(screen).splitlines()
    assert lines[0].startswith("A title [x]")
    assert any(re.fullmatch(r"│ one +│ +1\.0 │", line.strip()) for line in lines)
    assert any(re.fullmatch(r"│ another \[y\] +│ +12\.0 │", line.strip()) for line in lines)


def test_tensorflow_loads_without_its_noise():
    program = (
        "import sys\n"
        "from erkeras.cli import console\n"
        "console.load_tensorflow(for_attacks=True)\n"
        "assert 'tensorflow.python' in sys.modules\n"
        "assert not {'matplotlib', 'pandas', 'sklearn'} & set(sys.modules)\n"
        "import keras, matplotlib.pyplot, sklearn.cluster\n"
        "print('still heard', file=sys.stderr)\n"
    )
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert found.returncode == 0, found.stderr
    assert found.stderr.replace("Loading TensorFlow", "").split() == ["still", "heard"]
    assert found.stdout == ""


@pytest.mark.parametrize(("options", "drawn"), [([], True), (["--quiet"], False), (["-q"], False)])
def test_quiet_commands_draw_nothing(screen, monkeypatch, options, drawn):
    @click.command()
    def long():
        with console.progress() as progress:
            progress.stage("training", 1)
            progress.advance(1)
        console.output.print("result")

    monkeypatch.setitem(erkeras.commands, "long", long)
    assert run(*options, "long").exit_code == 0
    assert ("training" in plain(screen)) == drawn
    assert "result" in plain(screen)
