import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy.stats import wasserstein_distance

from erkeras.errors import InputError
from erkeras.models import MaximumMeanDiscrepancy, WassersteinCritic
from erkeras.models.networks import build_critic


def normal(shift=0.0, seed=0):
    return tf.constant(np.random.default_rng(seed).normal(shift, 1, (32, 3)), tf.float32)


def weights_of(critic):
    return np.concatenate([weight.ravel() for weight in critic.get_weights()])


def small_critic():
    return build_critic(3, units=(8,))


@pytest.mark.parametrize(
    ("coefficient", "coupling", "joins", "has_line_9"),
    [(0.1, "separate", False, True), (0.1, "joint", True, False), (0.0, "separate", False, False),
     (0.0, "joint", False, False)],
)  # fmt: skip
def test_where_the_loss_goes(coefficient, coupling, joins, has_line_9):
    regularizer = WassersteinCritic(coefficient, coupling=coupling)
    assert (regularizer.joins_line_8, regularizer.has_line_9) == (joins, has_line_9)


@pytest.mark.parametrize(
    ("settings", "given"),
    [({"coefficient": -0.1}, "-0.1"), ({"coefficient": float("nan")}, "nan"), ({"clip": 0.0}, "clip is 0.0"),
     ({"clip": -1.0}, "-1.0"), ({"clip": float("nan")}, "nan"), ({"coupling": "both"}, "'both'")],
)  # fmt: skip
def test_impossible_settings_are_refused(settings, given):
    with pytest.raises(InputError, match=given):
        WassersteinCritic(**settings)


def test_default_critic_is_the_authors():
    regularizer = WassersteinCritic()
    regularizer.build_for(5)
    assert [weight.shape for weight in regularizer.critic.get_weights()[::2]] == [
        (5, 512), (512, 512), (512, 512), (512, 512), (512, 1),
    ]  # fmt: skip
    assert len(regularizer.trainable_variables) == 10
    assert np.abs(weights_of(regularizer.critic)).max() <= 0.01


def test_update_gives_the_estimate_of_before_and_widens_it():
    regularizer = WassersteinCritic(0.5, small_critic(), clip=0.1)
    regularizer.build_for(3)
    codes, samples = normal(3.0), normal(seed=1)
    optimizer = keras.optimizers.SGD(0.5)
    estimates = []
    for _ in range(20):
        critic = regularizer.critic
        expected = np.mean(critic(samples)) - np.mean(critic(codes))
        estimates.append(float(regularizer.update(codes, samples, optimizer)))
        assert estimates[-1] == pytest.approx(expected, abs=1e-6)
        assert np.abs(weights_of(critic)).max() <= 0.1 + 1e-8
    assert estimates[-1] > estimates[0] + 0.01
    assert np.isclose(np.abs(weights_of(critic)), 0.1).any()


def test_update_of_equal_distributions_moves_nothing():
    regularizer = WassersteinCritic(0.5, small_critic())
    regularizer.build_for(3)
    before = weights_of(regularizer.critic)
    assert regularizer.update(normal(), normal(), keras.optimizers.SGD(0.5)) == 0
    np.testing.assert_allclose(weights_of(regularizer.critic), before, atol=1e-8)


def test_loss_is_minus_lambda_mean_score():
    regularizer = WassersteinCritic(0.5, small_critic())
    regularizer.build_for(3)
    codes = normal()
    assert float(regularizer.loss(codes, normal(seed=1))) == pytest.approx(
        -0.5 * np.mean(regularizer.critic(codes)), abs=1e-7
    )


def test_descending_the_loss_moves_codes_to_the_prior():
    regularizer = WassersteinCritic(1.0, small_critic(), clip=0.1)
    regularizer.build_for(3)
    codes, optimizer = tf.Variable(normal(3.0)), keras.optimizers.SGD(0.5)
    for step in range(60):
        regularizer.update(codes, normal(seed=step), optimizer)
        with tf.GradientTape() as tape:
            loss = regularizer.loss(codes, normal(seed=step))
        codes.assign_sub(300.0 * tape.gradient(loss, codes))
    assert np.abs(codes.numpy().mean(axis=0)).max() < 1.5


