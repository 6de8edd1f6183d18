"""The group of commands."""

import json
import re
import subprocess
import sys

import numpy as np
import pytest

from erkeras import __version__
from erkeras.cli import main
from helpers.commands import refused, run


def npz(path, **arrays):
    np.savez(path, **arrays)
    return path


WITHOUT_TENSORFLOW = """
import json, sys
sys.modules["tensorflow"] = sys.modules["keras"] = None  # importing them fails
from erkeras.cli import main
for arguments in json.loads(sys.argv[1]):
    try:
        main(arguments)
    except SystemExit as end:
        print("ended with", end.code)
"""


def test_bad_input_is_found_without_tensorflow(anywhere):
    npz(anywhere / "bad.npz", images=np.full((4, 2, 2), np.nan), labels=np.zeros(4, int))
    (anywhere / "model").mkdir()
    commands = [
        ["--help"],
        ["train", "--help"],
        ["train", "--dataset", "nope"],
        ["train", "--dataset", "npz:bad.npz"],
        ["train", "--dataset", "tiny_imagenet:."],
        ["train", "--output", "model"],
        ["attack", "model"],
        ["detect", "model", "bad.npz"],
        ["detect", "--endpoint", "http://localhost:1/v1/models/digits", "bad.npz"],
        ["detect", "--endpoint", "grpc://localhost/", "bad.npz"],
        ["attack", "--endpoint", "grpc://localhost:1/digits", "--attack", "pgd"],
        ["attack", "--endpoint", "grpc://localhost:1/digits", "--attack", "rays"],
        ["export", "model"],
        ["verify", "model"],
        ["detectors", "model"],
        ["curve", "model"],
        ["table", "model"],
        ["report", "model"],
        ["rows", "--dataset", "nope"],
    ]
    program = [sys.executable, "-c", WITHOUT_TENSORFLOW, json.dumps(commands)]
    found = subprocess.run(program, capture_output=True, text=True, timeout=60)
    assert found.returncode == 0, found.stderr
    ends = [int(code) for code in re.findall(r"^ended with (.+)$", found.stdout, re.MULTILINE)]
    assert ends == [0 if "--help" in arguments else 2 for arguments in commands], found.stderr
    assert len(re.findall("^Error: ", found.stderr, re.MULTILINE)) == ends.count(2)


def test_an_option_without_its_value_names_its_command():
    for command in ("attack", "train"):
        refused(run(command, "--seed"), f"erkeras {command} --help lists what is allowed")


def test_version():
    assert run("--version").output.strip() == f"erkeras, version {__version__}"


def test_it_runs_as_a_module():
    found = subprocess.run([sys.executable, "-m", "erkeras", "--version"], capture_output=True, text=True, timeout=60)
    assert found.stdout.strip() == f"erkeras, version {__version__}"


@pytest.mark.parametrize("name", main.commands)
def test_help_is_whole_sentences_in_panels(name):
    """Each option says what it does, in one sentence or more, under a heading of its kind."""
    for parameter in main.commands[name].params:
        if parameter.param_type_name == "option":
            text = parameter.help.partition("  [default")[0]
            assert text.endswith("."), text
            assert text[0].isupper(), text
            assert parameter.panel, parameter.name
