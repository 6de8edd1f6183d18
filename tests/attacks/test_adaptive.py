import numpy as np
import pytest
import tensorflow as tf

from erkeras.attacks import APGD, FGSM, PGD, AdaptiveAttack, attack_in_turn
from erkeras.errors import InputError
from erkeras.threat import ThreatModel

THREAT = ThreatModel("l_inf", 0.07)
MATRIX = np.random.default_rng(0).normal(size=(16, 4)).astype(np.float32)
CENTRES = np.random.default_rng(1).uniform(0.3, 0.7, size=(4, 16)).astype(np.float32)
PLAIN = {
    "pgd": PGD(THREAT, steps=10, restarts=2),
    "apgd": APGD(THREAT, iterations=15),
    "apgd-t": APGD(THREAT, loss="dlr", targets=3, iterations=15),
}


def logits(images):
    return tf.tanh(tf.reshape(images - 0.5, [-1, 16]) @ MATRIX) * 3


def near(images):
    """Excess scores: an image of class c is natural within .95 of the centre of c."""
    flat = tf.reshape(images, [-1, 1, 16])
    return 5 * (tf.sqrt(tf.reduce_sum(tf.square(flat - CENTRES), axis=2)) - 0.95)


def with_detector(excess):
    return lambda images: tf.concat([logits(images), excess(images)], axis=1)


def off(images):
    return tf.fill([tf.shape(images)[0], 4], -1.0)


def everything(images):
    return tf.fill([tf.shape(images)[0], 4], 1.0)


@pytest.fixture
def points():
    images = np.random.default_rng(2).uniform(0.2, 0.8, size=(60, 4, 4, 1)).astype(np.float32)
    return images, logits(images).numpy().argmax(axis=1)


@pytest.mark.parametrize("name", PLAIN)
def test_with_the_detector_off_it_is_the_plain_attack(points, name):
    plain = PLAIN[name](logits, *points, seed=4)
    aimed = AdaptiveAttack(PLAIN[name], weights=(0.0, 1.0))(with_detector(off), *points, seed=4)
    assert 10 < plain.success.sum() < 60
    np.testing.assert_array_equal(aimed.success | plain.success, aimed.success)
    rows = plain.success
    np.testing.assert_allclose(aimed.images[rows], plain.images[rows], atol=1e-6)
    np.testing.assert_array_equal(aimed.predictions[rows], plain.predictions[rows])
    alone = AdaptiveAttack(PLAIN[name], weights=(0.0,))(with_detector(off), *points, seed=4)
    for field in ("success", "predictions", "queries", "gradients"):
        np.testing.assert_array_equal(getattr(alone, field), getattr(plain, field), err_msg=field)


@pytest.mark.parametrize("name", PLAIN)
def test_never_weaker_than_the_plain_attack_filtered(points, name):
    plain = PLAIN[name](logits, *points, seed=4)
    scores = np.take_along_axis(near(plain.images).numpy(), plain.predictions[:, None], axis=1)[:, 0]
    filtered = plain.success & (scores <= 0)
    aimed = AdaptiveAttack(PLAIN[name])(with_detector(near), *points, seed=4)
    assert np.all(aimed.success | ~filtered)
    assert aimed.success.sum() > filtered.sum() + 5
    # What it found is both.
    found = aimed.success
    predictions = logits(aimed.images).numpy().argmax(axis=1)
    scores = np.take_along_axis(near(aimed.images).numpy(), predictions[:, None], axis=1)[:, 0]
    np.testing.assert_array_equal(aimed.predictions, predictions)
    assert np.all(predictions[found] != points[1][found])
    assert np.all(scores[found] <= 0)
    assert np.all(aimed.distance <= 0.07 + 1e-6)


def test_a_detector_that_finds_everything_cannot_be_evaded(points):
    assert not AdaptiveAttack(PLAIN["pgd"])(with_detector(everything), *points).success.any()


def test_the_density_is_that_of_the_class_that_it_ends_in():
    """Class 1 is near but always found; class 2 is further and never: only the way to class 2 counts."""

    def model(images):
        x = tf.reshape(images, [-1, 4])
        scores = tf.stack([tf.fill([tf.shape(x)[0]], 0.0), x[:, 0] - 0.55, 2 * (x[:, 1] - 0.6)], axis=1)
        return tf.concat([scores, tf.tile([[-1.0, 1.0, -1.0]], [tf.shape(x)[0], 1])], axis=1)

    images = np.full((5, 2, 2, 1), 0.5, np.float32)
    labels = np.zeros(5, np.int32)
    plain = PGD(ThreatModel("l_inf", 0.2), steps=20)
    aimed = AdaptiveAttack(plain)(model, images, labels)
    assert aimed.success.all()
    np.testing.assert_array_equal(aimed.predictions, 2)
    assert not AdaptiveAttack(PGD(ThreatModel("l_inf", 0.08), steps=20))(model, images, labels).success.any()


def test_wrong_and_found_when_clean_is_not_broken_from_the_start():
    images = np.full((2, 4, 4, 1), 0.5, np.float32)
    labels = (logits(images).numpy().argmax(axis=1) + 1) % 4
    result = AdaptiveAttack(PGD(ThreatModel("l_inf", 0.0), steps=2))(with_detector(everything), images, labels)
    assert not result.wrong_when_clean.any()
    assert AdaptiveAttack(PGD(THREAT, steps=2))(with_detector(off), images, labels).wrong_when_clean.all()


def test_where_the_first_of_two_breaks_everything_the_second_has_nothing_to_do(points):
    everywhere = ThreatModel("l_inf", 1.0)
    both = [AdaptiveAttack(PGD(everywhere, restarts=5)), AdaptiveAttack(APGD(everywhere))]
    assert attack_in_turn(both, with_detector(off), *points).success.all()


def test_weights_may_come_as_a_list(points):
    aimed = AdaptiveAttack(PGD(THREAT, steps=2), weights=[0.0, 1.0])
    assert hash(aimed) == hash(AdaptiveAttack(PGD(THREAT, steps=2), weights=(0.0, 1.0)))


def test_names_attempts_and_what_is_refused():
    aimed = [AdaptiveAttack(attack) for attack in PLAIN.values()]
    assert [attack.name for attack in aimed] == ["pgd-detector", "apgd-ce-detector", "apgd-t-detector"]
    assert [attack.attempts for attack in aimed] == [8, 4, 12]
    with pytest.raises(InputError, match="fgsm cannot be aimed"):
        AdaptiveAttack(FGSM(THREAT))
    with pytest.raises(InputError, match=r"\(-1.0,\): give numbers of 0 or more"):
        AdaptiveAttack(PLAIN["pgd"], weights=(-1.0,))
