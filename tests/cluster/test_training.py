"""Ray Train: a worker that is killed in the middle costs no more than time."""

import json
import os
import subprocess
import sys

import pytest

pytest.importorskip("ray")

#: Trains by two workers, one of which is killed in the second epoch, and alone; prints by how much the weights differ.
KILLED = """
import dataclasses, json, os, signal, sys
from pathlib import Path
import erkeras
from erkeras.cluster import train_on_cluster
from erkeras.data import load_dataset
from erkeras.progress import Progress
from erkeras.recipes import Job, Recipe
from erkeras.training import fit_model

def descendants():
    '''Processes that this one has started, and those that they have.'''
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                pass
    def ours(pid):
        while pid in parents:
            pid = parents[pid]
            if pid == os.getpid():
                return True
        return False
    return [pid for pid in parents if ours(pid)]

class Kills(Progress):
    def __init__(self):
        self.killed, self.stages, self.units = 0, [], 0
    def stage(self, name, total):
        self.stages.append(name)
    def advance(self, units, note=""):
        self.units += units if note else 0
        if self.units >= 9 and not self.killed:
            workers = [pid for pid in descendants() if b"TrainWorker" in Path(f"/proc/{pid}/cmdline").read_bytes()]
            self.killed = max(workers)
            os.kill(self.killed, signal.SIGKILL)

if __name__ == "__main__":
    recipe = Recipe("own:network", 8, 3, 100, 0.1, steps=1, optimizer="sgd", learning_rate=0.1, coefficient=0.0)
    job, heard = Job("digits", recipe, limit=20, restarts=1), Kills()
    train_on_cluster(dataclasses.replace(job, workers=2), Path("several"), None, progress=heard)
    one = fit_model(job, load_dataset("digits")).get_weights()
    several = erkeras.load("several").model.get_weights()
    differences = [float(abs(first - second).max()) for first, second in zip(several, one)]
    left = [pid for pid in descendants()]
    print(json.dumps([heard.killed, heard.stages, max(differences), left]))
"""
NETWORK = """
import keras

def network(image_shape, code_size):
    return keras.Sequential([keras.Input(image_shape), keras.layers.Flatten(), keras.layers.Dense(code_size)])
"""


@pytest.mark.slow
def test_training_ends_with_the_weights_of_one_process_where_a_worker_is_killed(tmp_path):
    (tmp_path / "own.py").write_text(NETWORK)
    (tmp_path / "killed.py").write_text(KILLED)
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    environment.pop("TF_CONFIG", None)
    result = subprocess.run(
        [sys.executable, "killed.py"], cwd=tmp_path, capture_output=True, text=True, timeout=600, env=environment
    )
    assert result.returncode == 0, result.stderr[-3000:]
    killed, stages, difference, left = json.loads(result.stdout.splitlines()[-1])
    assert killed
    assert stages.count("training") == 2  # before and after
    assert difference < 1e-5
    assert not left
