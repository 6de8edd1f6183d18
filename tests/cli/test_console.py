"""What long work looks like: bars, tables, TensorFlow's noise."""

import io
import re
import subprocess
import sys

import pytest
from rich.console import Console

from erkeras.cli import console
from erkeras.errors import InputError


@pytest.fixture
def screen(monkeypatch):
    """What a terminal of 100 columns gets."""
    text = io.StringIO()
    for name in ("messages", "output"):
        monkeypatch.setattr(console, name, Console(file=text, force_terminal=True, width=100, markup=False))
    return text


def plain(screen):
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", screen.getvalue())


def test_each_stage_is_a_bar_with_the_latest_figure(screen):
    with console.RichProgress() as progress:
        progress.stage("training", 4)
        progress.advance(1, "loss 0.500")
        progress.advance(3)  # no figure: the one before stays
        progress.stage("attacking [x]", 2)
        progress.advance(2, "robust 50.0% [of 2]")
    last = plain(screen)
    assert re.search(r"training +━+ +100% .*loss 0\.500", last)
    assert re.search(r"attacking \[x\] +━+ +100% .*robust 50\.0% \[of 2\]", last)


def fail_after_one_of_four(error):
    with console.RichProgress() as progress:
        progress.stage("attacking", 4)
        progress.advance(1)
        raise error


def test_bad_input_leaves_no_bar_behind(screen):
    with pytest.raises(InputError, match="no"):
        fail_after_one_of_four(InputError("no."))
    # On a terminal the bar is wiped out again; what is drawn last is nothing.
    assert "25%" not in plain(screen).splitlines()[-1]


def test_another_error_leaves_the_bar_where_it_was(screen):
    with pytest.raises(OSError, match="full"):
        fail_after_one_of_four(OSError("full"))
    assert re.search(r"attacking .*25%", plain(screen))


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