def test_config_round_trip_with_its_critic():
    regularizer = WassersteinCritic(0.3, small_critic(), clip=0.2, coupling="joint", name="critic_of_mine")
    config = keras.saving.serialize_keras_object(regularizer)
    again = keras.saving.deserialize_keras_object(config)
    assert (again.coefficient, again.clip, again.coupling, again.name) == (0.3, 0.2, "joint", "critic_of_mine")
    assert again.critic.get_config() == regularizer.critic.get_config()
    assert again.get_config() == regularizer.get_config()


def test_config_round_trip_before_the_critic_is_made():
    again = WassersteinCritic.from_config(WassersteinCritic(0.3).get_config())
    assert again.critic is None
    assert again.coefficient == 0.3


@pytest.mark.parametrize("shift", [0.2, 0.5])
def test_the_critic_estimates_the_1_wasserstein_distance(shift):
    """In one dimension it is known exactly; a critic of slope K at most estimates K times it (Kantorovich duality).

    The samples lie where clipped biases let a clipped critic be as steep everywhere.
    """
    rng = np.random.default_rng(0)
    samples, codes = (rng.normal(place, 0.15, (256, 1)).astype(np.float32) for place in (-0.2, shift - 0.2))
    regularizer = WassersteinCritic(1.0, build_critic(1, units=(16, 16)), clip=0.2)
    regularizer.build_for(1)
    update = tf.function(regularizer.update, autograph=False)
    optimizer = keras.optimizers.Adam(0.01)
    optimizer.build(regularizer.trainable_variables)
    for _ in range(300):
        estimate = float(update(tf.constant(codes), tf.constant(samples), optimizer))
    places = np.linspace(-4, 4, 2001, dtype=np.float32)[:, np.newaxis]
    slope = np.max(np.abs(np.diff(np.ravel(regularizer.critic(places))))) / (8 / 2000)
    exact = wasserstein_distance(codes[:, 0], samples[:, 0])
    assert 0.9 * exact < estimate / slope < 1.01 * exact


def mmd_slowly(codes, samples, scales):
    def mean_kernel(first, second):
        total = 0.0
        for a in first:
            for b in second:
                for scale in scales:
                    spread = 2 * len(a) * scale
                    total += spread / (spread + np.sum((a - b) ** 2))
        return total / (len(first) * len(second))

    return mean_kernel(codes, codes) + mean_kernel(samples, samples) - 2 * mean_kernel(codes, samples)


def test_mmd_is_what_its_definition_says():
    codes, samples = normal(0.7)[:9], normal(seed=1)[:11]
    regularizer = MaximumMeanDiscrepancy(0.5, scales=(0.3, 2.0))
    expected = mmd_slowly(codes.numpy().astype(float), samples.numpy().astype(float), (0.3, 2.0))
    assert float(regularizer.update(codes, samples, None)) == pytest.approx(expected, abs=1e-6)
    assert float(regularizer.loss(codes, samples)) == pytest.approx(0.5 * expected, abs=1e-6)
    assert regularizer.trainable_variables == []


def test_mmd_has_the_scales_of_tolstikhin_et_al():
    codes, samples = normal(0.7)[:9], normal(seed=1)[:11]
    expected = mmd_slowly(codes.numpy().astype(float), samples.numpy().astype(float), (0.1, 0.2, 0.5, 1, 2, 5, 10))
    assert float(MaximumMeanDiscrepancy().update(codes, samples, None)) == pytest.approx(expected, abs=1e-6)


def test_mmd_is_zero_for_equal_samples_and_grows_with_the_shift():
    regularizer = MaximumMeanDiscrepancy(1.0)
    samples = normal()
    estimates = [float(regularizer.loss(samples + shift, samples)) for shift in (0.0, 0.2, 0.5, 1.0, 2.0)]
    assert estimates[0] == pytest.approx(0, abs=1e-6)
    assert np.all(np.diff(estimates) > 0)


def test_mmd_comes_back_from_its_config():
    regularizer = MaximumMeanDiscrepancy(0.3, "separate", scales=[1.0, 4.0], name="mine")
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(regularizer))
    assert again.get_config() == regularizer.get_config()
    assert (again.coupling, again.scales) == ("separate", (1.0, 4.0))
    for scales in ((), (1.0, 0.0), (float("nan"),)):
        with pytest.raises(InputError, match="scales of the kernels"):
            MaximumMeanDiscrepancy(scales=scales)
