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
        "norm": "l_inf",
        "training_ratio": 1.0,
        "steps": 7,
        "step_ratio": None,
        "epsilon_warm_up": 0.4,
        "clean_fraction": 0.0,
        "learning_rate": 2e-3,
        "one_cycle": True,
        "optimizer": "adam",
        "momentum": 0.9,
        "weight_decay": 0.0,
        "objective": "cross-entropy",
        "beta": 6.0,
        "label_smoothing": 0.0,
        "regularizer": "wasserstein",
        "coefficient": 0.1,
        "coupling": "joint",
        "critic_units": (512, 512, 512, 512),
        "critic_output": "linear",
        "clip": 0.01,
        "critic_learning_rate": 1e-3,
        "regularizer_learning_rate": 1e-4,
        "bfloat16": False,
        "mixed_precision": False,
        "structured": 0.0,
        "averaging": 0.0,
        "keep_best": False,
        "noise": 0.0,
        "passes": 1,
        "augment": False,
        "cutout": 0.0,
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


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"norm": "l1"}, "the norm of the recipe is 'l1': give l_inf or l2"),
        ({"epsilon": 1.01}, "epsilon is 1.01 in l_inf: give a number from 0 to 1"),
        ({"bottleneck": False}, "for a network without a code"),
        ({"label_smoothing": 1.0}, "label smoothing is 1: give a number from 0 up to, not including, 1"),
        ({"label_smoothing": -0.1}, "label smoothing is -0.1: give a number from 0"),
        ({"cutout": 1.5}, "cutout is 1.5: give a number from 0 up to, not including, 1"),
        ({"code_layer": ""}, "the code layer has no name: give the name of a layer, or leave it out"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(changes, message):
    with pytest.raises(InputError, match=message):
        dataclasses.replace(LEAST, **changes)


def test_in_l2_epsilon_may_be_larger_than_a_pixel():
    assert dataclasses.replace(LEAST, norm="l2", epsilon=1.5).epsilon == 1.5
