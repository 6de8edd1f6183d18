"""A server of TensorFlow Serving's protocols over a saved model, in a process of its own."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner

from erkeras.cli import main
from helpers import prediction_server


@pytest.fixture(scope="session")
def two_versions(tmp_path_factory, saved_model):
    """A copy of the saved model with a second version. Not to be written to."""
    copy = shutil.copytree(saved_model, tmp_path_factory.mktemp("versions") / "digits")
    result = CliRunner().invoke(main, ["export", str(copy), "--version", "2"])
    assert result.exit_code == 0, result.output
    assert f"Exported to {copy / '2'}" in result.output
    return copy


@pytest.fixture(scope="session")
def server(two_versions):
    """Both addresses of the model `digits`, and the server's process."""
    program = [sys.executable, str(Path(prediction_server.__file__)), "digits", str(two_versions)]
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    with subprocess.Popen(
        program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment, text=True
    ) as process:
        ports = json.loads(process.stdout.readline())
        yield SimpleNamespace(
            grpc=f"grpc://localhost:{ports['grpc']}/digits",
            rest=f"http://localhost:{ports['rest']}/v1/models/digits",
            process=process,
        )
        process.stdin.close()  # and it ends
        assert process.wait(30) == 0
