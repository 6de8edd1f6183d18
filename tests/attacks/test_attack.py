from dataclasses import dataclass

import keras
import numpy as np
import pytest
import tensorflow as tf

from erkeras.attacks import PGD, Attack, Victim, runner
from erkeras.attacks.losses import cross_entropy
from erkeras.attacks.victim import as_victim, padded_batches
from erkeras.errors import InputError
from erkeras.threat import ThreatModel


@dataclass(frozen=True)
class RandomNoise(Attack):
    """Tries random points of the ball; what it tries in a round is known from the seeds alone."""

    tries: int = 6

    name = "random_noise"
    passes = (1, 0)

    @property
    def attempts(self):
        return self.tries

    def perturb(self, logits, images, labels, seeds, scale=1.0):
        return self.threat.random_start(images, seeds, scale)


MATRIX = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)


def model(images):
    return tf.reshape(images - 0.5, [tf.shape(images)[0], 4]) @ MATRIX


@pytest.fixture
def points():
    images = np.random.default_rng(1).uniform(size=(40, 2, 2, 1)).astype(np.float32)
    labels = model(images).numpy().argmax(axis=1)
    labels[:4] = (labels[:4] + 1) % 3
    return images, labels


def attempts(threat, images, labels, indices, seed, rounds):
    """Images, predictions and losses of every round, `[round, image, ...]`."""
    made = [
        threat.random_start(images, np.stack([np.full(len(images), seed + (number << 32)), indices], axis=1)).numpy()
        for number in range(rounds)
    ]
    logits = np.stack([model(images).numpy() for images in made]).astype(np.float64)
    losses = np.log(np.exp(logits).sum(axis=2)) - np.take_along_axis(logits, labels[None, :, None], axis=2)[..., 0]
    return np.stack(made), logits.argmax(axis=2), losses


def test_first_success_stays_and_else_the_highest_loss(points):
    images, labels = points
    attack = RandomNoise(ThreatModel("l_inf", 0.12))
    indices = np.arange(40) + 100
    result = attack(model, images, labels, seed=5, indices=indices, internal_batch=7)
    made, predicted, losses = attempts(attack.threat, images, labels, indices, 5, 6)
    rounds_to_success = []
    for row in range(4, 40):
        succeeded = np.flatnonzero(predicted[:, row] != labels[row])
        chosen = succeeded[0] if succeeded.size else losses[:, row].argmax()
        np.testing.assert_allclose(result.images[row], made[chosen, row], atol=1e-6)
        assert result.success[row] == (succeeded.size > 0)
        assert result.predictions[row] == predicted[chosen, row]
        rounds = chosen + 1 if succeeded.size else 6
        assert result.queries[row] == 1 + rounds
        rounds_to_success += [chosen] if succeeded.size else []
    assert len(set(rounds_to_success)) > 1
    assert 0 < len(rounds_to_success) < 36


def test_describes_what_it_found(points):
    images, labels = points
    result = RandomNoise(ThreatModel("l2", 0.3))(model, images, labels)
    np.testing.assert_array_equal(model(result.images).numpy().argmax(axis=1), result.predictions)
    np.testing.assert_array_equal(model(images).numpy().argmax(axis=1), result.clean_predictions)
    np.testing.assert_array_equal(result.predictions != labels, result.success)
    flat = (result.images - images).reshape(40, -1)
    np.testing.assert_allclose(result.distance, np.linalg.norm(flat, axis=1), atol=1e-6)
    assert result.robust_accuracy == pytest.approx(1 - result.success.sum() / 40)
    assert result.images.dtype == np.float32
    assert result.outputs == "logits"


def test_wrong_when_clean_counts_against_robust_accuracy(points):
    images, labels = points
    assert RandomNoise(ThreatModel("l_inf", 0.0), tries=1)(model, images, labels).robust_accuracy == 0.9


def test_images_given_are_not_written_to(points):
    images, labels = points
    before = images.copy()
    RandomNoise()(model, images, labels)
    np.testing.assert_array_equal(images, before)


def test_progress_sums_to_images_times_attempts(points, heard):
    images, labels = points
    RandomNoise(ThreatModel("l_inf", 0.2), tries=3)(model, images, labels, internal_batch=8, progress=heard)
    assert sum(heard.units) == 120
    assert len(heard.units) > 3


