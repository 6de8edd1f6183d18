"""Memory that runs out in a command: one sentence, exit code 2, and nothing half-written."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from erkeras.models import ERClassifier
from erkeras.serving.signatures import SIGNATURES
from helpers import greedy
from helpers.commands import refused, run

SHORT = ["--epochs", 1, "--limit", 10, "--restarts", 1, "--fast"]


def train(*arguments):
    return run("train", *SHORT, "--network", *arguments)


def test_training_says_what_to_make_smaller_and_leaves_nothing(anywhere):
    sentence = "the memory ran out in training: give a smaller --batch-size than 64, --mixed-precision or a smaller"
    refused(train("helpers.greedy:build", "--output", "model"), sentence)
    assert list(anywhere.iterdir()) == []
    result = train("helpers.greedy:build", "--output", "model", "--batch-size", 48)
    assert result.exit_code == 0, result.output


def test_a_way_that_is_taken_already_is_not_named(anywhere):
    arguments = ["helpers.greedy:build", "--mixed-precision", "--output", "model"]
    refused(train(*arguments), "in training: give a smaller --batch-size than 64 or a smaller --network.")


def test_a_trained_model_is_kept_where_it_cannot_be_attacked(anywhere):
    result = train("helpers.greedy:build_for_attacks", "--output", "model")
    refused(result, "ran out in attacking what was trained: free memory and go on with --resume")
    kept = anywhere / ".model.training" / "model.keras"
    assert f"; the trained model is in {kept.relative_to(anywhere)}." in result.output
    assert type(keras.saving.load_model(kept)) is ERClassifier
    assert not (anywhere / "model").exists()


def test_an_attack_says_so_and_records_nothing(anywhere):
    head = keras.Sequential([keras.Input((4,)), layers.Dense(10)])
    ERClassifier(greedy.build_for_attacks((8, 8, 1), 4), head).save("model.keras")
    arguments = ["model.keras", "--dataset", "digits", "--epsilon", 0.1, "--attack", "fgsm", "--record", "record"]
    refused(run("attack", *arguments), "the memory ran out in attacking: give a smaller internal batch; a record")
    assert [path.name for path in anywhere.iterdir()] == ["model.keras"]


class Detecting(tf.Module):
    """Answers as an export with a detector does, for fewer than three images."""

    @tf.function(input_signature=[tf.TensorSpec([None, 8, 8, 1], tf.float32, name="images")])
    def detect(self, images):
        count = tf.shape(images)[0]
        found = tf.random.uniform([count]) + greedy.ask_for_memory(count > 2)
        return {name: found[:, None] if name == "probabilities" else found for name in SIGNATURES["detect"]}


def test_detecting_says_so_and_writes_nothing(anywhere):
    module = Detecting()
    tf.saved_model.save(module, "model", {"detect": module.detect})
    np.savez("three.npz", images=np.zeros((3, 8, 8, 1)))
    result = run("detect", "model", "three.npz", "--json", "verdicts.json")
    refused(result, "the memory ran out in detecting: give fewer or smaller images, or a smaller model.")
    assert not (anywhere / "verdicts.json").exists()


@pytest.mark.parametrize("error", [MemoryError(), tf.errors.ResourceExhaustedError(None, None, "OOM")], ids=repr)
def test_other_commands_say_so_too(anywhere, monkeypatch, error):
    def raises(*_, **__):
        raise error

    monkeypatch.setattr("erkeras.evaluation.read_rows", raises)
    refused(run("table", "model"), "there is not enough memory: give fewer or smaller images, or a smaller model.")
