import numpy as np
import pytest
import tensorflow as tf

from erkeras.attacks import PGD, Victim, runner
from erkeras.threat import ThreatModel
from helpers.random_noise import RandomNoise, model, noise_points


@pytest.fixture
def points():
    return noise_points()


def attempts(threat, images, labels, indices, seed, rounds):
    """Images, predictions and losses of every round, `[round, image, ...]`."""
    made = [
        threat.random_start(images, np.stack([np.full(len(images), seed + (number << 32)), indices], axis=1)).numpy()
        for number in range(rounds)
    ]
    logits = np.stack([model(images).numpy() for images in made]).astype(np.float64)
    own = np.eye(logits.shape[2], dtype=bool)[np.broadcast_to(labels, logits.shape[:2])]
    temperature = logits.std(axis=2) / 5
    others = np.where(own, 0, np.exp(logits / temperature[..., None])).sum(axis=2)
    losses = temperature * np.log(others) - logits[own].reshape(logits.shape[:2])
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


@pytest.mark.parametrize("internal_batch", [1, 7, 128])
def test_any_internal_batch_takes_every_image_through_every_attempt(points, internal_batch):
    images, labels = points
    attack = RandomNoise(ThreatModel("l_inf", 0.12))
    once = attack(model, images, labels, seed=5, internal_batch=40)
    other = attack(model, images, labels, seed=5, internal_batch=internal_batch)
    np.testing.assert_array_equal(other.success, once.success)
    np.testing.assert_array_equal(other.queries, once.queries)
    np.testing.assert_allclose(other.images, once.images, atol=1e-6)


def test_what_an_attack_claims_is_judged_again(points):
    """An attack that calls everything a success, and one that leaves the ball."""
    images, labels = points

    class Boasting(RandomNoise):
        def step(self, logits, batch, state):
            return {**super().step(logits, batch, state), "success": tf.ones_like(state["success"])}

    class Leaving(RandomNoise):
        def perturb(self, logits, images, labels, seeds, scale=1.0):
            return 1 - images

    boasting = Boasting(ThreatModel("l_inf", 0.12), tries=1)(model, images, labels)
    np.testing.assert_array_equal(boasting.success, model(boasting.images).numpy().argmax(axis=1) != labels)
    assert 4 < boasting.success.sum() < 40
    leaving = Leaving(ThreatModel("l_inf", 0.12), tries=1)(model, images, labels)
    assert np.sum(leaving.predictions != labels) > 30
    np.testing.assert_array_equal(
        leaving.success[4:], ((leaving.predictions != labels) & (leaving.distance < 0.12))[4:]
    )
