"""The purifier against least squares."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from erkeras import randomness
from erkeras.attacks import PGD
from erkeras.errors import InputError
from erkeras.models import DefenseGAN
from erkeras.models.networks import build_generator
from erkeras.serving import export_classifier
from erkeras.threat import ThreatModel

SHAPE = (4, 4, 1)


def sequential(*stack):
    return keras.Sequential(stack)


def linear_generator(latent_size=3):
    return sequential(keras.Input((latent_size,)), layers.Dense(16, bias_initializer="normal"), layers.Reshape(SHAPE))


def linear_classifier():
    return sequential(keras.Input(SHAPE), layers.Flatten(), layers.Dense(3))


def projections(generator, images):
    """The nearest points that a linear generator makes, by least squares."""
    kernel, bias = generator.get_weights()
    flat = images.reshape(len(images), -1).astype(np.float64)
    latent, *_ = np.linalg.lstsq(kernel.T.astype(np.float64), (flat - bias).T, rcond=None)
    return (latent.T @ kernel + bias).reshape(images.shape)


def test_a_linear_generator_is_searched_to_its_least_squares(images):
    generator = linear_generator()
    model = DefenseGAN(generator, linear_classifier(), steps=300, restarts=2, step_size=1.0)
    expected = projections(generator, images)
    np.testing.assert_allclose(model.purify(images), expected, atol=1e-5)
    np.testing.assert_allclose(model(images), model.classifier(expected.astype(np.float32)), atol=1e-4)
    assert np.abs(expected - images).max() > 0.1


def test_the_search_is_descent_with_momentum_and_the_nearest_of_the_restarts(images):
    """Three steps, which leave every start elsewhere, in NumPy."""
    generator = linear_generator()
    steps, restarts, step_size, momentum = 3, 4, 0.8, 0.6
    options = {"step_size": step_size, "momentum": momentum, "seed": 5}
    found = DefenseGAN(generator, linear_classifier(), steps=steps, restarts=restarts, **options).purify(images)
    kernel, bias = (weight.astype(np.float64) for weight in generator.get_weights())
    flat = images.reshape(12, -1)
    made = []
    for restart in range(restarts):
        latent = np.repeat(randomness.normal(randomness.row_keys(tf.constant([[5, restart]])), [3]), 12, axis=0)
        velocity = np.zeros_like(latent)
        for _ in range(steps):
            gradient = 2 / 16 * (latent @ kernel + bias - flat) @ kernel.T
            velocity = momentum * velocity + gradient
            latent = latent - step_size * velocity
        made.append(latent @ kernel + bias)
    errors = np.stack([((one - flat) ** 2).mean(axis=1) for one in made])
    assert len(set(errors.argmin(axis=0))) > 1
    nearest = np.stack(made)[errors.argmin(axis=0), np.arange(12)]
    np.testing.assert_allclose(np.reshape(found, (12, -1)), nearest, atol=1e-5)


def small(steps=20, restarts=3, **options):
    return DefenseGAN(build_generator((8, 8, 1), 5, 2), eight_classifier(), steps=steps, restarts=restarts, **options)


def eight_classifier():
    return sequential(keras.Input((8, 8, 1)), layers.Flatten(), layers.Dense(4))


@pytest.fixture
def eights():
    return np.random.default_rng(3).uniform(size=(9, 8, 8, 1)).astype(np.float32)


def test_an_image_is_purified_the_same_whatever_its_neighbours(eights):
    model = small()
    together = model.purify(eights).numpy()
    assert np.abs(together - eights).max() > 0.1
    for start, stop in ((0, 1), (4, 9), (8, 9)):
        np.testing.assert_allclose(model.purify(eights[start:stop]), together[start:stop], atol=1e-5)
    np.testing.assert_array_equal(model.purify(eights), together)


def test_more_restarts_are_never_farther_and_another_seed_starts_elsewhere(eights):
    def errors(model):
        return np.mean((model.purify(eights).numpy() - eights) ** 2, axis=(1, 2, 3))

    generator, classifier = build_generator((8, 8, 1), 5, 2), eight_classifier()
    one, five, other = (
        errors(DefenseGAN(generator, classifier, steps=5, restarts=restarts, seed=seed))
        for restarts, seed in ((1, 0), (5, 0), (1, 1))
    )
    assert np.all(five <= one + 1e-7)
    assert np.any(five < one - 1e-5)
    assert np.any(np.abs(one - other) > 1e-5)


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("watch_variables", [False, True])
def test_the_gradient_is_the_classifiers_at_the_purified_image(eights, compiled, watch_variables):
    model = small()

    def gradient(images):
        with tf.GradientTape(watch_accessed_variables=watch_variables) as tape:
            tape.watch(images)
            outputs = tf.nn.softmax(model(images))[:, 0]
        return tape.gradient(outputs, images)

    found = (tf.function(gradient) if compiled else gradient)(tf.constant(eights))
    points = model.purify(eights)
    with tf.GradientTape() as tape:
        tape.watch(points)
        outputs = tf.nn.softmax(model.classifier(points))[:, 0]
    np.testing.assert_allclose(found, tape.gradient(outputs, points), atol=1e-6)
    assert np.abs(found).max() > 0


def test_our_attacks_go_through_the_purifier():
    """Two classes a linear generator tells apart: the attack on the classifier alone is purified away."""
    # The generator makes images of one grey value; the classifier looks at one pixel more than at the others.
    generator = sequential(keras.Input((1,)), layers.Dense(16), layers.Reshape(SHAPE))
    generator.set_weights([np.ones((1, 16), np.float32), np.zeros(16, np.float32)])
    classifier = sequential(keras.Input(SHAPE), layers.Flatten(), layers.Dense(2))
    kernel = np.zeros((16, 2), np.float32)
    kernel[0, 1], kernel[1:, 1] = 1.0, 0.2
    classifier.set_weights([kernel, np.array([0, -2], np.float32)])
    model = DefenseGAN(generator, classifier, steps=60, restarts=1, step_size=0.2)
    images, labels = np.stack([np.full(SHAPE, 0.4), np.full(SHAPE, 0.6)]).astype(np.float32), np.array([0, 1])
    # A logit moves by the length of the kernel, 1.26, for each unit of distance: the classifier alone falls at 0.32.
    # The grey value moves by (1 + 15 x 0.2) / 16 / 1.26, and has to move by 0.1: the purified classifier falls at 0.51.
    attack = PGD(ThreatModel("l2", 0.6), steps=20, step_size=0.05, random_start=False)
    naive = attack(classifier, images, labels)
    np.testing.assert_allclose(naive.distance, 0.35, atol=1e-4)
    assert (np.argmax(model(naive.images), axis=1) == labels).all()
    aware = attack(model, images, labels)
    assert aware.success.all()
    np.testing.assert_allclose(aware.distance, 0.55, atol=1e-4)


def test_saved_and_loaded_it_is_the_same(eights, tmp_path):
    model = small(seed=3, momentum=0.5, step_size=4.0)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded(eights), model(eights))
    for option in ("steps", "restarts", "step_size", "momentum", "seed"):
        assert getattr(loaded, option) == getattr(model, option)


def test_exported_it_needs_no_erkeras_and_keeps_its_gradient(eights, tmp_path):
    model = small()
    export_classifier(model, (8, 8, 1), tmp_path / "1")
    loaded = tf.saved_model.load(str(tmp_path / "1"))
    served = loaded.signatures

    def slope(logits):
        points = tf.constant(eights)
        with tf.GradientTape() as tape:
            tape.watch(points)
            outputs = logits(points)
        return outputs, tape.gradient(outputs, points)

    def through(points):
        return served["logits"](images=points)["logits"]

    for found, expected in zip(slope(through), slope(model), strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-5)
    assert set(served) == {"serving_default", "default_bytes", "logits", "logits_bytes"}


def test_it_keeps_the_generator_as_it_was(eights):
    generator = build_generator((8, 8, 1), 5, 2)
    model = DefenseGAN(generator, eight_classifier(), steps=2, restarts=1)
    before = model.purify(eights).numpy()
    generator.set_weights([weight + 1 for weight in generator.get_weights()])
    np.testing.assert_array_equal(model.purify(eights), before)
    assert generator.trainable_variables


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 0}, "steps is 0"),
        ({"restarts": 0}, "restarts is 0"),
        ({"step_size": 0.0}, "step size is 0"),
        ({"momentum": 1.0}, "momentum 1"),
    ],
)
def test_bad_settings_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        small(**options)


def test_networks_that_do_not_fit_are_refused():
    with pytest.raises(InputError, match="classifier takes"):
        DefenseGAN(build_generator((8, 8, 1)), linear_classifier())
