"""What a recipe is by itself."""

import dataclasses

import pytest

from erkeras.errors import InputError
from erkeras.recipes import Recipe

LEAST = Recipe("digits", 16, 60, 64, 0.15)


def test_its_defaults_are_an_er_classifiers():
    """As docs and `erkeras train --help` say: joint, one cycle, seven steps, a critic of the authors'."""
    assert dataclasses.asdict(LEAST) == {
        "network": "digits",
        "code_size": 16,
        "epochs": 60,
        "batch_size": 64,
        "epsilon": 0.15,
        "defense": "er-classifier",
        "bottleneck": True,
        "training_ratio": 1.0,
        "steps": 7,
        "step_ratio": None,
        "epsilon_warm_up": 0.4,
        "clean_fraction": 0.0,
        "learning_rate": 2e-3,
        "one_cycle": True,
        "objective": "cross-entropy",
        "beta": 6.0,
        "regularizer": "wasserstein",
        "coefficient": 0.1,
        "coupling": "joint",
        "critic_units": (512, 512, 512, 512),
        "critic_output": "linear",
        "clip": 0.01,
        "critic_learning_rate": 1e-3,
        "regularizer_learning_rate": 1e-4,
        "bfloat16": False,
        "structured": 0.0,
        "averaging": 0.0,
        "keep_best": False,
        "noise": 0.0,
        "passes": 1,
        "augment": False,
        "generator_updates": 0,
        "generator_learning_rate": 5e-4,
        "purifier_steps": 200,
        "purifier_restarts": 10,
        "purifier_step_size": 30.0,
        "code_layer": None,
        "network_fingerprint": None,
    }


def test_two_of_the_same_settings_are_one_row():
    same = dataclasses.replace(LEAST, epochs=60)
    assert same == LEAST
    assert len({LEAST, same, dataclasses.replace(LEAST, epochs=61)}) == 2
    with pytest.raises(dataclasses.FrozenInstanceError):
        same.epochs = 3


def test_a_regularizer_asks_for_a_code():
    message = r"the coefficient \(lambda\) is 0\.1 for a network without a code \(--defense rse\): give 0, or another"
    with pytest.raises(InputError, match=message):
        dataclasses.replace(LEAST, bottleneck=False, defense="rse")
    assert dataclasses.replace(LEAST, bottleneck=False, coefficient=0.0).coefficient == 0
