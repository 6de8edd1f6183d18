"""What examples/ shows runs."""

import runpy
import sys
from pathlib import Path

import tensorflow as tf

EXAMPLES = Path(__file__).parent.parent / "examples"


def test_the_whole_path_in_python(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["whole_path.py", str(tmp_path)])
    # Deterministic operations, once on, would stay on for every other test.
    monkeypatch.setattr(tf.config.experimental, "enable_op_determinism", lambda: None)
    runpy.run_path(str(EXAMPLES / "whole_path.py"), run_name="__main__")
    said = dict(line.split(": ", 1) for line in capsys.readouterr().out.splitlines())
    assert list(said) == ["trained", "attacked", "verified", "detectors", "exported", "verdicts"]
    assert said["verified"] == "True"
    assert said["exported"] == "2 fgsm apgd-ce l_inf 0.15 test"
    assert {path.name for path in tmp_path.iterdir()} == {"digits", "copy"}


def test_it_is_as_short_as_it_is_said_to_be():
    assert len((EXAMPLES / "whole_path.py").read_text().splitlines()) <= 30
