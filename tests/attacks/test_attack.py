import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers.random_noise import RandomNoise, model, noise_points

from erkeras.attacks import PGD, Attack
from erkeras.attacks.attack import serializable
from erkeras.errors import InputError
from erkeras.threat import ThreatModel


@pytest.fixture
def points():
    return noise_points()


def test_without_more_an_attack_is_one_attempt_of_one_step_that_asks_for_gradients():
    attack = Attack()
    assert (attack.attempts, attack.length, attack.work, attack.passes) == (1, 1, 1, (1, 1))
    assert (attack.knowledge, attack.outputs_per_class, attack.minimises) == ("gradients", 1, False)
    assert attack.parts == (attack,)


@pytest.mark.parametrize("missing", [lambda attack: attack.name, lambda attack: attack.perturb(*[None] * 4)])
def test_what_a_subclass_must_give_is_missing_from_the_base(missing):
    with pytest.raises(NotImplementedError):
        missing(Attack())


def test_labels_are_the_highest_outputs_or_the_outputs_themselves():
    attack, labels = Attack(), tf.constant([1, 2])
    for outputs in ([[0.0, 3, 1], [2, 0, 1]], [[1.0], [0.0]]):
        assert attack.predictions(tf.constant(outputs)).numpy().tolist() == [1, 0]
        assert attack.broken(labels, tf.constant(outputs)).numpy().tolist() == [False, True]


def test_work_is_the_steps_of_all_attempts(points, heard):
    attack = PGD(ThreatModel("l_inf", 1e-4), steps=3, restarts=2)
    assert attack.work == 2 * 4
    attack(model, *points, internal_batch=8, progress=heard)
    assert sum(heard.units) == 40 * 8


def test_wrong_when_clean_counts_against_robust_accuracy(points):
    images, labels = points
    assert RandomNoise(ThreatModel("l_inf", 0.0), tries=1)(model, images, labels).robust_accuracy == 0.9


IMAGES, LABELS = np.full((3, 2, 2, 1), 0.5), np.array([0, 1, 2])


@pytest.mark.parametrize(
    ("images", "labels", "options", "given"),
    [
        (IMAGES[..., 0], LABELS, {}, r"\(3, 2, 2\)"),
        (IMAGES, LABELS[:2], {}, "3 images, 2 labels and 3 indices"),
        (IMAGES, LABELS, {"indices": [0, 1]}, "3 images, 3 labels and 2 indices"),
        (IMAGES * 3, LABELS, {}, r"outside \[0, 1\]"),
        (IMAGES - 1, LABELS, {}, r"outside \[0, 1\]"),
        (IMAGES * np.nan, LABELS, {}, "not numbers"),
        (IMAGES, LABELS + 1, {}, "from 1 to 3, and the model has 3 outputs"),
        (IMAGES, LABELS - 1, {}, "from -1 to 1"),
    ],
)
def test_unfit_images_and_labels_are_refused(images, labels, options, given):
    with pytest.raises(InputError, match=given):
        PGD(steps=1)(model, images, labels, **options)


@pytest.mark.parametrize("internal_batch", [0, -3, 2.5])
def test_an_internal_batch_that_holds_no_image_is_refused(points, internal_batch):
    with pytest.raises(InputError, match="internal"):
        PGD(steps=1)(model, *points, internal_batch=internal_batch)


def test_bounds_are_the_threat_model_s(points):
    images, labels = points
    wide = PGD(ThreatModel("l_inf", 0.1, -1.0, 3.0), steps=1)
    assert wide(model, images * 3, labels).images.max() > 1
    with pytest.raises(InputError, match=r"outside \[-1, 3\]"):
        wide(model, images * 4, labels)


def test_labels_may_come_in_a_column_and_as_any_integer(points):
    images, labels = points
    attack = RandomNoise(tries=1)
    expected = attack(model, images, labels).success
    np.testing.assert_array_equal(attack(model, images, labels[:, None].astype(np.uint8)).success, expected)


def test_a_subclass_of_ones_own_comes_back_from_its_config():
    attack = RandomNoise(ThreatModel("l2", 2.0), tries=3)
    assert RandomNoise.from_config(attack.get_config()) == attack


def test_a_class_is_registered_with_keras_under_the_package():
    registry = keras.saving.get_custom_objects()
    cls = serializable(type("OfAFriend", (RandomNoise,), {}))
    assert registry.pop("erkeras>OfAFriend") is cls
