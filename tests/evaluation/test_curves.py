import numpy as np
import tensorflow as tf

from erkeras.attacks import PGD
from erkeras.data import Split
from erkeras.evaluation import accuracy_curve, evaluate_robustness
from erkeras.threat import ThreatModel

MATRIX = np.random.RandomState(0).normal(size=(16, 3)).astype(np.float32)


def model(images):
    return 5 * tf.reshape(images - 0.5, [-1, 16]) @ MATRIX


def test_accuracy_falls_with_epsilon_and_starts_at_the_clean_one(heard):
    def attacks(threat):
        return [PGD(threat, steps=5)]

    images = np.random.RandomState(1).rand(300, 4, 4, 1).astype(np.float32)
    labels = model(images).numpy().argmax(axis=1).astype(np.int32)
    labels[::10] = (labels[::10] + 1) % 3
    split = Split(images, labels, np.arange(300))
    epsilons = [0.0, 0.02, 0.05, 0.2]
    curve = accuracy_curve(model, split, attacks, ThreatModel("l_inf"), epsilons, seed=3, progress=heard, stage="curve")
    assert curve[0] == 0.9
    assert np.all(np.diff(curve) < 0)
    single = evaluate_robustness(model, split, attacks(ThreatModel("l_inf", 0.02)), seed=3)
    assert curve[1] == single.robust_accuracy
    assert heard.stages == [("curve", 300 * 6 * 4)]
    assert sum(heard.units) == 300 * 6 * 4
