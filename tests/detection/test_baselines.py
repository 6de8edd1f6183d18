"""KD-Detection and LID against slow references in NumPy."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy.stats import gaussian_kde
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import RobustScaler

from erkeras.detection import ERDetector, KDDetector, LIDDetector
from erkeras.detection.lid_detector import HIGHEST, local_intrinsic_dimension
from erkeras.errors import InputError
from erkeras.recipes import find_recipe
from erkeras.training import build_model

SHAPE = (8, 8, 1)
DETECTORS = {"kd": KDDetector, "lid": LIDDetector, "er": ERDetector}


def model_of(defense):
    model = build_model(find_recipe("default", "digits", SHAPE, defense), SHAPE, 3, 1, seed=0)
    for layer in model.classifier.layers:  # logits far enough apart for a softmax that tells
        layer.kernel.assign(3 * layer.kernel)
    return model


@pytest.fixture(scope="module", params=["none", "e-cla"])
def model(request):
    return model_of(request.param)


@pytest.fixture(scope="module")
def data():
    random = np.random.RandomState(0)
    labels = np.arange(400) % 3
    images = np.clip(0.6 * random.rand(400, *SHAPE) + labels[:, None, None, None] / 6, 0, 1).astype(np.float32)
    return images, labels, random.randint(0, 2, (80, *SHAPE)).astype(np.float32)


def outputs_of_layers(model, images):
    outputs = [images]
    for layer in [*model.encoder.layers, *model.classifier.layers]:
        outputs.append(layer(outputs[-1]).numpy())
    return outputs


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


def test_kd_is_the_density_of_the_last_hidden_layer_at_the_predicted_class(model, data):
    images, labels, odd = data
    detector = KDDetector(model).fit(images[:300], labels[:300])
    queries = np.concatenate([images[300:340], odd[:20]])
    of_training, of_queries = (
        outputs_of_layers(model, part)[-2].astype(np.float64) for part in (images[:300], queries)
    )
    assert of_training.min() == 0  # after its ReLU
    bandwidth = detector.densities.bandwidth[0]
    size = of_training.shape[1]
    predicted = np.asarray(model(queries)).argmax(axis=1)
    expected = []
    for query, label in zip(of_queries, predicted, strict=True):
        centres = of_training[labels[:300] == label]
        kernels = -((query - centres) ** 2).sum(axis=1) / (2 * bandwidth**2)
        expected.append(np.logaddexp.reduce(kernels) - np.log(len(centres)))
    expected = np.array(expected) - size * np.log(bandwidth * np.sqrt(2 * np.pi))
    np.testing.assert_allclose(detector.log_density(queries), expected, rtol=1e-4)


def test_density_is_that_of_scipy():
    from erkeras.detection import ClassDensities

    random = np.random.RandomState(0)
    points = random.normal(size=(500, 3))
    # scipy's kernels have the covariance of the data: whitened, it is the same bandwidth in every direction.
    points = (points - points.mean(axis=0)) @ np.linalg.inv(np.linalg.cholesky(np.cov(points.T))).T
    points = points.astype(np.float32)
    queries = random.normal(size=(50, 3)).astype(np.float32) * 2
    exact = gaussian_kde(points.T.astype(np.float64), bw_method=0.3)
    found = ClassDensities.fit(points, np.zeros(500, int), 1, bandwidth=0.3).log_density(queries).numpy()[:, 0]
    np.testing.assert_allclose(found, exact.logpdf(queries.T), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", DETECTORS)
def test_saved_and_loaded_it_says_the_same(name, model, data, tmp_path):
    images, labels, odd = data
    detector = DETECTORS[name](model).fit(images[:300], labels[:300]).calibrate(images[300:], odd)
    detector.save(tmp_path / "detector.npz")
    loaded = DETECTORS[name].load(tmp_path / "detector.npz", model)
    np.testing.assert_allclose(loaded.score(odd), detector.score(odd), atol=1e-6)
    assert (loaded.threshold, loaded.false_positive_rate) == (detector.threshold, 0.05)
    other = next(kind for kind in DETECTORS.values() if kind is not DETECTORS[name])
    with pytest.raises(InputError, match="detector"):
        other.load(tmp_path / "detector.npz", model)


@pytest.mark.parametrize("kind", DETECTORS.values())
def test_bytes_are_the_images_that_they_stand_for(kind, model, data):
    images, labels, odd = data
    pixels = (images * 255).round().astype(np.uint8)
    floats = pixels / np.float32(255)
    of_pixels, of_floats = (
        kind(model).fit(form[:300], labels[:300]).calibrate(form[300:], odd) for form in (pixels, floats)
    )
    np.testing.assert_array_equal(of_pixels.statistics(floats[300:]), of_floats.statistics(floats[300:]))
    np.testing.assert_array_equal(of_pixels.score(pixels[300:]), of_floats.score(floats[300:]))


@pytest.mark.parametrize("name", DETECTORS)
def test_what_an_attacker_sees_is_the_verdict(name, data):
    model = model_of("e-cla")
    images, labels, odd = data
    detector = DETECTORS[name](model).fit(images[:300], labels[:300]).calibrate(images[300:], odd)
    queries = np.concatenate([images[300:], odd])
    outputs = tf.function(detector.outputs)(tf.constant(queries)).numpy()
    found = detector.predict(queries)
    np.testing.assert_array_equal(outputs[:, :3].argmax(axis=1), found.label)
    excess = outputs[np.arange(len(queries)), 3 + found.label]
    clear = np.abs(excess) > 1e-3
    assert clear.mean() > 0.9
    assert 0 < found.verdict.mean() < 1
    np.testing.assert_array_equal(excess[clear] > 0, found.verdict[clear])
    # Calibrated anew, it is another function: whoever compiled the old one must not mistake it for this.
    before = detector.outputs
    detector.calibrate(images[300:], odd, 0.5)
    assert detector.outputs not in (before, None)
    assert not np.allclose(detector.outputs(tf.constant(odd))[:, 3:], before(tf.constant(odd))[:, 3:])
    with tf.GradientTape() as tape:
        points = tf.constant(odd)
        tape.watch(points)
        scores = tf.reduce_sum(detector.outputs(points)[:, 3:])
    assert np.abs(tape.gradient(scores, points)).max() > 0


@pytest.mark.parametrize("kind", DETECTORS.values())
def test_a_pickle_is_refused(kind, model, tmp_path):
    class Hostile:
        def __reduce__(self):
            return (pytest.fail, ("a pickle was loaded",))

    arrays = {name: np.zeros(1) for name in (*kind.arrays, "weight", "bias", "threshold", "false_positive_rate")}
    arrays[kind.arrays[0]] = np.array([Hostile()], object)
    np.savez(tmp_path / "hostile.npz", features="code", **arrays)
    with pytest.raises(InputError, match="of plain arrays"):
        kind.load(tmp_path / "hostile.npz", model)


def test_misuse_is_refused(model, data):
    images, labels, _ = data
    with pytest.raises(InputError, match="there are 99 images to draw LID's references from"):
        LIDDetector(model).fit(images[:99], labels[:99])
    for kind in DETECTORS.values():
        with pytest.raises(InputError, match="call fit and calibrate first"):
            kind(model).statistics(images[:2])
        fitted = kind(model).fit(images, labels)
        with pytest.raises(InputError, match="call fit and calibrate first"):
            fitted.score(images[:2])
