import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from erkeras.attacks import FGSM, PGD, Square, Victim
from erkeras.attacks.victim import as_victim, padded_batches
from erkeras.errors import InputError
from erkeras.threat import ThreatModel


@pytest.fixture
def network(small_network):
    return small_network


def sequential(network, *ending):
    return keras.Sequential([keras.Input((4, 4, 1)), *network.layers[:-1], *ending])


def functional(network, *ending):
    inputs = outputs = keras.Input((4, 4, 1))
    for layer in [*network.layers[:-1], *ending]:
        outputs = layer(outputs)
    return keras.Model(inputs, outputs)


def dense_like(layer, **options):
    dense = layers.Dense(3, activation="softmax", **options)
    dense.build((None, layer.kernel.shape[0]))
    dense.set_weights(layer.get_weights()[: len(dense.weights)])
    return dense


ENDINGS = {
    "softmax dense": lambda layer: [dense_like(layer)],
    "softmax dense without bias": lambda layer: [dense_like(layer, use_bias=False)],
    "softmax layer": lambda layer: [layer, layers.Softmax()],
    "softmax activation": lambda layer: [layer, layers.Activation("softmax")],
}


@pytest.mark.parametrize("build", [sequential, functional])
@pytest.mark.parametrize("ending", ENDINGS)
def test_softmax_at_the_end_is_taken_off(network, images, build, ending):
    if "without bias" in ending:
        network.layers[-1].bias.assign(tf.zeros(3))
    probabilities = build(network, *ENDINGS[ending](network.layers[-1]))
    np.testing.assert_allclose(probabilities(images).numpy().sum(axis=1), 1, rtol=1e-5)
    victim = Victim(probabilities)
    logits = victim.logits(tf.constant(images))
    np.testing.assert_allclose(logits, network(images, training=False), atol=1e-6)
    victim.outputs_for(images)
    assert victim.outputs == "logits before the softmax"
    np.testing.assert_allclose(victim.logits(tf.constant(images)), logits, atol=1e-6)


def test_softmax_taken_off_follows_the_weights(network, images):
    victim = Victim(sequential(network, dense_like(network.layers[-1])))
    before = victim.logits(tf.constant(images))
    for variable in victim.model.layers[-1].variables:
        variable.assign(2 * variable)
    np.testing.assert_allclose(victim.logits(tf.constant(images)), 2 * before, atol=1e-5)


def test_softmax_layer_shared_with_another_model_is_no_obstacle(network, images):
    softmax = layers.Softmax()
    model = functional(network, network.layers[-1], softmax)
    softmax(keras.Input((5,)))
    outputs = Victim(model).outputs_for(images)
    np.testing.assert_allclose(outputs, network(images), atol=1e-6)


def test_keras_logits_are_logits_in_inference_mode(network, images):
    victim = Victim(network)
    assert victim.outputs == "unknown"
    outputs = victim.outputs_for(images, internal_batch=5)
    assert victim.outputs == "logits"
    expected = network(images, training=False).numpy()
    np.testing.assert_allclose(outputs, expected, atol=1e-6)
    np.testing.assert_allclose(victim.logits(tf.constant(images)), expected, atol=1e-6)


class Subclassed(keras.Model):
    def __init__(self, network):
        super().__init__()
        self.network = network

    def call(self, images, training=None):
        return tf.nn.softmax(self.network(images, training=training))


def in_a_function_of_its_own(model):
    """Where nobody sees what the graph ends in."""
    return tf.function(lambda images: tf.nn.softmax(model(images)))


@pytest.mark.parametrize("wrap", [lambda model: lambda images: tf.nn.softmax(model(images)), Subclassed])
def test_a_softmax_that_is_seen_is_taken_off_whatever_the_model(network, images, wrap):
    victim = Victim(wrap(network))
    np.testing.assert_allclose(victim.outputs_for(images), network(images, training=False), atol=1e-6)
    assert victim.outputs == "logits before the softmax"


