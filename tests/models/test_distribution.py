"""Training on several devices: with SGD and without BatchNorm, what one device learns."""

import subprocess
import sys

import pytest

DISTRIBUTED = """
import os, sys
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
import keras, numpy as np, tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
from erkeras.attacks import PGD, DivergencePGD
from erkeras.models import (
    TRADES, ERClassifier, GaussianCode, MaximumMeanDiscrepancy, NoiseLayer, WassersteinCritic, WassersteinGAN)
from erkeras.models.networks import build_critic
from erkeras.threat import ThreatModel

random = np.random.default_rng(0)
images, labels = random.uniform(size=(16, 4, 4, 1)).astype("float32"), np.arange(16) % 3
L_INF, L2 = ThreatModel("l_inf", 0.1), ThreatModel("l2", 0.3)

def classifier(regularizer, adversary, *first, code=(), **options):
    encoder = keras.Sequential([
        keras.Input((4, 4, 1)), *first, keras.layers.Flatten(), keras.layers.Dense(6, "tanh"),
        *(code or [keras.layers.Dense(3)])])
    classifier = keras.Sequential([keras.Input((3,)), keras.layers.Dense(3)])
    model = ERClassifier(encoder, classifier, regularizer=regularizer, adversary=adversary, **options)
    model.compile(*(keras.optimizers.SGD(rate) for rate in (0.5, 0.2, 0.3)))
    return model

def critic(coupling):
    return WassersteinCritic(0.5, build_critic(3, units=(5,)), 0.1, coupling)

def gan():
    generator = keras.Sequential([
        keras.Input((2,)), keras.layers.Dense(16, "sigmoid"), keras.layers.Reshape((4, 4, 1))])
    scores = keras.Sequential([
        keras.Input((4, 4, 1)), keras.layers.Flatten(), keras.layers.Dense(5, "tanh"), keras.layers.Dense(1)])
    model = WassersteinGAN(generator, scores, critic_updates=1)
    model.compile(keras.optimizers.SGD(0.5), keras.optimizers.SGD(0.2))
    return model

CASES = {
    "separate": lambda: classifier(critic("separate"), PGD(L_INF, steps=2, structured=0.5)),
    "joint, first clean, noise": lambda: classifier(
        critic("joint"), PGD(L2, steps=2), NoiseLayer(0.2), clean_fraction=0.6, epsilon_warm_up=3),
    "pairs, TRADES": lambda: classifier(
        MaximumMeanDiscrepancy(0.5), DivergencePGD(L2, steps=1, start_deviation=0.1), objective=TRADES(2.0)),
    "stochastic code, averages": lambda: classifier(None, None, code=[GaussianCode(3, 0.1)]),
    "whole batch's statistics": lambda: classifier(
        critic("separate"), PGD(L2, steps=1), keras.layers.BatchNormalization(synchronized=True)),
    "GAN": gan,
}

def train(build, strategy):
    keras.utils.set_random_seed(1)
    with strategy.scope():
        model = build()
    before = model.get_weights()
    history = model.fit(images, labels, batch_size=8, epochs=2, shuffle=False, verbose=0).history
    moved = [np.abs(new - old).max() for new, old in zip(model.get_weights(), before)]
    return model, max(moved), history

mirrored = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
assert mirrored.num_replicas_in_sync == 2
for name, build in CASES.items():
    if name not in sys.argv[1:]:
        continue
    one, moved, history = train(build, tf.distribute.OneDeviceStrategy("CPU:0"))
    two, _, distributed = train(build, mirrored)
    for first, second in zip(one.variables, two.variables):
        np.testing.assert_allclose(first.numpy(), second.numpy(), rtol=0, atol=2e-6, err_msg=f"{name} {first.path}")
    for key in history:
        np.testing.assert_allclose(history[key], distributed[key], atol=1e-5, err_msg=f"{name} {key}")
    assert moved > 1e-2, (name, moved)

# BatchNorm of each part: the replicas' moving statistics are one.
two, moved, _ = train(lambda: classifier(None, PGD(L2, steps=1), keras.layers.BatchNormalization()), mirrored)
for variable in two.encoder.non_trainable_weights:
    first, second = (value.numpy() for value in mirrored.experimental_local_results(variable.value))
    np.testing.assert_array_equal(first, second)
print("the same weights", flush=True)
os._exit(0)  # TensorFlow's threads may crash while Python ends
"""


CASES = {
    "first": ["joint, first clean, noise", "GAN"],
    "others": ["separate", "pairs, TRADES", "stochastic code, averages", "whole batch's statistics"],
}


@pytest.mark.parametrize("cases", ["first", pytest.param("others", marks=pytest.mark.slow)])
def test_two_devices_learn_what_one_learns(cases):
    """The noise of starts, priors and layers is that of the place in the whole batch."""
    program = [sys.executable, "-X", "faulthandler", "-c", DISTRIBUTED, *CASES[cases]]
    result = subprocess.run(program, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr[-2000:]
    assert result.stdout.endswith("the same weights\n")
