"""Table 4 on counts that are made by hand."""

import numpy as np
import pytest

from erkeras.detection import Criteria


def test_criteria_of_hand_made_counts():
    # Ten adversarial images: six found; of the other four, one classified correctly. Of those found, two would be.
    verdicts = np.array([1, 1, 1, 1, 1, 1, 0, 0, 0, 0], bool)
    right = np.array([1, 1, 0, 0, 0, 0, 1, 0, 0, 0], bool)
    natural = np.array([0, 0, 0, 1, 0, 0, 0, 0], bool)
    found = Criteria.count(natural, verdicts, right)
    assert (found.adversarial, found.natural, found.found, found.passed, found.right) == (10, 8, 6, 7, 1)
    assert found.acc_adv == 6 / 10
    assert found.acc_nadv == 7 / 8
    assert found.acc_cla == 1 / 4
    assert found.acc_com == 7 / 10
    assert found.without_detector == 3 / 10
    # ACC-COM is what is found, and the rest's classification.
    assert found.acc_com == pytest.approx(found.acc_adv + (1 - found.acc_adv) * found.acc_cla)


def test_a_detector_that_never_fires_scores_what_none_does():
    right = np.array([1, 1, 0, 1], bool)
    found = Criteria.count(np.zeros(3, bool), np.zeros(4, bool), right)
    assert found.acc_com == found.acc_cla == found.without_detector == 0.75
    assert found.acc_adv == 0
    assert found.acc_nadv == 1


def test_a_fraction_of_nothing_is_none():
    everything = Criteria.count(np.ones(2, bool), np.ones(3, bool), np.zeros(3, bool))
    assert everything.acc_cla is None
    assert everything.acc_com == 1
    nothing = Criteria.count(np.zeros(2, bool), np.zeros(0, bool), np.zeros(0, bool))
    assert nothing.acc_adv is nothing.acc_com is nothing.without_detector is None
