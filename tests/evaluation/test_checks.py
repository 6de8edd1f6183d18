import numpy as np
import pytest
import tensorflow as tf

from erkeras.attacks import APGD, PGD, Square
from erkeras.data import Split
from erkeras.evaluation import Record, evaluate_robustness
from erkeras.threat import ThreatModel

THREAT = ThreatModel("l_inf", 0.1)
MATRIX = np.random.RandomState(0).normal(size=(16, 5)).astype(np.float32)
STEPS = tf.random.Generator.from_seed(1)


def linear(images):
    return tf.reshape(images - 0.5, [-1, 16]) @ MATRIX


def noisy(images):
    return linear(images) + 0.1 * STEPS.normal([tf.shape(images)[0], 5])


@tf.function  # behind which the logits cannot be seen
def probabilities(images):
    return tf.nn.softmax(linear(images))


def staircase(images):
    """The same labels as the linear model of images in steps of .1, and no gradient."""
    return linear(tf.round(images * 10) / 10)


@pytest.fixture
def split():
    images = (np.random.RandomState(1).randint(0, 11, (150, 4, 4, 1)) / 10).astype(np.float32)
    return Split(images, linear(images).numpy().argmax(axis=1).astype(np.int32), np.arange(150))


def warnings(model, split, *attacks):
    return evaluate_robustness(model, split, attacks).warnings


def test_nothing_is_said_of_a_plain_model(split):
    assert warnings(linear, split, PGD(THREAT, steps=3), APGD(THREAT, loss="dlr", targets=4, iterations=3)) == ()


def test_probabilities_are_named(split):
    (sentence,) = warnings(probabilities, split, PGD(THREAT, steps=3))
    assert sentence.startswith("The model gives probabilities")


def test_a_randomised_model_is_named_and_what_it_takes_back_is_counted(split, tmp_path):
    settings = {"images": 150, "image_shape": [4, 4, 1], "attacks": [{"name": "pgd"}]}
    attacks = [PGD(THREAT, steps=3)]
    found = evaluate_robustness(noisy, split, attacks, record=Record.create(tmp_path / "record", settings))
    randomised, taken_back = found.warnings
    assert randomised.startswith("The model is randomised")
    (count,) = Record.open(tmp_path / "record").unconfirmed()
    assert 0 < count <= found.robust.sum()
    assert taken_back.startswith(f"pgd broke {count} images while it searched, and the model is right about them")
    # Whoever reads the record hears the same.
    again = evaluate_robustness(noisy, split, attacks, record=Record.open(tmp_path / "record"))
    assert again.warnings[1] == taken_back


def test_masked_gradients_are_seen_twice(split):
    first, second = warnings(staircase, split, PGD(THREAT, steps=3), Square(THREAT, queries=200))
    assert first.startswith("The gradient that pgd follows is zero at 128 of the first 128 images")
    assert second.startswith("square broke ")
    assert "gradients may be masked" in second


def test_black_boxes_alone_are_no_sign_of_masking(split):
    assert warnings(linear, split, Square(THREAT, queries=20)) == ()


def test_more_targets_than_classes_are_named(split):
    (sentence,) = warnings(linear, split, APGD(THREAT, loss="dlr", targets=9, iterations=3))
    assert sentence.startswith("apgd-t asks for more target classes than the 4 there are")


def test_warnings_are_in_the_summary(split):
    found = evaluate_robustness(probabilities, split, [PGD(THREAT, steps=1)])
    assert found.summary().warnings == found.warnings
    assert found.summary().outputs == "probabilities"
