"""Several workers under TF_CONFIG: the weights of one process, also where one worker is killed."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import helpers

HELPER = Path(helpers.__file__).parent / "workers.py"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """What all trainings left; see `helpers/workers.py`."""
    place = tmp_path_factory.mktemp("workers")
    environment = {name: value for name, value in os.environ.items() if name != "TF_CONFIG"}
    environment["TF_CPP_MIN_LOG_LEVEL"] = "3"
    result = subprocess.run(
        [sys.executable, HELPER, place], capture_output=True, text=True, timeout=600, env=environment
    )
    assert result.returncode == 0, result.stderr[-3000:]
    codes = json.loads((place / "codes.json").read_text())
    assert codes["alone"] + codes["two"] + codes["resumed"] == [0] * 5, result.stderr[-3000:]
    return place, codes


def weights(folder, name):
    with np.load(folder / f"{name}.npz") as found:
        return list(found.values())


def test_the_loop_is_fit_bit_for_bit(folder):
    place, _ = folder
    for one, other in zip(weights(place, "one"), weights(place, "loop"), strict=True):
        np.testing.assert_array_equal(one, other)
    assert json.loads((place / "one.json").read_text()) == json.loads((place / "loop.json").read_text())


def test_two_workers_learn_what_one_process_learns(folder):
    place, _ = folder
    for one, first, second in zip(*(weights(place, name) for name in ("one", "two-0", "two-1")), strict=True):
        np.testing.assert_array_equal(first, second)
        np.testing.assert_allclose(one, first, rtol=0, atol=1e-5)


def test_where_a_worker_is_killed_training_goes_on_from_the_checkpoint(folder):
    place, codes = folder
    assert codes["killed"] == [2, -9]
    assert (place / "killed-0.txt").read_text().startswith("a worker of this training does not answer any more: start")
    for whole, *resumed in zip(*(weights(place, name) for name in ("two-0", "resumed-0", "resumed-1")), strict=True):
        for found in resumed:
            np.testing.assert_array_equal(whole, found)


def test_a_worker_that_does_not_come_is_not_waited_for_without_an_end(folder):
    place, codes = folder
    assert codes["missing"] == [2]
    sentence = (place / "missing-1.txt").read_text()
    assert sentence.startswith("of the 2 workers of TF_CONFIG 127.0.0.1:")
    assert sentence.endswith("did not come within 1 seconds: start the same command on each.")
