from dataclasses import dataclass

import numpy as np
import pytest
import tensorflow as tf

from erkeras.attacks import APGD, PGD, AdaptiveAttack, Attack
from erkeras.data import Split
from erkeras.errors import InputError
from erkeras.evaluation import attacker, evaluate_robustness
from erkeras.evaluation.examples import STANDING, WRONG_WHEN_CLEAN
from erkeras.saved import Summary
from erkeras.threat import ThreatModel


@dataclass(frozen=True)
class Shift(Attack):
    """Adds an amount to every pixel."""

    amount: float = 0.0
    title: str = "shift"

    @property
    def name(self):
        return self.title

    passes = (1, 0)

    def perturb(self, logits, images, labels, seeds, scale=1.0):
        return self.threat.project(images + self.amount, images, scale)


def brightness(images):
    """Class 1 for images brighter than a half."""
    mean = tf.reduce_mean(images, axis=[1, 2, 3])
    return tf.stack([0.5 - mean, mean - 0.5], axis=1)


@pytest.fixture
def split():
    # Brightness .1, .4, .45, .55, .6, .9, and one with the wrong label.
    levels = np.array([0.1, 0.4, 0.45, 0.55, 0.6, 0.9, 0.2], np.float32)
    labels = np.array([0, 0, 0, 1, 1, 1, 1], np.int32)
    pixels = np.broadcast_to(levels[:, None, None, None], (7, 4, 4, 1)).copy()
    return Split(pixels, labels, np.arange(100, 107))


THREAT = ThreatModel("l_inf", 0.2)
UP, DOWN = Shift(THREAT, 0.12, "up"), Shift(THREAT, -0.07, "down")


def test_robust_is_right_when_clean_and_under_every_attack(split):
    found = evaluate_robustness(brightness, split, [UP, DOWN])
    assert found.clean_accuracy == 6 / 7
    assert [found.accuracy_after(number) for number in range(2)] == [4 / 7, 3 / 7]
    assert found.robust.tolist() == [True, False, False, False, True, True, False]
    assert found.successful.tolist() == [False, True, True, True, False, False, False]
    assert found.examples.broken_by.tolist() == [STANDING, 0, 0, 1, STANDING, STANDING, WRONG_WHEN_CLEAN]
    assert found.examples.indices.tolist() == list(range(100, 107))
    assert found.robust_accuracy == 3 / 7
    assert found.summary() == Summary(
        images=7,
        outputs="logits",
        clean_accuracy=6 / 7,
        attacks={"up": 4 / 7, "down": 3 / 7},
        robust_accuracy=3 / 7,
        mean_boundary_distance=None,
        forward_passes={"up": 7 + 6, "down": 4 + 4},
        backward_passes={"up": 0, "down": 0},
        warnings=(),
    )


def test_it_says_how_it_ended(split):
    found = evaluate_robustness(brightness, split, [UP, DOWN])
    assert repr(found) == "Robustness(7 images, clean 85.7%, up 57.1%, down 42.9%)"


@dataclass(frozen=True)
class Nearest(Shift):
    """Asks for the nearest image of another class, as RayS does."""

    minimises = True


def test_the_mean_boundary_distance_is_that_of_one_attack_that_crossed_every_boundary(split):
    low = split.take(np.arange(3))  # of class 0, all right when clean
    across = Nearest(ThreatModel("l_inf", 0.5), 0.45, "across")
    found = evaluate_robustness(brightness, low, [across])
    assert found.mean_boundary_distance == found.summary().mean_boundary_distance == pytest.approx(0.45, abs=1e-6)
    with_a_wrong_one = evaluate_robustness(brightness, split.take(np.array([0, 1, 2, 6])), [across])
    assert with_a_wrong_one.mean_boundary_distance == pytest.approx(0.45, abs=1e-6)
    short = Nearest(ThreatModel("l_inf", 0.5), 0.12, "short")
    for part, attacks in (
        (low, [short]),  # leaves one image where it was
        (low, [Shift(ThreatModel("l_inf", 0.5), 0.45)]),  # does not look for the nearest
        (low, [across, short]),
        (split.take(np.array([6])), [across]),  # wrong when clean
    ):
        assert evaluate_robustness(brightness, part, attacks).mean_boundary_distance is None


