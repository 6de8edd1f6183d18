from dataclasses import dataclass

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from erkeras.attacks import Attack
from erkeras.data import Split
from erkeras.errors import InputError
from erkeras.evaluation import draw_verdicts, evaluate_robustness
from erkeras.threat import ThreatModel


@dataclass(frozen=True)
class Shift(Attack):
    """Adds an amount to every pixel."""

    amount: float = 0.0
    title: str = "shift"

    @property
    def name(self):
        return self.title

    forward_passes = 0

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
    assert found.attacked["up"].robust_accuracy == 4 / 7
    assert found.attacked["down"].robust_accuracy == 5 / 7
    assert found.robust.tolist() == [True, False, False, False, True, True, False]
    assert found.robust_accuracy == 3 / 7
    assert found.indices.tolist() == list(range(100, 107))
    assert found.summary() == {
        "images": 7,
        "outputs": "logits",
        "clean_accuracy": 6 / 7,
        "attacks": {"up": 4 / 7, "down": 5 / 7},
        "robust_accuracy": 3 / 7,
    }


def test_the_adversarial_image_is_of_the_first_attack_that_broke_it(split):
    images, successful = evaluate_robustness(brightness, split, [UP, DOWN]).adversarial()
    assert successful.tolist() == [False, True, True, True, False, False, False]
    np.testing.assert_allclose(images[:, 0, 0, 0], [0.03, 0.52, 0.57, 0.48, 0.53, 0.83, 0.2], atol=1e-6)


def test_the_order_of_attacks_does_not_matter_for_what_stands(split):
    first, second = (evaluate_robustness(brightness, split, attacks) for attacks in ([UP, DOWN], [DOWN, UP]))
    np.testing.assert_array_equal(first.robust, second.robust)


def test_progress_sums_to_images_times_rounds(split):
    done = []
    evaluate_robustness(brightness, split, [UP, DOWN], progress=done.append)
    assert sum(done) == 2 * 7


@pytest.mark.parametrize("attacks", [[], [UP, UP]])
def test_no_attack_or_one_twice_is_refused(split, attacks):
    with pytest.raises(InputError, match="give each attack once"):
        evaluate_robustness(brightness, split, attacks)


def test_no_images_are_refused(split):
    with pytest.raises(InputError, match="0 images"):
        evaluate_robustness(brightness, split.take(np.arange(0)), [UP])


@pytest.mark.parametrize("channels", [1, 3])
def test_a_picture_has_a_column_for_each_image(tmp_path, channels):
    images = np.random.RandomState(0).rand(3, 8, 8, channels).astype(np.float32)
    captions = [("4\nnatural", True, "9\nadversarial", True)] * 3
    draw_verdicts(tmp_path / "three.png", images, images, captions, "title")
    draw_verdicts(tmp_path / "one.png", images[:1], images[:1], captions[:1])
    three, one = (Image.open(tmp_path / f"{name}.png") for name in ("three", "one"))
    assert three.width == 3 * one.width
    assert np.asarray(three.convert("L")).std() > 10
