"""`ERClassifier.train_step` against Algorithm 1 written out in NumPy."""

import itertools

import numpy as np
import pytest
import tensorflow as tf
from helpers.algorithm_1 import CLIP, SEED, Algorithm1, all_weights, as_data, batches, build_model, moves

from erkeras.attacks import PGD


def train(model, steps=3):
    for images, labels, _ in batches(steps):
        model.train_step(as_data(images, labels))


def train_once(*arguments, **options):
    model = build_model(*arguments, **options)
    train(model)
    return all_weights(model)


EVERY = [("sgd", "separate"), ("sgd", "joint"), ("adam", "separate"), ("adam", "joint")]
VARIANTS = {
    "plain": ({}, EVERY),
    "warm_up": ({"epsilon_warm_up": 3}, EVERY),
    "clean_fraction_and_weights": ({"clean_fraction": 0.4}, EVERY),
    "weights": ({}, EVERY[:1]),
    "l2": ({"norm": "l2"}, EVERY[:1]),
    "no_random_start": ({"random_start": False}, EVERY[:1]),
    "lambda_0": ({"coefficient": 0.0}, [EVERY[0], EVERY[1], EVERY[2]]),
}


@pytest.mark.parametrize(
    ("variant", "optimizer", "coupling"),
    [(variant, *combination) for variant, (_, combinations) in VARIANTS.items() for combination in combinations],
)
def test_train_step_is_algorithm_1(variant, optimizer, coupling):
    model = build_model(optimizer, coupling, **VARIANTS[variant][0])
    algorithm = Algorithm1(model, optimizer)
    before = all_weights(model)
    for images, labels, weights in batches(4):
        weights = weights if "weights" in variant else None
        algorithm.step(images, labels, weights)
        model.reset_metrics()
        logs = model.train_step(as_data(images, labels, weights))
        for weight, wanted in zip(all_weights(model), algorithm.weights, strict=True):
            np.testing.assert_allclose(weight, wanted, rtol=0, atol=1e-8)
        assert float(logs["wasserstein"]) == pytest.approx(algorithm.wasserstein, abs=1e-6)
    assert min(moves(before, all_weights(model))[:8]) > 1e-4


def test_lambda_changes_what_sgd_learns():
    weights = {coefficient: train_once(coefficient=coefficient) for coefficient in (0.0, 0.7, 1.4)}
    for first, second in itertools.combinations(weights, 2):
        assert min(moves(weights[first], weights[second])[:4]) > 1e-5


def test_lambda_0_leaves_line_9_out():
    model = build_model("adam", coefficient=0.0)
    states = [variable.numpy() for variable in model.regularizer_optimizer.variables]
    critic = model.regularizer.critic.get_weights()
    train(model)
    for variable, state in zip(model.regularizer_optimizer.variables, states, strict=True):
        np.testing.assert_array_equal(variable, state)
    assert moves(critic, model.regularizer.critic.get_weights()) == [0, 0, 0, 0]
    assert model.optimizer.iterations == 3


def test_joint_coupling_leaves_the_optimizer_of_line_9_alone():
    model = build_model("adam", "joint")
    train(model)
    assert model.regularizer_optimizer.iterations == 0
    assert model.critic_optimizer.iterations == 3


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_critic_stays_clipped_from_the_beginning(optimizer):
    model = build_model(optimizer)

    def largest():
        return max(np.abs(weight).max() for weight in model.regularizer.critic.get_weights())

    assert largest() == CLIP
    for images, labels, _ in batches(5):
        model.train_step(as_data(images, labels))
        assert largest() == CLIP


def test_same_seed_gives_the_same_bits():
    assert moves(train_once("adam"), train_once("adam")) == [0] * 12


def test_other_seed_gives_other_weights():
    # All but the critic's last bias, whose gradient is zero.
    assert min(moves(train_once("adam"), train_once("adam", seed=SEED + 1))[:-1]) > 1e-6


def test_every_step_and_stream_draws_its_own_numbers():
    model = build_model(random_start=True)
    drawn = []

    class Spy:
        def sample(self, shape, seed, dtype):
            drawn.append(tuple(seed.numpy()))
            return tf.zeros(shape, dtype)

    class SpyingPGD(PGD):
        def perturb(self, logits, images, labels, seeds, scale=1.0):
            drawn.append(tuple(seeds.numpy()))
            return images

    model.prior, model.adversary = Spy(), SpyingPGD()
    train(model)
    assert len(drawn) == len(set(drawn)) == 6
