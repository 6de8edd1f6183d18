"""What a training is asked for."""

import dataclasses

import pytest

from erkeras.recipes import Job, find_recipe

RECIPE = find_recipe("default", "digits", (8, 8, 1))


def test_its_defaults_are_those_of_the_command():
    assert dataclasses.asdict(Job("digits", RECIPE)) == {
        "dataset": "digits",
        "recipe": dataclasses.asdict(RECIPE),
        "seed": 0,
        "limit": 1000,
        "restarts": 5,
        "baseline": False,
        "features": "combined",
        "compact": False,
        "deterministic": True,
        "devices": 1,
        "workers": 1,
        "synchronized": False,
        "command": "",
    }


def test_it_cannot_be_changed_and_knows_its_like():
    job = Job("digits", RECIPE, seed=3)
    assert job == Job("digits", find_recipe("default", "digits", (8, 8, 1)), seed=3)
    assert job != dataclasses.replace(job, seed=4)
    with pytest.raises(dataclasses.FrozenInstanceError):
        job.seed = 4