def test_sigmoids_are_taken_off_or_undone(network, images):
    seen = Victim(lambda images: tf.sigmoid(network(images)))
    hidden = Victim(tf.function(lambda images: tf.sigmoid(network(images))))
    for victim, outputs, atol in ((seen, "logits before the sigmoid", 1e-6), (hidden, "sigmoids", 1e-3)):
        np.testing.assert_allclose(victim.outputs_for(images), network(images), atol=atol)
        assert victim.outputs == outputs


def test_an_int8_model_s_own_logits_are_seen(network, images):
    model = sequential(network, dense_like(network.layers[-1]))
    model.quantize("int8")
    np.testing.assert_allclose(tf.nn.softmax(Victim(model).outputs_for(images)), model(images), atol=1e-5)


def test_a_function_of_arrays_is_asked_and_has_no_gradients(network, images, labels):
    def of_arrays(images):
        return np.asarray(network(np.asarray(images)))

    victim = Victim(of_arrays)
    np.testing.assert_allclose(victim.outputs_for(images, "logits"), network(images), atol=1e-6)
    assert not victim.has_gradients
    assert len(Square(ThreatModel("l_inf", 0.1), queries=5)(of_arrays, images, labels).images) == 12
    with pytest.raises(InputError, match="function of NumPy arrays, which has no gradients"):
        FGSM()(of_arrays, images, labels)


@pytest.mark.parametrize(
    ("end", "kind"),
    [
        (lambda logits: tf.sigmoid(logits), "logits before the sigmoid"),
        (lambda logits: tf.squeeze(tf.sigmoid(logits), axis=1), "logits before the sigmoid"),
        (tf.function(lambda logits: tf.sigmoid(logits)), "sigmoids"),
        (lambda logits: logits, "logits"),
        (lambda logits: logits[:, 0], "logits"),
    ],
)
def test_one_number_an_image_is_of_two_classes(network, images, end, kind):
    middle = np.median(network(images)[:, 0])

    def logit(images):
        return 10 * (network(images)[:, :1] - middle)

    def two(images):
        return tf.concat([-logit(images) / 2, logit(images) / 2], axis=1)

    victim = Victim(lambda images: end(logit(images)))
    np.testing.assert_allclose(victim.outputs_for(images), two(images), atol=1e-4)
    np.testing.assert_allclose(victim.logits(tf.constant(images)), two(images), atol=1e-4)
    assert victim.outputs == kind
    labels = (logit(images).numpy()[:, 0] > 0).astype(int)
    assert 0 < labels.sum() < 12
    found, expected = (PGD(ThreatModel("l_inf", 0.1), steps=4)(model, images, labels) for model in (victim, two))
    assert not found.wrong_when_clean.any()
    np.testing.assert_array_equal(found.success, expected.success)
    np.testing.assert_allclose(found.images, expected.images, atol=1e-4)


def test_one_number_of_a_function_of_arrays_is_asked(network, images):
    victim = Victim(lambda images: np.asarray(network(np.asarray(images)))[:, 0])
    first = network(images)[:, 0]
    np.testing.assert_allclose(victim.outputs_for(images, "logits"), np.stack([-first, first], axis=1) / 2, atol=1e-6)
    assert not victim.has_gradients


def test_outputs_that_are_no_classes_are_named(network, images, labels):
    with pytest.raises(InputError, match="softmax over one output, which is always 1"):
        FGSM()(lambda images: tf.nn.softmax(network(images)[:, :1]), images, labels)
    with pytest.raises(InputError, match=r"gives labels of shape \(128, 1\): give a function to labels \[n\]"):
        FGSM()(lambda images: tf.argmax(network(images), axis=1)[:, tf.newaxis], images, labels)
    with pytest.raises(InputError, match="gives 2 outputs, not one row"):
        FGSM()(lambda images: [network(images), network(images)], images, labels)


