import numpy as np
import tensorflow as tf

from erkeras.attacks import FGSM, PGD, CarliniWagner
from erkeras.data import Split
from erkeras.evaluation import evaluate_robustness, evaluate_transferred
from erkeras.evaluation.examples import STANDING, WRONG_WHEN_CLEAN
from erkeras.threat import ThreatModel

#: Grey values of one pixel; class 1 is above the boundary.
VALUES = np.array([0.05, 0.35, 0.45, 0.48, 0.55, 0.9])
LABELS = np.array([0, 0, 0, 1, 1, 1])


def boundary_at(value):
    return lambda images: (images[:, 0, 0] - value) * tf.constant([[-10.0, 10.0]])


def test_the_model_that_classifies_decides_what_was_right_and_what_was_broken():
    pixels = VALUES.astype(np.float32).reshape(-1, 1, 1, 1)
    split = Split(pixels, LABELS.astype(np.int32), np.arange(6))
    # The first breaks what is within 0.02 of the boundary 0.5, the second what is within 0.1.
    attacks = [
        FGSM(ThreatModel("l_inf", 0.02)),
        PGD(ThreatModel("l_inf", 0.1), steps=1, step_size=0.1, random_start=False),
    ]
    robustness = evaluate_robustness(boundary_at(0.5), split, attacks)
    assert robustness.examples.broken_by.tolist() == [STANDING, STANDING, 1, WRONG_WHEN_CLEAN, 1, STANDING]
    # Attacked: 0.15, 0.45, 0.55, 0.48, 0.45, 0.8.
    transferred = evaluate_transferred(boundary_at(0.4), robustness, split)
    # Right when clean are 0.05, 0.35, 0.48, 0.55 and 0.9; the attack took 0.35 over this boundary, and not 0.55.
    assert transferred.examples.broken_by.tolist() == [STANDING, 1, WRONG_WHEN_CLEAN, STANDING, STANDING, STANDING]
    assert transferred.examples.predictions.tolist() == [0, 1, 1, 1, 1, 1]
    assert transferred.examples.clean_predictions.tolist() == [0, 0, 1, 1, 1, 1]
    assert (transferred.clean_accuracy, transferred.robust_accuracy) == (5 / 6, 4 / 6)
    np.testing.assert_array_equal(transferred.examples.images, robustness.examples.images)
    assert "made for another model" in transferred.summary().warnings[-1]


def test_what_an_attack_found_outside_its_ball_breaks_nothing():
    pixels = VALUES.astype(np.float32).reshape(-1, 1, 1, 1)
    split = Split(pixels, (VALUES > 0.5).astype(np.int32), np.arange(6))
    # The nearest adversarial images, of which those of 0.48, 0.45 and 0.55 are within 0.06.
    attack = CarliniWagner(ThreatModel("l2", 0.06), iterations=100)
    robustness = evaluate_robustness(boundary_at(0.5), split, [attack])
    transferred = evaluate_transferred(boundary_at(0.5), robustness, split)
    assert (transferred.examples.predictions != split.labels)[1:].all()
    assert transferred.robust.tolist() == robustness.robust.tolist() == [True, True, False, False, False, True]
