"""LID against a slow reference in NumPy."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers.detectors import model_of, outputs_of_layers, three_classes
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import RobustScaler

from erkeras.detection import LIDDetector
from erkeras.detection.lid_detector import HIGHEST, local_intrinsic_dimension
from erkeras.errors import InputError


@pytest.fixture(scope="module", params=["none", "e-cla"])
def model(request):
    return model_of(request.param)


@pytest.fixture(scope="module")
def data():
    return three_classes()


def slow_dimension(point, references, neighbours):
    distances = np.sort([np.linalg.norm(point - reference) for reference in references])[1 : neighbours + 1]
    return -1 / np.mean([np.log(distance / distances[-1]) for distance in distances])


def test_dimension_is_that_of_numpy():
    random = np.random.RandomState(0)
    references = random.normal(size=(60, 5))
    points = np.concatenate([random.normal(size=(20, 5)), references[:10]])
    found = local_intrinsic_dimension(points, references, 7).numpy()
    expected = [slow_dimension(point, references, 7) for point in points]
    np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize("dimensions", [2, 8])
def test_dimension_is_that_of_the_plane_that_points_fill(dimensions):
    random = np.random.RandomState(1)
    basis = random.normal(size=(dimensions, 30))
    references = random.uniform(-1, 1, (20_000, dimensions)) @ basis
    found = local_intrinsic_dimension(random.uniform(-0.2, 0.2, (300, dimensions)) @ basis, references, 100)
    assert np.mean(found) == pytest.approx(dimensions, rel=0.07)


def test_equal_distances_are_no_infinity():
    ring = np.stack([np.cos(np.arange(30)), np.sin(np.arange(30))], axis=1)
    points = np.array([[0.0, 0.0], [1.0, 0.0]])
    same = np.zeros((30, 2))
    assert local_intrinsic_dimension(points, ring).numpy()[0] == HIGHEST
    assert np.isfinite(local_intrinsic_dimension(points, same)).all()
    half = np.concatenate([np.zeros((10, 2)), ring])
    found = local_intrinsic_dimension(points, half).numpy()
    assert 0 < found[0] < 1
    with tf.GradientTape() as tape:
        variable = tf.constant(points)
        tape.watch(variable)
        found = local_intrinsic_dimension(variable, half)
    assert np.isfinite(tape.gradient(found, variable)).all()


def test_lid_looks_at_every_layer_that_computes(model, data):
    images, labels, odd = data
    detector = LIDDetector(model).fit(images[:300], labels[:300], seed=3)
    assert len(detector.references) == 100
    known = {image.tobytes() for image in images[:300]}
    assert all(image.tobytes() in known for image in detector.references)
    queries = np.concatenate([images[300:330], odd[:10]])
    copies = (keras.layers.Flatten, keras.layers.Rescaling)
    layers = [*model.encoder.layers, *model.classifier.layers]
    kept = [0, *(number for number, layer in enumerate(layers, 1) if not isinstance(layer, copies))]
    of_queries, of_references = (outputs_of_layers(model, part) for part in (queries, detector.references))
    pairs = [(of_queries[number], of_references[number]) for number in kept]
    logits = [outputs[-1].astype(np.float64) for outputs in (of_queries, of_references)]
    pairs.append(tuple(np.exp(part) / np.exp(part).sum(axis=1, keepdims=True) for part in logits))
    expected = [
        [
            slow_dimension(query.ravel().astype(np.float64), references.reshape(100, -1), 20)
            for query in queries_of_layer
        ]
        for queries_of_layer, references in pairs
    ]
    np.testing.assert_allclose(detector.statistics(queries), np.transpose(expected), rtol=2e-3)


def test_lid_of_an_image_depends_on_nothing_else(model, data):
    images, labels, odd = data
    detector = LIDDetector(model).fit(images, labels)
    np.testing.assert_allclose(detector.statistics(odd[5:6]), detector.statistics(odd)[5:6], rtol=1e-4)
    again, other = (LIDDetector(model).fit(images, labels, seed=seed).statistics(odd) for seed in (0, 1))
    np.testing.assert_array_equal(again, detector.statistics(odd))
    assert np.abs(other - again).max() > 0.1


def test_regression_of_lid_is_scaled_by_what_it_is_fitted_on(model, data):
    images, labels, odd = data
    detector = LIDDetector(model).fit(images[:300], labels[:300]).calibrate(images[300:360], odd[:40], None)
    fitted_on = np.concatenate([detector.statistics(images[300:360]), detector.statistics(odd[:40])])
    scaler = RobustScaler().fit(fitted_on)
    reference = LogisticRegression(class_weight="balanced", max_iter=1000).fit(
        scaler.transform(fitted_on).clip(-10, 10), np.repeat([0, 1], [60, 40])
    )
    others = np.concatenate([images[360:], odd[40:]])
    expected = reference.predict_proba(scaler.transform(detector.statistics(others)))[:, 1]
    np.testing.assert_allclose(detector.score(others), expected, atol=1e-4)
    np.testing.assert_array_equal(detector.predict(others).verdict, expected > 0.5)
    assert detector.false_positive_rate is None
    assert detector.evaluate(images[360:], odd[40:]).auroc > 0.9


def test_labels_are_not_looked_at(model, data):
    images, labels, odd = data
    with_labels, without = LIDDetector(model).fit(images, labels), LIDDetector(model).fit(images)
    np.testing.assert_array_equal(with_labels.statistics(odd), without.statistics(odd))


def test_too_few_images_are_refused(model, data):
    images, labels, _ = data
    message = r"^there are 99 images to draw LID's references from: give 100 or more\.$"
    with pytest.raises(InputError, match=message):
        LIDDetector(model).fit(images[:99], labels[:99])
    assert len(LIDDetector(model).fit(images[:100]).references) == 100
