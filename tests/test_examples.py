"""What examples/ shows runs."""

import subprocess
import sys
from pathlib import Path

EXAMPLES = Path(__file__).parent.parent / "examples"


def test_the_whole_path_in_python(tmp_path):
    program = [sys.executable, str(EXAMPLES / "whole_path.py"), str(tmp_path)]
    found = subprocess.run(program, capture_output=True, text=True, timeout=300)
    assert found.returncode == 0, found.stderr
    said = dict(line.split(": ", 1) for line in found.stdout.splitlines())
    assert list(said) == ["trained", "attacked", "verified", "detectors", "exported", "verdicts"]
    assert said["verified"] == "True"
    assert said["exported"] == "2 fgsm apgd-ce l_inf 0.15 test"
    assert {path.name for path in tmp_path.iterdir()} == {"digits", "copy"}


def test_it_is_as_short_as_it_is_said_to_be():
    assert len((EXAMPLES / "whole_path.py").read_text().splitlines()) <= 30
