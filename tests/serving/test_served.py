"""What attacks ask of a served model: a small linear one, in the client's place."""

import numpy as np
import pytest
import tensorflow as tf

from erkeras.attacks import RayS, Square
from erkeras.attacks.tensors import gradient_of
from erkeras.errors import InputError, UnavailableError
from erkeras.serving import Served
from erkeras.threat import ThreatModel

MATRIX = np.random.default_rng(3).normal(size=(16, 3)).astype(np.float32)
THREAT = ThreatModel("l_inf", 0.1)


class Client:
    """Counts what it is asked; fails once `left` is at its end."""

    url = "grpc://localhost/linear"
    image_shape = (4, 4, 1)

    def __init__(self, left=10**9, signatures=("logits", "serving_default")):
        self.left, self.signatures, self.seen = left, signatures, []

    def logits(self, images):
        if self.left < len(images):
            raise UnavailableError("nobody is there.")
        self.left -= len(images)
        self.seen += [image.tobytes() for image in images]
        return model(images).numpy()

    def classify(self, images):
        return {"label": self.logits(images).argmax(axis=1).astype(np.int32)}


def model(images):
    return tf.reshape(images - 0.5, [-1, 16]) @ MATRIX


@pytest.fixture
def labels(images):
    return model(images).numpy().argmax(axis=1)


@pytest.mark.parametrize(
    ("attack", "knowledge"), [(Square(THREAT, queries=60), "logits"), (RayS(THREAT, queries=90), "labels")]
)
def test_an_attack_through_a_server_finds_what_it_finds_without(attack, knowledge, images, labels):
    client = Client()
    served = Served(client, knowledge)
    found = attack(served, images, labels, internal_batch=8)
    expected = attack(model, images, labels, internal_batch=8)
    assert found.success.sum() > 0
    np.testing.assert_array_equal(found.success, expected.success)
    np.testing.assert_array_equal(found.images, expected.images)
    np.testing.assert_array_equal(found.queries, expected.queries)
    assert found.outputs == knowledge
    # Not more than the attack says that it asks for, whatever the slots of the batch do besides; and the first look.
    assert len(client.seen) == served.asked
    assert served.asked <= found.queries.sum() + 1
    assert found.queries.max() <= attack.queries + 1


def test_an_image_is_asked_for_once(images):
    client = Client()
    served = Served(client, "logits")
    twice = tf.constant(np.concatenate([images, images]))
    for _ in range(2):
        np.testing.assert_array_equal(served(twice), model(twice))
    assert len(client.seen) == len(set(client.seen)) == len(images) + 1


def test_a_server_that_goes_away(images, labels):
    served = Served(Client(left=100), "logits")
    with pytest.raises((tf.errors.OpError, InputError), match="nobody is there"):
        Square(THREAT, queries=5000)(served, images, labels)
    assert isinstance(served.failure, UnavailableError)


def test_a_model_that_changes_in_between():
    client = Client()
    served = Served(client, "logits")
    client.logits = lambda images: np.zeros((len(images), 4), np.float32)
    with pytest.raises((tf.errors.OpError, InputError), match="changed its model while it was asked"):
        served(tf.ones((1, 4, 4, 1)))
    assert isinstance(served.failure, InputError)


def test_the_names_of_many_signatures_are_not_all_printed():
    with pytest.raises(InputError, match="s8, s9: an attack by logits"):
        Served(Client(signatures=[f"s{number}" for number in range(1000)]), "logits")


def test_it_has_no_gradient(images):
    """Zero, as from any model that breaks the path, and not an error."""
    points, served = tf.constant(images), Served(Client(), "logits")
    with tf.GradientTape() as tape:
        tape.watch(points)
        outputs = served(points)
    assert not np.any(gradient_of(tape, outputs, points))


def test_what_is_not_served_is_refused():
    with pytest.raises(InputError, match="knowledge of a served model is 'gradients': give logits or labels"):
        Served(Client(), "gradients")
    with pytest.raises(InputError, match="has the signatures serving_default: an attack by logits asks for logits"):
        Served(Client(signatures=("serving_default",)), "logits")
