import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers.closed_forms import steep_network

from erkeras.attacks import APGD, FAB, PGD, AdaptiveAttack, AutoAttack, Square, attack_in_turn
from erkeras.attacks.autoattack import VERSIONS
from erkeras.data import Split
from erkeras.errors import InputError
from erkeras.evaluation import evaluate_robustness
from erkeras.threat import ThreatModel

THREAT = ThreatModel("l_inf", 0.06)


@pytest.fixture(scope="module")
def network():
    keras.utils.set_random_seed(3)
    return steep_network(classes=5, scale=4.0)


@pytest.fixture(scope="module")
def points(network):
    images = np.random.default_rng(0).uniform(size=(60, 6, 6, 1)).astype(np.float32)
    labels = network(images).numpy().argmax(axis=1)
    labels[::20] = (labels[::20] + 1) % 5
    return images, labels


#: The standard ensemble with few iterations and queries, in its order.
SHORT = (
    APGD(THREAT, iterations=1),
    APGD(THREAT, loss="dlr", targets=4, iterations=10),
    FAB(THREAT, targets=4, minimise=False, iterations=10),
    Square(THREAT, queries=100),
)


def settings(attack):
    return {name: value for name, value in attack.get_config().items() if name in ("iterations", "queries", "eot")}


def test_versions_are_the_originals():
    def names(version):
        return [attack.name for attack in AutoAttack(THREAT, version).parts]

    assert names("standard") == ["apgd-ce", "apgd-t", "fab-t", "square"]
    assert names("plus") == ["apgd-ce", "apgd-dlr", "fab", "square", "apgd-t", "fab-t"]
    assert names("rand") == ["apgd-ce", "apgd-dlr"]
    assert [settings(attack) for attack in AutoAttack(THREAT).parts] == [
        {"iterations": 100, "eot": 1},
        {"iterations": 100, "eot": 1},
        {"iterations": 100},
        {"queries": 5000},
    ]
    assert [attack.attempts for attack in AutoAttack(THREAT).parts] == [1, 9, 9, 1]
    assert [attack.attempts for attack in AutoAttack(THREAT, "plus").parts] == [5, 5, 5, 1, 9, 9]
    assert [attack.eot for attack in AutoAttack(THREAT, "rand").parts] == [20, 20]
    assert all(attack.threat == THREAT for version in VERSIONS for attack in AutoAttack(THREAT, version).parts)


def test_attacks_in_turn_are_the_union_of_all(network, points, heard):
    images, labels = points
    found = attack_in_turn(SHORT, network, images, labels, seed=2, progress=heard)
    alone = [part(network, images, labels, seed=2) for part in SHORT]
    np.testing.assert_array_equal(found.success, np.any([part.success for part in alone], axis=0))
    assert 10 < found.success.sum() < 50
    assert any(np.any(part.success != found.success) for part in alone)
    np.testing.assert_array_equal(found.wrong_when_clean, alone[0].wrong_when_clean)
    np.testing.assert_array_equal(network(found.images).numpy().argmax(axis=1), found.predictions)
    assert found.distance.max() <= 0.06 + 1e-6
    assert sum(heard.units) == 60 * sum(attack.work for attack in SHORT)


def test_an_evaluation_runs_and_counts_the_parts(network, points):
    images, labels = points
    split = Split(images, labels.astype(np.int32), np.arange(60))
    found = evaluate_robustness(network, split, SHORT, seed=2)
    called = attack_in_turn(SHORT, network, images, labels, seed=2)
    assert found.names == ("apgd-ce", "apgd-t", "fab-t", "square")
    np.testing.assert_array_equal(found.robust, ~called.success)
    np.testing.assert_array_equal(found.examples.queries.sum(axis=1), called.queries)


def test_logits_a_thousand_times_as_large_hide_nothing(network, points):
    images, labels = points

    def confident(images):
        return 1000 * network(images, training=False)

    plain, scaled = (attack_in_turn(SHORT, model, images, labels) for model in (network, confident))
    assert abs(int(plain.success.sum()) - int(scaled.success.sum())) <= 1


@pytest.mark.parametrize(("classes", "version"), [(2, "standard"), (3, "standard"), (2, "rand"), (3, "plus")])
def test_too_few_classes_are_refused_in_a_sentence(classes, version):
    matrix = np.random.default_rng(0).normal(size=(4, classes)).astype(np.float32)
    images = np.full((3, 2, 2, 1), 0.5, np.float32)

    def model(images):
        return tf.reshape(images, [-1, 4]) @ matrix

    with pytest.raises(InputError, match=f"the model has {classes}"):
        AutoAttack(THREAT, version)(model, images, model(images).numpy().argmax(axis=1))


def test_too_few_classes_for_the_last_attack_are_refused_before_the_first_has_begun(heard):
    aimed = [AdaptiveAttack(PGD(THREAT, steps=2)), AdaptiveAttack(APGD(THREAT, "dlr", targets=9, iterations=2))]
    matrix = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)

    def with_scores(images):
        logits = tf.reshape(images - 0.5, [-1, 4]) @ matrix
        return tf.concat([logits, tf.zeros_like(logits)], axis=1)

    images = np.random.default_rng(1).uniform(size=(9, 2, 2, 1)).astype(np.float32)
    labels = with_scores(images).numpy()[:, :3].argmax(axis=1)
    with pytest.raises(InputError, match="needs 4 classes and the model has 3"):
        attack_in_turn(aimed, with_scores, images, labels, progress=heard)
    assert heard.units == []


def test_an_unknown_version_is_refused():
    with pytest.raises(InputError, match="'fast': give one of standard, plus, rand"):
        AutoAttack(THREAT, "fast")


def test_config_round_trip():
    attack = AutoAttack(THREAT, "plus")
    assert AutoAttack.from_config(attack.get_config()) == attack
