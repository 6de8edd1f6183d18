"""The best epoch, and what a cheap adversary can do to training."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from erkeras.attacks import FGSM, PGD
from erkeras.errors import InputError
from erkeras.models import Checkpoint, ERClassifier, KeepBest, catastrophic_overfitting
from erkeras.threat import ThreatModel

THREAT = ThreatModel("l_inf", 0.3)


class Weights(keras.callbacks.Callback):
    """What the weights were after each epoch."""

    def __init__(self):
        self.seen = []

    def on_epoch_end(self, epoch, logs=None):
        self.seen.append(self.model.get_weights())


def assert_same(first, second):
    for one, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(one, other)


def told(keeper, model, accuracies, first=0):
    """Tells a callback of epochs of known accuracy; each leaves its number in all weights."""
    keeper.set_model(model)
    for epoch, accuracy in enumerate(accuracies, first):
        model.set_weights([np.full(weight.shape, epoch, weight.dtype) for weight in model.get_weights()])
        keeper.on_epoch_end(epoch, {"val_clean_accuracy": 1 - accuracy, "val_adversarial_accuracy": accuracy})
    return keeper


def test_the_first_of_the_best_epochs_is_kept(tiny_model, tmp_path):
    model = tiny_model()
    keeper = told(KeepBest(tmp_path / "new"), model, [0.2, 0.6, 0.5, 0.6])
    assert keeper.epoch == 2
    keeper.on_train_end()
    assert all(np.all(weight == 1) for weight in model.get_weights())
    assert [path.name for path in (tmp_path / "new").glob("*.h5")] == ["best-00002.weights.h5"]


def test_the_best_epoch_is_known_after_a_restart(tiny_model, tmp_path):
    model = tiny_model()
    told(KeepBest(tmp_path), model, [0.2, 0.6])
    # The process died after the last epoch was seen here, and before its checkpoint was written: it comes again.
    keeper = told(KeepBest(tmp_path), model, [0.6, 0.1], first=1)
    assert keeper.epoch == 2
    keeper.on_train_end()
    assert all(np.all(weight == 1) for weight in model.get_weights())
    # Or comes again and is better, on a machine that rounds otherwise.
    again = told(KeepBest(tmp_path), model, [0.65], first=1)
    again.on_train_end()
    assert all(np.all(weight == 1) for weight in model.get_weights())
    later = told(KeepBest(tmp_path), model, [0.7], first=3)
    assert later.epoch == 4


def test_fit_ends_with_the_best_epoch(tiny_model, images, labels, tmp_path):
    model, weights, keeper = tiny_model(), Weights(), KeepBest(tmp_path)
    # Labels of validation that contradict those of training: the longer it learns, the worse.
    history = model.fit(
        images, labels, epochs=6, batch_size=4, verbose=0, validation_data=(images, (labels + 1) % 3),
        callbacks=[weights, keeper, Checkpoint(tmp_path / "checkpoint")],
    ).history["val_adversarial_accuracy"]  # fmt: skip
    best = int(np.argmax(history))
    assert best < 5
    assert keeper.epoch == best + 1
    assert_same(model.get_weights(), weights.seen[best])


def test_without_an_adversary_the_clean_accuracy_counts(tiny_networks, tmp_path):
    model = ERClassifier(*tiny_networks())
    keeper = KeepBest(tmp_path)
    keeper.set_model(model)
    for epoch, accuracy in enumerate((0.5, 0.7, 0.6)):
        keeper.on_epoch_end(epoch, {"val_clean_accuracy": accuracy})
    assert keeper.epoch == 2


def test_training_without_validation_is_refused(tiny_model, images, labels, tmp_path):
    model, keeper = tiny_model(), KeepBest(tmp_path)
    with (
        pytest.warns(UserWarning, match="epoch 1, which was not validated"),
        pytest.raises(InputError, match="validation_data"),
    ):
        model.fit(images, labels, epochs=2, verbose=0, callbacks=[keeper])
    assert keeper.epoch == 0


@pytest.mark.filterwarnings("ignore:KeepBest passes over")
def test_epochs_without_validation_do_not_count(tiny_model, images, labels, tmp_path):
    """Not even where the accuracy of the others is 0."""
    keeper = KeepBest(tmp_path)
    wrong = tiny_model().predict(images, verbose=0).argmin(axis=1)
    tiny_model(adversary=None).fit(
        images, labels, epochs=4, verbose=0, callbacks=[keeper], validation_data=(images, wrong), validation_freq=[3]
    )
    assert keeper.epoch == 3
    # Gone on with, from a folder that knows an epoch.
    resumed = KeepBest(tmp_path)
    tiny_model(adversary=None).fit(images, labels, epochs=1, verbose=0, callbacks=[resumed])
    assert resumed.epoch == 3


def test_the_best_epoch_of_averages_is_their_average(tiny_model, images, labels, tmp_path):
    """What validation saw of that epoch is what training ends with."""
    model, keeper = tiny_model(initial=2), KeepBest(tmp_path)
    model.compile(keras.optimizers.SGD(0.5, use_ema=True, ema_momentum=0.8))
    wrong = (labels + 1) % 3
    history = model.fit(
        images, labels, epochs=5, batch_size=4, verbose=0, validation_data=(images, wrong),
        callbacks=[keras.callbacks.SwapEMAWeights(), keeper],
    ).history  # fmt: skip
    assert 0 < keeper.epoch < 5
    found = model.evaluate(images, wrong, verbose=0, return_dict=True)
    assert found["loss"] == pytest.approx(history["val_loss"][keeper.epoch - 1], abs=1e-5)


@pytest.mark.parametrize("adversary", [PGD(THREAT, steps=1, step_size=0.375), FGSM(THREAT)])
def test_validation_under_one_step_makes_ten(tiny_networks, images, labels, adversary):
    """The accuracy under ten steps of a quarter of epsilon, from the same starts."""
    cheap = ERClassifier(*tiny_networks(), adversary=adversary)
    dear = ERClassifier(cheap.encoder, cheap.classifier, adversary=PGD(THREAT, steps=10, step_size=0.075))
    data = (tf.constant(images), tf.constant(labels))
    for model in (cheap, dear):
        model.compile("adam")
    assert cheap.test_step(data) == dear.test_step(data)
    starts = tf.zeros([12, 2], tf.int64)
    one, ten = (model.adversary.perturb(model, data[0], data[1], starts).numpy() for model in (cheap, dear))
    assert not np.array_equal(one, ten)


@pytest.mark.parametrize(
    ("accuracies", "epoch"),
    [
        ((0.3, 0.5, 0.6), None),
        ((0.3, 0.5, 0.26, 0.25), None),
        ((0.3, 0.5, 0.26, 0.2, 0.1), 3),
        ((0.3, 0.1, 0.5), None),  # it recovered
        ((0.0, 0.0), None),
        ((), None),
    ],
)
def test_catastrophic_overfitting_is_a_fall_to_less_than_half_for_good(accuracies, epoch):
    assert catastrophic_overfitting([{"val_adversarial_accuracy": accuracy} for accuracy in accuracies]) == epoch
