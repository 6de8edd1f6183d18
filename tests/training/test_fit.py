import dataclasses

import numpy as np
import pytest

from erkeras.data import load_dataset
from erkeras.models import Checkpoint
from erkeras.progress import Progress
from erkeras.training import fit_model


class StopAfter(Progress):
    def __init__(self, steps):
        self.left = steps

    def advance(self, units, note=""):
        self.left -= units if note else 0  # what was done before has no figure
        if not self.left:
            raise KeyboardInterrupt


def test_an_epoch_is_gone_on_with(tmp_path, tiny_job):
    """Its averaged weights and the best epoch's are those of a training that nothing interrupted."""
    recipe = dataclasses.replace(tiny_job.recipe, averaging=0.9, keep_best=True, batch_size=200)
    job, dataset = dataclasses.replace(tiny_job, recipe=recipe), load_dataset("digits")
    whole = Checkpoint(tmp_path / "whole")
    straight = fit_model(job, dataset, whole)
    for steps in (7, 2):  # of five an epoch: in the second, twice
        with pytest.raises(KeyboardInterrupt):
            fit_model(job, dataset, Checkpoint(tmp_path / "parts", seconds=0), StopAfter(steps))
    done = Checkpoint(tmp_path / "parts", seconds=0)
    resumed = fit_model(job, dataset, done)
    assert done.history == whole.history
    for one, other in zip(straight.get_weights(), resumed.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
