"""Saved, loaded, killed and gone on: the state of training, bit for bit."""

import keras
import numpy as np
import pytest
from keras import layers

from erkeras.attacks import FGSM, PGD
from erkeras.models import CrossEntropy, ERClassifier, StandardNormal, WassersteinCritic
from erkeras.models.networks import build_critic
from erkeras.threat import ThreatModel
from helpers.training_state import OPTIMIZERS, assert_same, fit, state


@pytest.mark.parametrize(
    ("coupling", "hidden", "adversary"),
    [
        ("separate", "nothing", FGSM()),
        ("separate", "dropout and batch norm", PGD(ThreatModel("l2", 0.3), steps=2)),
        ("joint", "dropout and batch norm", FGSM()),
    ],
)
def test_saved_model_goes_on_bit_for_bit(tiny_model, images, labels, tmp_path, coupling, hidden, adversary):
    def build():
        keras.utils.set_random_seed(1)
        random = [] if hidden == "nothing" else [layers.Dropout(0.5, seed=3), layers.BatchNormalization()]
        critic = WassersteinCritic(0.5, build_critic(3, units=(5,)), coupling=coupling)
        return tiny_model(*random, regularizer=critic, adversary=adversary, epsilon_warm_up=5)

    straight = build()
    fit(straight, images, labels, 2)
    halfway = build()
    fit(halfway, images, labels, 1)
    halfway.save(tmp_path / "model.keras")
    restored = keras.models.load_model(tmp_path / "model.keras")
    assert_same(state(halfway), state(restored))
    fit(restored, images, labels, 1)
    assert_same(state(straight), state(restored))
    assert restored.optimizer.iterations == 6


def test_load_brings_back_parts_options_and_optimizers(tiny_model, images, tmp_path):
    model = tiny_model(
        adversary=PGD(ThreatModel("l2", 0.3, -1.0, 2.0), steps=3, restarts=2, step_size=0.1),
        clean_fraction=0.25, epsilon_warm_up=7, seed=9, name="mine",
        compiled={"steps_per_execution": 2, "metrics": ["accuracy"]},
    )  # fmt: skip
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    for attribute in ("adversary", "clean_fraction", "epsilon_warm_up", "inner_bfloat16", "seed", "name"):
        assert getattr(again, attribute) == getattr(model, attribute)
    assert (again.regularizer.coefficient, again.regularizer.clip) == (0.5, 0.1)
    np.testing.assert_array_equal(
        again.regularizer.critic(images[0, :, :3, 0]), model.regularizer.critic(images[0, :, :3, 0])
    )
    for name in OPTIMIZERS:
        one, other = getattr(again, name), getattr(model, name)
        assert type(one) is type(other)
        assert one.get_config() == other.get_config()
    assert again.steps_per_execution == 2
    np.testing.assert_array_equal(again(images), model(images))


def test_learning_rate_schedule_survives_saving(tiny_model, tmp_path):
    model = tiny_model()
    schedule = keras.optimizers.schedules.CosineDecay(0.01, 100)
    model.compile(keras.optimizers.Adam(schedule), "sgd", keras.optimizers.Adam(schedule))
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    assert again.regularizer_optimizer.get_config() == model.regularizer_optimizer.get_config()
    assert isinstance(again.critic_optimizer, keras.optimizers.SGD)


def test_model_that_was_never_compiled_is_saved(tiny_networks, images, tmp_path):
    model = ERClassifier(*tiny_networks())
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(again(images), model(images))
    assert not again.compiled


def test_weights_file_restores_the_whole_state(tiny_model, images, labels, tmp_path):
    model = tiny_model(layers.Dropout(0.5))
    fit(model, images, labels, 1)
    model.save_weights(tmp_path / "state.weights.h5")
    other = tiny_model(layers.Dropout(0.5), initial=2)
    other.load_weights(tmp_path / "state.weights.h5")
    assert_same(state(model), state(other))


class Killed(Exception):
    pass


def kill_at(epoch):
    def on_epoch_begin(number, logs=None):
        if number == epoch:
            raise Killed

    return keras.callbacks.LambdaCallback(on_epoch_begin=on_epoch_begin)


def test_backup_and_restore_ends_as_if_never_killed(tiny_model, images, labels, tmp_path):
    def build(seed):
        return tiny_model(layers.Dropout(0.5, seed=seed), initial=seed, adversary=FGSM())

    straight = build(1)
    fit(straight, images, labels, 3)

    def backup():
        return keras.callbacks.BackupAndRestore(tmp_path)

    with pytest.raises(Killed):
        fit(build(1), images, labels, 3, callbacks=[backup(), kill_at(2)])
    resumed = build(2)
    history = fit(resumed, images, labels, 3, callbacks=[backup()])
    assert history.epoch == [2]
    assert_same(state(straight), state(resumed))


def test_config_round_trip(tiny_networks):
    model = ERClassifier(
        *tiny_networks(), regularizer=WassersteinCritic(0.3, coupling="joint"), adversary=FGSM(), clean_fraction=0.5,
        epsilon_warm_up=3, inner_bfloat16=True, seed=4, name="mine",
    )  # fmt: skip
    config = model.get_config()
    again = ERClassifier.from_config(config)
    assert again.get_config() == config
    assert isinstance(again.objective, CrossEntropy)
    assert isinstance(again.prior, StandardNormal)


def test_config_of_bare_model_round_trips(tiny_networks):
    again = ERClassifier.from_config(ERClassifier(*tiny_networks()).get_config())
    assert again.regularizer is None
    assert again.adversary is None
