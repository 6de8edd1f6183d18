"""What is dear to make, made once for all workers of a run."""

import fcntl
import os
import shutil
from contextlib import contextmanager


def common(tmp_path_factory):
    """The folder that all workers of this run have."""
    own = tmp_path_factory.getbasetemp()
    folder = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "shared"
    folder.mkdir(exist_ok=True)
    return folder


@contextmanager
def one_at_a_time(tmp_path_factory, name):
    """Keeps other workers waiting."""
    with (common(tmp_path_factory) / f"{name}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def made_once(tmp_path_factory, name, make):
    """The folder that `make`, called with a path, makes for whichever worker asks first; the others wait for it."""
    folder = common(tmp_path_factory) / name
    done = folder / ".done"
    with one_at_a_time(tmp_path_factory, name):
        if not done.exists():
            shutil.rmtree(folder, ignore_errors=True)  # of a worker that failed
            folder.mkdir()
            make(folder / "digits")
            done.touch()
    return folder / "digits"
