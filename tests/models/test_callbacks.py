"""A checkpoint that survives being killed, the best epoch, and what a cheap adversary can do to training."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers.training_state import assert_same
from keras import layers

from erkeras.models import Checkpoint, ERClassifier, KeepBest, catastrophic_overfitting
from erkeras.models.callbacks import robust_validation_accuracy


@pytest.fixture
def fit(images, labels):
    def fit(model, checkpoint, epochs, initial_epoch=0):
        callbacks = checkpoint if isinstance(checkpoint, list) else [checkpoint] if checkpoint else None
        return model.fit(
            images, labels, batch_size=4, epochs=epochs, initial_epoch=initial_epoch, shuffle=False, verbose=0,
            callbacks=callbacks,
        ).history  # fmt: skip

    return fit


def build(initial=1):
    """Any Keras model will do where it is the files that are tested."""
    keras.utils.set_random_seed(initial)
    model = keras.Sequential([keras.Input((4, 4, 1)), layers.Flatten(), layers.Dense(3)])
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return model


def state(model):
    optimizers = [getattr(model, name, None) for name in ("optimizer", "critic_optimizer", "regularizer_optimizer")]
    variables = sum((optimizer.variables for optimizer in optimizers if optimizer), [*model.variables])
    return [variable.numpy() for variable in variables]


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_training_goes_on_bit_for_bit(tiny_model, fit, tmp_path):
    def build(initial=1):
        return tiny_model(layers.Dropout(0.5, seed=initial), layers.BatchNormalization(), initial=initial)

    straight = build()
    history = fit(straight, None, 4)
    fit(build(), Checkpoint(tmp_path), 2)
    resumed, checkpoint = build(initial=2), Checkpoint(tmp_path)
    epoch = checkpoint.restore(resumed)
    assert epoch == 2
    fit(resumed, checkpoint, 4, initial_epoch=epoch)
    assert_same(state(straight), state(resumed))
    assert checkpoint.history == [{name: values[number] for name, values in history.items()} for number in range(4)]


class Killed(Exception):
    pass


class KilledAt(keras.callbacks.Callback):
    """Ends training after so many batches, whichever epoch they are of."""

    def __init__(self, batches):
        super().__init__()
        self.left = batches

    def on_train_batch_end(self, batch, logs=None):
        self.left -= 1
        if not self.left:
            raise Killed


@pytest.mark.parametrize("killed", [(1,), (5,), (7, 1, 1)])
def test_training_goes_on_within_an_epoch(tiny_model, images, labels, tmp_path, killed):
    """Bit for bit, the means that an epoch logs included; killed at any step, and again soon after."""
    steps = len(images) // 4
    assert steps >= 3
    batches = tf.data.Dataset.from_tensor_slices((images, labels)).batch(4, drop_remainder=True).repeat()

    def build(initial=1):
        return tiny_model(layers.Dropout(0.5, seed=initial), layers.BatchNormalization(), initial=initial)

    def go_on(model, checkpoint, *callbacks):
        def fit(**options):
            model.fit(batches.skip(checkpoint.step), verbose=0, callbacks=[checkpoint, *callbacks], **options)

        epoch = checkpoint.restore(model)
        if checkpoint.step:
            fit(steps_per_epoch=steps - checkpoint.step, initial_epoch=epoch, epochs=epoch + 1)
            epoch = checkpoint.restore(model)
        fit(steps_per_epoch=steps, initial_epoch=epoch, epochs=3)

    straight = build()
    history = straight.fit(batches, steps_per_epoch=steps, epochs=3, verbose=0).history
    for number, after in enumerate(killed):
        with pytest.raises(Killed):
            go_on(build(initial=2 if number else 1), Checkpoint(tmp_path, seconds=0), KilledAt(after))
    done = sum(killed)
    epochs, step = divmod(done, steps)
    # The last step of an epoch is saved with the epoch, once validation is over; the killer came before.
    saved = f"epoch-{epochs:05d}-step-{step:07d}" if step else f"epoch-{epochs - 1:05d}-step-{steps - 1:07d}"
    assert names(tmp_path) == [saved]
    resumed, checkpoint = build(initial=2), Checkpoint(tmp_path, seconds=0)
    go_on(resumed, checkpoint)
    assert_same(state(straight), state(resumed))
    assert checkpoint.history == [{name: values[number] for name, values in history.items()} for number in range(3)]
    assert names(tmp_path) == ["epoch-00003"]


def test_within_an_epoch_it_saves_by_the_clock(fit, tmp_path):
    with pytest.raises(Killed):
        fit(build(), [Checkpoint(tmp_path / "seldom", seconds=3600), KilledAt(2)], 1)
    assert not (tmp_path / "seldom").exists()


def test_one_checkpoint_is_kept(fit, tmp_path):
    fit(build(), Checkpoint(tmp_path / "new" / "folder"), 3)
    assert names(tmp_path / "new" / "folder") == ["epoch-00003"]


def test_nothing_to_restore(tmp_path):
    model = build()
    before = state(model)
    assert Checkpoint(tmp_path / "missing").restore(model) == 0
    assert_same(before, state(model))


def test_half_written_checkpoint_is_ignored_and_written_over(fit, tmp_path):
    model = build()
    fit(model, Checkpoint(tmp_path), 1)
    left = tmp_path / ".erkeras-left.partial"
    left.mkdir()
    (left / "state.weights.h5").write_bytes(b"half")
    (left / "rubbish").write_bytes(b"")
    resumed, checkpoint = build(initial=2), Checkpoint(tmp_path)
    assert checkpoint.restore(resumed) == 1
    assert_same(state(model), state(resumed))
    fit(resumed, checkpoint, 2, initial_epoch=1)
    assert names(tmp_path) == ["epoch-00002"]
    assert names(tmp_path / "epoch-00002") == ["state.weights.h5", "training.json"]


@pytest.mark.parametrize("moment", ["before the weights", "after the weights", "before the rename", "after the rename"])
def test_whenever_it_is_killed_a_whole_checkpoint_is_there(fit, tmp_path, monkeypatch, moment):
    model, checkpoint = build(), Checkpoint(tmp_path)
    fit(model, checkpoint, 1)
    after_one = state(model)

    def killed(*_, **__):
        raise Killed

    def save_half(path):
        path.write(b"half")
        raise Killed

    if moment == "before the weights":
        monkeypatch.setattr(model, "save_weights", killed)
    elif moment == "after the weights":
        monkeypatch.setattr(model, "save_weights", save_half)
    elif moment == "before the rename":
        monkeypatch.setattr("pathlib.Path.rename", killed)
    else:
        rename = type(tmp_path).rename
        monkeypatch.setattr("pathlib.Path.rename", lambda *paths: killed(rename(*paths)))
    with pytest.raises(Killed):
        fit(model, checkpoint, 2, initial_epoch=1)
    monkeypatch.undo()

    resumed = build(initial=2)
    checkpoint = Checkpoint(tmp_path)
    assert checkpoint.restore(resumed) == (2 if moment == "after the rename" else 1)
    assert_same(state(model) if moment == "after the rename" else after_one, state(resumed))
    fit(resumed, checkpoint, 3, initial_epoch=len(checkpoint.history))
    assert names(tmp_path)[-1] == "epoch-00003"
    assert names(tmp_path) == ["epoch-00003"]


def test_training_anew_in_a_used_folder_replaces_what_is_there(fit, tmp_path):
    fit(build(), Checkpoint(tmp_path), 1)
    model = build(initial=2)
    fit(model, Checkpoint(tmp_path), 1)
    resumed = build()
    assert Checkpoint(tmp_path).restore(resumed) == 1
    assert_same(state(model), state(resumed))


class Weights(keras.callbacks.Callback):
    """What the weights were after each epoch."""

    def __init__(self):
        self.seen = []

    def on_epoch_end(self, epoch, logs=None):
        self.seen.append(self.model.get_weights())


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


@pytest.mark.parametrize(
    ("logs", "accuracy"),
    [
        ({"val_adversarial_accuracy": 0.3, "val_clean_accuracy": 0.9, "adversarial_accuracy": 0.8}, 0.3),
        ({"val_clean_accuracy": 0.9}, 0.9),
        ({"clean_accuracy": 0.9}, 0.0),
    ],
)
def test_robust_validation_accuracy_is_under_the_adversary_where_there_is_one(logs, accuracy):
    assert robust_validation_accuracy(logs) == accuracy
