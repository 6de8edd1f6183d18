"""Bars: a stage each, the latest figure, and none where what was given is bad."""

import io
import re

import pytest
from rich.console import Console

from erkeras.errors import InputError
from erkeras.progress_bar import ProgressBar


@pytest.fixture
def console():
    """A terminal of 100 columns."""
    return Console(file=io.StringIO(), force_terminal=True, width=100, markup=False)


def drawn(console):
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", console.file.getvalue())


def test_each_stage_is_a_bar_with_the_latest_figure(console):
    with ProgressBar(console) as progress:
        progress.stage("training", 4)
        progress.advance(1, "loss 0.500")
        progress.advance(3)  # no figure: the one before stays
        progress.stage("attacking [x]", 2)
        progress.advance(2, "robust 50.0% [of 2]")
    last = drawn(console)
    assert re.search(r"training +━+ +100% .*loss 0\.500", last)
    assert re.search(r"attacking \[x\] +━+ +100% .*robust 50\.0% \[of 2\]", last)


def fail_after_one_of_four(console, error):
    with ProgressBar(console) as progress:
        progress.stage("attacking", 4)
        progress.advance(1)
        raise error


def test_bad_input_leaves_no_bar_behind(console):
    with pytest.raises(InputError, match="no"):
        fail_after_one_of_four(console, InputError("no."))
    # On a terminal the bar is wiped out again; what is drawn last is nothing.
    assert "25%" not in drawn(console).splitlines()[-1]


def test_another_error_leaves_the_bar_where_it_was(console):
    with pytest.raises(OSError, match="full"):
        fail_after_one_of_four(console, OSError("full"))
    assert re.search(r"attacking .*25%", drawn(console))


def test_without_a_stage_what_is_done_is_counted(console):
    with ProgressBar(console) as progress:
        progress.advance(3, "robust 50%")
    assert re.search(r"working .*robust 50%", drawn(console))


def test_nothing_is_drawn_where_it_is_disabled(console):
    with ProgressBar(console, disable=True) as progress:
        progress.stage("training", 4)
        progress.advance(4)
    assert drawn(console).strip() == ""
