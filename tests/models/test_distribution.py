"""Training on several devices."""

import subprocess
import sys

DISTRIBUTED = """
import os
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
import keras, numpy as np, tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
from erkeras.attacks import PGD
from erkeras.models import ERClassifier, WassersteinCritic
from erkeras.models.networks import build_critic
from erkeras.threat import ThreatModel

class Zeros:
    def sample(self, shape, seed, dtype):
        return tf.zeros(shape, dtype)

def train(strategy, coupling):
    keras.utils.set_random_seed(1)
    with strategy.scope():
        encoder = keras.Sequential([
            keras.Input((4, 4, 1)), keras.layers.Flatten(), keras.layers.Dense(6, "tanh"), keras.layers.Dense(3)])
        classifier = keras.Sequential([keras.Input((3,)), keras.layers.Dense(3)])
        model = ERClassifier(
            encoder, classifier, regularizer=WassersteinCritic(0.5, build_critic(3, units=(5,)), 0.1, coupling),
            adversary=PGD(ThreatModel("l_inf", 0.1), steps=2, random_start=False), prior=Zeros())
        model.compile(*(keras.optimizers.SGD(rate) for rate in (0.5, 0.2, 0.3)))
    before = model.get_weights()
    random = np.random.default_rng(0)
    images, labels = random.uniform(size=(16, 4, 4, 1)).astype("float32"), np.arange(16) % 3
    history = model.fit(images, labels, batch_size=8, epochs=2, shuffle=False, verbose=0).history
    moved = [np.abs(new - old).max() for new, old in zip(model.get_weights(), before)]
    return model.get_weights(), moved, history

mirrored = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
assert mirrored.num_replicas_in_sync == 2
for coupling in ("separate", "joint"):
    one, moved, history = train(tf.distribute.OneDeviceStrategy("CPU:0"), coupling)
    two, _, distributed = train(mirrored, coupling)
    for first, second in zip(one, two):
        np.testing.assert_allclose(first, second, rtol=0, atol=1e-6)
    for name in history:
        np.testing.assert_allclose(history[name], distributed[name], atol=1e-5, err_msg=name)
    assert max(moved) > 1e-2, moved
print("the same weights")
"""


def test_two_devices_learn_what_one_learns():
    result = subprocess.run([sys.executable, "-c", DISTRIBUTED], capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr[-2000:]
    assert result.stdout.endswith("the same weights\n")
