import numpy as np
import pytest
import tensorflow as tf

from erkeras.attacks.losses import (
    LOSSES,
    TRAINING_LOSSES,
    check_classes,
    check_loss,
    is_answer,
    kullback_leibler,
    loss_name,
)
from erkeras.errors import InputError

COUNT, CLASSES = 40, 6


@pytest.fixture
def logits():
    return 3 * np.random.default_rng(0).normal(size=(COUNT, CLASSES))


@pytest.fixture
def labels():
    return np.arange(COUNT) % CLASSES


@pytest.fixture
def targets(labels):
    return (labels + 1 + np.arange(COUNT) // CLASSES % (CLASSES - 1)) % CLASSES


def plain(name, label, logits, target=None):
    """The loss of one row, as the papers write it; for the cross-entropy its log odds, at our temperature."""
    if name == "cross_entropy":
        temperature, sign = logits.std() / 5, 1.0
        if target is not None:
            label, sign = target, -1.0
        probabilities = np.exp(logits / temperature) / np.exp(logits / temperature).sum()
        return sign * temperature * np.log((1 - probabilities[label]) / probabilities[label])
    other = np.delete(logits, label).max() if target is None else logits[target]
    if name == "margin":
        return other - logits[label]
    descending = np.sort(logits)[::-1]
    if target is None:
        return -(logits[label] - other) / (descending[0] - descending[2])
    return -(logits[label] - other) / (descending[0] - (descending[2] + descending[3]) / 2)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("targeted", [False, True])
def test_losses_are_as_the_papers_write_them(name, targeted, logits, labels, targets):
    given = targets if targeted else None
    assert np.all(targets != labels)
    losses = LOSSES[name](labels, tf.constant(logits), given)
    expected = [plain(name, labels[row], logits[row], targets[row] if targeted else None) for row in range(COUNT)]
    np.testing.assert_allclose(losses, expected, rtol=1e-9)


@pytest.mark.parametrize("name", TRAINING_LOSSES)
@pytest.mark.parametrize("targeted", [False, True])
def test_gradients_are_the_finite_differences(name, targeted, logits, labels, targets):
    given, loss = targets if targeted else None, TRAINING_LOSSES[name]
    point = tf.constant(logits)
    with tf.GradientTape() as tape:
        tape.watch(point)
        losses = loss(labels, point, given)
    gradients = tape.gradient(losses, point).numpy()
    for column, move in enumerate(1e-6 * np.eye(CLASSES)):
        rise = (loss(labels, logits + move, given) - loss(labels, logits - move, given)) / 2e-6
        np.testing.assert_allclose(gradients[:, column], rise, atol=1e-6)


@pytest.mark.parametrize("name", ["margin", "dlr"])
@pytest.mark.parametrize("targeted", [False, True])
def test_positive_exactly_where_broken(name, targeted, logits, labels, targets):
    losses = LOSSES[name](labels, tf.constant(logits), targets if targeted else None).numpy()
    others = logits[np.arange(COUNT), targets] if targeted else np.where(
        np.arange(CLASSES) == labels[:, np.newaxis], -np.inf, logits
    ).max(axis=1)  # fmt: skip
    np.testing.assert_array_equal(losses > 0, others > logits[np.arange(COUNT), labels])
    assert 0 < np.sum(losses > 0) < COUNT


@pytest.mark.parametrize("scale", [1e-3, 1000.0])
@pytest.mark.parametrize("targeted", [False, True])
def test_dlr_does_not_know_the_scale_nor_the_offset_of_logits(scale, targeted, logits, labels, targets):
    given, dlr = targets if targeted else None, LOSSES["dlr"]
    expected = dlr(labels, tf.constant(logits), given)
    np.testing.assert_allclose(dlr(labels, tf.constant(scale * logits), given), expected, rtol=1e-6)
    np.testing.assert_allclose(dlr(labels, tf.constant(logits + 7), given), expected, rtol=1e-6)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("target", [None, [4]])
@pytest.mark.parametrize(
    "row",
    [
        [0.0, 0.0, 0.0, 0.0, 0.0],
        [1.0, 1.0, 1.0, 1.0, -2.0],
        [5.0, 5.0, 1.0, 1.0, 1.0],
        [3e4, -2e4, 3e4, 3e4, 3e4],
        [-1e6, -1e6, -1e6, 1e6, 1e6],
    ],
)
def test_gradients_of_ties_and_of_steep_logits_are_finite(name, target, row):
    @tf.function(autograph=False)
    def loss_and_gradient(logits):
        with tf.GradientTape() as tape:
            tape.watch(logits)
            loss = LOSSES[name]([0], logits, target)
        return loss, tape.gradient(loss, logits)

    # In graphs too, whose arithmetic TensorFlow rearranges.
    for function in (loss_and_gradient, loss_and_gradient.python_function):
        for part in function(tf.constant([row])):
            assert np.isfinite(part).all()


@pytest.mark.parametrize("scale", [1.0, 1000.0])
@pytest.mark.parametrize("target", [None, [4]])
def test_dlr_of_a_confident_network_has_a_direction(scale, target):
    logits = scale * tf.constant([[40.0, 1.0, 1.0, 0.0, -1.0]])
    with tf.GradientTape() as tape:
        tape.watch(logits)
        loss = LOSSES["dlr"]([0], logits, target)
    gradient = tape.gradient(loss, logits).numpy()[0]
    assert np.abs(gradient).max() > 1e-2 / scale


@pytest.mark.parametrize(
    ("loss", "targets", "fewest"),
    [
        ("cross_entropy", 0, 2),
        ("cross_entropy", 9, 2),
        ("margin", 0, 2),
        ("margin", 9, 2),
        ("dlr", 0, 3),
        ("dlr", 9, 4),
    ],
)
def test_classes_are_refused_below_the_fewest_that_a_loss_is_defined_for(loss, targets, fewest):
    check_classes("X", loss, targets, fewest)
    with pytest.raises(InputError, match=rf"X with the loss .*{loss} needs {fewest} classes and the model has"):
        check_classes("X", loss, targets, fewest - 1)


@pytest.mark.parametrize(
    ("loss", "targets", "given"), [("hinge", 0, "hinge.*give one of cross_entropy"), ("dlr", -1, "targets are -1")]
)
def test_unknown_losses_and_negative_targets_are_refused(loss, targets, given):
    for known in LOSSES:
        check_loss("X", known, 3)
    with pytest.raises(InputError, match=given):
        check_loss("X", loss, targets)


def test_a_number_of_targets_that_is_not_whole_is_refused():
    with pytest.raises(InputError, match=r"targets are 1\.5"):
        check_loss("X", "margin", 1.5)


def gradient(loss, labels, logits):
    logits = tf.constant(logits, tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(logits)
        losses = loss(tf.constant(labels), logits)
    return tape.gradient(losses, logits).numpy().astype(np.float64)


def test_the_cross_entropy_ascends_where_the_papers_does(logits, labels):
    """At temperature 1 the two have one direction: the paper's gradient is ours times the odds' share."""
    logits = logits.astype(np.float32)

    def papers(labels, logits):
        return tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)

    ours, theirs = (gradient(loss, labels, logits) for loss in (TRAINING_LOSSES["cross_entropy"], papers))
    shares = np.linalg.norm(theirs, axis=1, keepdims=True) / np.linalg.norm(ours, axis=1, keepdims=True)
    np.testing.assert_allclose(theirs, ours * shares, atol=1e-5)
    assert np.all((shares > 0) & (shares < 1))


@pytest.mark.parametrize("scale", [1e-3, 30.0, 100.0, 1e4])
@pytest.mark.parametrize("targeted", [False, True])
def test_the_cross_entropy_goes_with_the_scale_of_the_logits(scale, targeted, logits, labels, targets):
    given = targets if targeted else None
    expected = LOSSES["cross_entropy"](labels, tf.constant(logits), given)
    np.testing.assert_allclose(
        LOSSES["cross_entropy"](labels, tf.constant(scale * logits), given), scale * expected, rtol=1e-5
    )
    directions = [gradient(LOSSES["cross_entropy"], labels, part) for part in (logits, scale * logits)]
    np.testing.assert_allclose(directions[1], directions[0], atol=1e-4)


def test_a_confident_model_s_gradient_does_not_fade():
    found = gradient(LOSSES["cross_entropy"], [0], [[6e4, 0.0, -1e3]])
    np.testing.assert_allclose(found[0, 0], -1, atol=1e-5)
    np.testing.assert_allclose(found.sum(), 0, atol=1e-5)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("targeted", [False, True])
def test_masked_classes_change_no_loss_and_no_gradient_is_lost(name, targeted, logits, labels, targets):
    """Of as many classes as every loss needs, and one more that is masked out by -infinity."""
    given = targets if targeted else None
    masked = np.concatenate([logits, np.full((COUNT, 1), -np.inf)], axis=1)
    expected = LOSSES[name](labels, tf.constant(logits), given)
    np.testing.assert_allclose(LOSSES[name](labels, tf.constant(masked), given), expected, rtol=1e-6)


def test_what_is_an_answer():
    rows = [[1, 2, 3], [1, -np.inf, 3], [np.nan, 2, 3], [np.inf, 2, 3], [-np.inf] * 3]
    assert is_answer(tf.constant(rows, tf.float32)).numpy().tolist() == [True, True, False, False, False]


def test_kullback_leibler_is_the_divergence_of_the_predictions(logits):
    attacked = np.random.default_rng(1).normal(size=logits.shape)
    p, q = (np.exp(part) / np.exp(part).sum(axis=1, keepdims=True) for part in (logits, attacked))
    found = kullback_leibler(tf.constant(logits), tf.constant(attacked))
    np.testing.assert_allclose(found, np.sum(p * np.log(p / q), axis=1), rtol=1e-9)
    np.testing.assert_allclose(kullback_leibler(tf.constant(logits), tf.constant(logits + 3)), 0, atol=1e-9)


@pytest.mark.parametrize(
    ("loss", "targets", "name"),
    [
        ("cross_entropy", 0, "x-ce"),
        ("margin", 0, "x-margin"),
        ("dlr", 0, "x-dlr"),
        ("cross_entropy", 9, "x-t-ce"),
        ("margin", 9, "x-t-margin"),
        ("dlr", 9, "x-t"),
    ],
)
def test_names_tell_losses_and_targets_apart(loss, targets, name):
    assert loss_name("x", loss, targets) == name
