"""Workers of one training, forked from a process that has imported TensorFlow once: `python workers.py FOLDER`.

Each is a process with a TF_CONFIG of its own, on ports of loopback that were free. It writes its weights, or why it
ended, into the folder. What hangs is killed.
"""

import json
import os
import signal
import socket
import sys
import time
from pathlib import Path

import keras
import numpy as np

from erkeras import data, training
from erkeras.errors import InputError
from erkeras.models import Checkpoint, KeepBest
from erkeras.progress import Progress
from erkeras.recipes import Job, Recipe
from erkeras.training import workers
from erkeras.training.loop import fit_on_workers

#: Seconds until a process counts as hanging.
_LONGEST = 120
#: Without BatchNorm and with SGD, so that the weights of several processes are those of one, to rounding.
RECIPE = Recipe(
    "workers:network", 8, 2, 400, 0.1, steps=1, optimizer="sgd", learning_rate=0.1, coefficient=0.0, averaging=0.9,
    keep_best=True, augment=True,
)  # fmt: skip


def network(image_shape, code_size):
    """An encoder that is traced soon."""
    return keras.Sequential([keras.Input(image_shape), keras.layers.Flatten(), keras.layers.Dense(code_size)])


#: Before any fork.
DATASET = data.load_dataset("digits")


class KillsItself(Progress):
    """Kills its own process after so many steps."""

    def __init__(self, steps):
        self.left = steps

    def advance(self, units, note=""):
        self.left -= units if note else 0
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)


def weights(model):
    return {str(number): variable.numpy() for number, variable in enumerate(model.weights)}


def alone(folder):
    """Trains in one process by `fit`, and by the loop of workers."""
    job, dataset = Job("digits", RECIPE), DATASET
    checkpoint = Checkpoint(folder / "of-one")
    np.savez(folder / "one.npz", **weights(training.fit_model(job, dataset, checkpoint)))
    (folder / "one.json").write_text(json.dumps(checkpoint.history))

    model, validation = training.fresh_model(job, dataset), dataset.validation.sample(1000, seed=0)
    looped = Checkpoint(folder / "of-loop")
    fit_on_workers(
        model,
        data.training_batches(dataset.train, 400, job.seed, 0, augment=True),
        steps_per_epoch=len(dataset.train) // 400,
        epochs=2,
        callbacks=[keras.callbacks.SwapEMAWeights(), KeepBest(folder / "of-loop"), looped],
        validation_data=(validation.images, validation.labels),
    )
    np.savez(folder / "loop.npz", **weights(model))
    (folder / "loop.json").write_text(json.dumps(looped.history))


def worker(folder, name, dies_after=None):
    """Trains as one of the workers of TF_CONFIG."""
    workers._WAIT = 1.0 if name == "missing" else 60.0
    job = Job("digits", RECIPE, workers=2)
    devices = training.find_devices(job)
    number = devices.place.worker
    checkpoint = training.checkpoint_in(folder / "killed" if name == "resumed" else folder / name, 1e9, devices)
    progress = KillsItself(dies_after) if dies_after and number == 1 else None
    with workers.told_when_one_leaves():
        model = training.fit_model(job, DATASET, checkpoint, progress, devices=devices)
    np.savez(folder / f"{name}-{number}.npz", **weights(model))


def fork(folder, name, function, *arguments):
    """Runs a function in a new process, which ends with its exit code: 2 and a sentence for bad input."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        function(folder, *arguments)
        code = 0
    except InputError as error:
        (folder / f"{name}.txt").write_text(str(error))
        code = 2
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def ended(pids):
    """Waits for processes, and gives their exit codes; kills those that hang."""
    codes, end = {}, time.monotonic() + _LONGEST
    while len(codes) < len(pids):
        for pid in set(pids) - set(codes):
            found, status = os.waitpid(pid, os.WNOHANG)
            if found:
                codes[pid] = os.waitstatus_to_exitcode(status)
            elif time.monotonic() > end:
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.05)
    return [codes[pid] for pid in pids]


def together(folder, name, *arguments, numbers=(0, 1)):
    """Runs two workers of one training, or some of them."""
    listening = [socket.socket() for _ in range(2)]
    for found in listening:
        found.bind(("127.0.0.1", 0))
    addresses = [f"127.0.0.1:{found.getsockname()[1]}" for found in listening]
    for found in listening:
        found.close()
    pids = []
    for number in numbers:
        task = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": number}}
        os.environ["TF_CONFIG"] = json.dumps(task)
        pids.append(fork(folder, f"{name}-{number}", worker, name, *arguments))
    del os.environ["TF_CONFIG"]
    return ended(pids)


if __name__ == "__main__":
    place = Path(sys.argv[1])
    codes = {"alone": ended([fork(place, "alone", alone)]), "missing": together(place, "missing", numbers=(1,))}
    codes["two"] = together(place, "two")
    codes["killed"] = together(place, "killed", 4)  # of three steps an epoch
    codes["resumed"] = together(place, "resumed")
    (place / "codes.json").write_text(json.dumps(codes))