def test_no_images_give_an_empty_result():
    result = PGD()(model, np.zeros((0, 2, 2, 1)), np.zeros(0, int))
    assert result.images.shape == (0, 2, 2, 1)
    assert result.success.shape == result.distance.shape == (0,)


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


def test_one_model_has_one_victim():
    assert as_victim(model) is as_victim(model)
    assert as_victim(as_victim(model)) is as_victim(model)


@pytest.mark.parametrize(("count", "batch_size"), [(0, 4), (1, 4), (4, 4), (9, 4)])
def test_padded_batches_cover_the_rows_once(count, batch_size):
    rows = np.arange(count) * 10
    parts = list(padded_batches(rows, batch_size))
    assert all(len(part) == batch_size for part, _ in parts)
    np.testing.assert_array_equal(np.concatenate([np.zeros(0), *(part[:real] for part, real in parts)]), rows)
    assert all(np.all(part[real:] == part[0]) for part, real in parts)


def test_cross_entropy_is_the_softmax_cross_entropy():
    logits = np.random.default_rng(2).normal(size=(20, 5)) * 4
    labels = np.arange(20) % 5
    expected = np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(20), labels]
    np.testing.assert_allclose(cross_entropy(labels, tf.constant(logits)), expected, rtol=1e-12)


@pytest.mark.parametrize("lead", [1.0, 20.0, 60.0])
def test_cross_entropy_keeps_the_label_in_its_gradient(lead):
    logits = tf.constant([[lead, 0.0, -1.0]])
    with tf.GradientTape() as tape:
        tape.watch(logits)
        loss = cross_entropy(tf.constant([0]), logits)
    gradient = tape.gradient(loss, logits).numpy()[0].astype(np.float64)
    others = np.exp([-lead, -1 - lead])
    np.testing.assert_allclose(gradient, np.array([-others.sum(), *others]) / (1 + others.sum()), rtol=1e-4)


def test_subclass_config_round_trip():
    attack = RandomNoise(ThreatModel("l2", 2.0), tries=3)
    assert RandomNoise.from_config(attack.get_config()) == attack


def test_attack_is_immutable():
    with pytest.raises(AttributeError):
        PGD().steps = 3
    assert hash(PGD()) == hash(PGD())


def test_registered_under_the_package():
    assert keras.saving.get_registered_name(PGD) == "erkeras>PGD"


@pytest.mark.parametrize(
    "attack", [RandomNoise(ThreatModel("l_inf", 0.12)), PGD(ThreatModel("l_inf", 0.1), restarts=4)]
)
def test_batches_at_once_give_what_one_after_the_other_gives(points, monkeypatch, heard, attack):
    images, labels = points
    results, units = [], []
    for streams in (1, 3):
        monkeypatch.setattr(runner, "parallel_streams", lambda streams=streams: streams)
        heard.units.clear()
        results.append(attack(Victim(model), images, labels, seed=5, internal_batch=6, progress=heard))
        units.append(sum(heard.units))
        assert min(heard.units) >= 0
    assert 4 < results[0].success.sum() < 40
    for name, value in vars(results[0]).items():
        np.testing.assert_array_equal(value, getattr(results[1], name), name)
    assert units == [40 * attack.work] * 2


def test_what_fails_in_one_of_several_batches_is_raised(points, monkeypatch):
    images, labels = points
    monkeypatch.setattr(runner, "parallel_streams", lambda: 3)

    class Failing(RandomNoise):
        def perturb(self, logits, images, labels, seeds, scale=1.0):
            raise RuntimeError("lost the device")

    with pytest.raises(RuntimeError, match="lost the device"):
        Failing(ThreatModel("l_inf", 0.12))(model, images, labels, internal_batch=6)


def test_processors_are_shared_between_batches_and_operations(monkeypatch):
    monkeypatch.setattr(runner, "available_processors", lambda: 8)
    for each, streams in ((0, 1), (8, 1), (4, 2), (1, 4), (16, 1)):
        monkeypatch.setattr(tf.config.threading, "get_intra_op_parallelism_threads", lambda each=each: each)
        assert runner.parallel_streams() == streams
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind=None: ["a device"])
    assert runner.parallel_streams() == 1