def test_weights_and_outputs_that_are_no_numbers_are_refused(network, images, labels):
    with pytest.raises(InputError, match="outputs are not numbers for 12 of 12 clean images"):
        FGSM()(lambda images: network(images) * np.nan, images, labels)
    network.layers[1].kernel.assign(network.layers[1].kernel * np.nan)
    with pytest.raises(InputError, match=r"weights .* are not all finite"):
        FGSM()(network, images, labels)


def test_probabilities_that_come_without_their_logits_give_their_logarithm(network, images):
    victim = Victim(in_a_function_of_its_own(network))
    victim.outputs_for(images)
    assert victim.outputs == "probabilities"
    log_softmax = tf.nn.log_softmax(network(images))
    np.testing.assert_allclose(victim.logits(tf.constant(images)), log_softmax, atol=1e-5)


def test_probability_of_zero_has_a_finite_logit(images):
    victim = Victim(lambda images: tf.tile([[1.0, 0.0]], [tf.shape(images)[0], 1]))
    victim.outputs_for(images)
    assert victim.outputs == "probabilities"
    assert np.isfinite(victim.logits(tf.constant(images))).all()


@pytest.mark.parametrize(
    ("outputs", "kind"), [([[0.2, 0.2]], "sigmoids"), ([[2.0, -1.0]], "logits"), ([[0.5, 0.6]], "sigmoids")]
)
def test_rows_that_leave_0_to_1_are_logits_and_those_that_do_not_sum_to_1_sigmoids(images, outputs, kind):
    victim = Victim(lambda images: tf.tile(tf.constant(outputs), [tf.shape(images)[0], 1]))
    victim.outputs_for(images)
    assert victim.outputs == kind


def test_tf_function_is_a_model(network, images):
    @tf.function
    def model(images):
        return network(images, training=False)

    victim = Victim(model)
    np.testing.assert_allclose(victim.outputs_for(images), network(images), atol=1e-6)


def test_logits_come_in_the_dtype_of_the_images(network, images):
    assert Victim(network).logits(tf.constant(images, tf.float64)).dtype == tf.float64


@pytest.mark.parametrize("model", [3, "model.keras", None, {"model": 1}, [1.0], np.zeros(3)])
def test_something_else_is_refused(model, images, labels):
    with pytest.raises(InputError, match=type(model).__name__):
        FGSM()(model, images, labels)


class Unhashable:
    """As a dataclass that is not frozen is."""

    __hash__ = None

    def __init__(self, network):
        self.network = network

    def __call__(self, images):
        return self.network(images, training=False)


def test_unhashable_function_is_a_model(network, images):
    victim = as_victim(Unhashable(network))
    np.testing.assert_allclose(victim.outputs_for(images), network(images), atol=1e-6)


@pytest.mark.parametrize(
    "model",
    [
        lambda images: images,
        lambda images: tf.ones([2, 3]),
        lambda images: {"logits": tf.ones([tf.shape(images)[0], 3])},
    ],
)
def test_outputs_of_another_shape_are_refused(model, images, labels):
    with pytest.raises(InputError, match="one row of logits or probabilities"):
        FGSM()(model, images, labels)


def test_one_model_has_one_victim(network):
    assert as_victim(network) is as_victim(network)
    assert as_victim(as_victim(network)) is as_victim(network)


@pytest.mark.parametrize(("count", "batch_size"), [(0, 4), (1, 4), (4, 4), (9, 4)])
def test_padded_batches_cover_the_rows_once(count, batch_size):
    rows = np.arange(count) * 10
    parts = list(padded_batches(rows, batch_size))
    assert all(len(part) == batch_size for part, _ in parts)
    np.testing.assert_array_equal(np.concatenate([np.zeros(0), *(part[:real] for part, real in parts)]), rows)
    assert all(np.all(part[real:] == part[0]) for part, real in parts)
