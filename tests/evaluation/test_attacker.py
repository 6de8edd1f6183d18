import numpy as np
import pytest
import tensorflow as tf

from erkeras.attacks import FGSM, PGD
from erkeras.attacks.devices import WholeLoop
from erkeras.data import Split
from erkeras.errors import InputError
from erkeras.evaluation import attacker, evaluate_robustness
from erkeras.evaluation.examples import STANDING
from erkeras.threat import ThreatModel
from helpers.evaluations import evaluation

THREAT = ThreatModel("l_inf", 0.2)


def brightness(images):
    """Class 1 for images brighter than a half."""
    mean = tf.reduce_mean(images, axis=[1, 2, 3])
    return tf.stack([0.5 - mean, mean - 0.5], axis=1)


@pytest.mark.parametrize(
    ("attacks", "times"),
    [
        ([FGSM(THREAT)], 4),
        ([PGD(THREAT, steps=40)], 4),
        ([PGD(THREAT, steps=40, restarts=2)], 2),
        ([FGSM(THREAT), PGD(THREAT, steps=40, restarts=5)], 1),
        ([PGD(THREAT, steps=1000)], 1),
    ],
)
def test_parts_are_larger_where_attacks_make_few_passes(monkeypatch, attacks, times):
    assert attacker.part_size(attacks, 128, 3) == 3 * 128 * times
    monkeypatch.setattr(attacker, "has_gpu", lambda: True)
    assert attacker.part_size(attacks, 64, 1) == 64 * 4


def test_larger_parts_waste_fewer_slots_and_give_the_same(monkeypatch):
    """Half of the images stand all steps, and the others leave at once."""
    passes = []

    def counted(images):
        tf.py_function(lambda: passes.append(1), [], [])
        return brightness(images)

    odd = np.arange(2048) % 2
    levels = np.where(odd, 0.9, 0.49).astype(np.float32)
    pixels = np.broadcast_to(levels[:, None, None, None], (2048, 1, 1, 1)).copy()
    split = Split(pixels, odd.astype(np.int32), np.arange(2048))
    results, counts = [], []
    for size in (256, 1024):
        monkeypatch.setattr(attacker, "part_size", lambda attacks, internal_batch, streams, size=size: size)
        passes.clear()
        results.append(evaluate_robustness(counted, split, [PGD(THREAT, steps=20)]).examples)
        counts.append(len(passes))
    assert counts[1] < 0.75 * counts[0]
    for name, value in vars(results[0]).items():
        np.testing.assert_array_equal(value, getattr(results[1], name), name)
    np.testing.assert_array_equal(results[0].broken_by == STANDING, odd == 1)


def test_a_loop_that_xla_compiled_gives_the_same_verdicts(saved_model, monkeypatch):
    compiled = []
    monkeypatch.setattr("erkeras.attacks.slots.WholeLoop", _watched(compiled))
    found = [evaluation(saved_model, "pgd", limit=60, jit_compile=jit).run() for jit in (False, True)]
    assert compiled == [False, True]
    np.testing.assert_array_equal(found[0].robust, found[1].robust)


def _watched(compiled):
    def make(function, by_xla):
        compiled.append(by_xla)
        return WholeLoop(function, by_xla)

    return make


def test_labels_that_the_model_does_not_have_are_refused_before_the_first_look():
    split = Split(np.zeros((3, 2, 2, 1), np.float32), np.array([0, 1, 2], np.int32), np.arange(3))
    with pytest.raises(InputError, match="the labels run from 0 to 2, and the model has 2 outputs"):
        evaluate_robustness(brightness, split, [PGD(THREAT, steps=1)])