def test_points_already_broken_leave_the_working_set(split):
    examples = evaluate_robustness(brightness, split, [UP, DOWN]).examples
    np.testing.assert_array_equal(examples.queries, [[2, 2], [2, 0], [2, 0], [2, 2], [2, 2], [2, 2], [1, 0]])


def test_the_image_kept_is_what_broke_it_or_the_last_attempt(split):
    examples = evaluate_robustness(brightness, split, [UP, DOWN]).examples
    np.testing.assert_allclose(examples.images[:, 0, 0, 0], [0.03, 0.52, 0.57, 0.48, 0.53, 0.83, 0.2], atol=1e-6)
    np.testing.assert_array_equal(examples.predictions, [0, 1, 1, 0, 1, 1, 0])
    np.testing.assert_allclose(examples.distance, [0.07, 0.12, 0.12, 0.07, 0.07, 0.07, 0], atol=1e-6)


def test_the_order_of_attacks_does_not_matter_for_what_stands(split):
    first, second = (evaluate_robustness(brightness, split, attacks) for attacks in ([UP, DOWN], [DOWN, UP]))
    np.testing.assert_array_equal(first.robust, second.robust)


def test_progress_sums_to_images_times_work(split, heard):
    evaluate_robustness(brightness, split, [UP, DOWN], progress=heard, stage="up and down")
    assert heard.stages == [("up and down", 2 * 7)]
    assert sum(heard.units) == 2 * 7


def test_long_evaluations_go_part_by_part_and_say_how_it_stands(heard, monkeypatch):
    monkeypatch.setattr(attacker, "part_size", lambda attacks, internal_batch, streams: 128)
    levels = np.random.RandomState(0).rand(300).astype(np.float32)
    pixels = np.broadcast_to(levels[:, None, None, None], (300, 2, 2, 1)).copy()
    split = Split(pixels, (levels > 0.5).astype(np.int32), np.arange(300))
    found = evaluate_robustness(brightness, split, [UP], progress=heard)
    np.testing.assert_array_equal(found.robust, (levels < 0.38) | (levels > 0.5))
    assert [note for note in dict.fromkeys(heard.notes) if note] == [
        f"robust {found.robust[:128].mean():.1%} of 128",
        f"robust {found.robust[:256].mean():.1%} of 256",
        f"robust {found.robust.mean():.1%} of 300",
    ]


def test_attacks_that_get_nothing_are_no_trouble(split, heard):
    """Of a detector's model too, whose outputs are more than its logits."""

    def undecided(images):
        logits = brightness(images)
        return tf.concat([logits, -tf.ones_like(logits)], axis=1)  # takes nothing for adversarial

    all_broken = split.take(np.arange(1, 4))
    first, second = (AdaptiveAttack(attack) for attack in (PGD(THREAT, 3), APGD(THREAT, iterations=3)))
    found = evaluate_robustness(undecided, all_broken, [first, second], progress=heard)
    assert found.examples.broken_by.tolist() == [0, 0, 0]
    assert found.examples.queries[:, 1].tolist() == [0, 0, 0]
    assert sum(heard.units) == 3 * (first.work + second.work)


@pytest.mark.parametrize("attacks", [[], [UP, UP]])
def test_no_attack_or_one_twice_is_refused(split, attacks):
    with pytest.raises(InputError, match="each attack once"):
        evaluate_robustness(brightness, split, attacks)


def test_no_images_are_refused(split):
    with pytest.raises(InputError, match="0 images"):
        evaluate_robustness(brightness, split.take(np.arange(0)), [UP])
