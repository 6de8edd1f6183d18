"""What all detectors share: files, bytes, verdicts, what an attacker sees."""

import numpy as np
import pytest
import tensorflow as tf
from helpers.detectors import model_of, three_classes

from erkeras.detection import ERDetector, KDDetector, LIDDetector
from erkeras.detection.detector import in_batches
from erkeras.errors import InputError
from erkeras.models import ERClassifier
from erkeras.models.networks import build_networks

DETECTORS = {"kd": KDDetector, "lid": LIDDetector, "er": ERDetector}


@pytest.fixture(scope="module", params=["none", "e-cla"])
def model(request):
    return model_of(request.param)


@pytest.fixture(scope="module")
def data():
    return three_classes()


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
    for kind in DETECTORS.values():
        with pytest.raises(InputError, match="call fit and calibrate first"):
            kind(model).statistics(images[:2])
        fitted = kind(model).fit(images, labels)
        with pytest.raises(InputError, match="call fit and calibrate first"):
            fitted.score(images[:2])


@pytest.fixture(scope="module", params=DETECTORS.values(), ids=DETECTORS)
def calibrated(request, data):
    """Each kind of detector of one model, calibrated."""
    images, labels, odd = data
    return request.param(model_of("e-cla")).fit(images[:300], labels[:300]).calibrate(images[300:], odd)


def test_a_verdict_is_a_score_above_the_threshold(calibrated, data):
    queries = np.concatenate([data[0][300:], data[2]])
    found = calibrated.predict(queries)
    np.testing.assert_array_equal(found.verdict, found.score > np.float32(calibrated.threshold))
    np.testing.assert_array_equal(found.score, calibrated.score(queries))
    np.testing.assert_array_equal(found.label, found.probabilities.argmax(axis=1))
    np.testing.assert_allclose(found.probabilities.sum(axis=1), 1, atol=1e-5)
    assert (found.probabilities.dtype, found.label.dtype, found.score.dtype) == (np.float32, np.int32, np.float32)
    assert found.verdict.dtype == bool


def test_a_verdict_is_a_function_of_the_image_alone(calibrated, data):
    queries = np.concatenate([data[0][300:310], data[2][:10]])
    together = calibrated.score(queries)
    alone = [calibrated.score(queries[row : row + 1])[0] for row in range(len(queries))]
    np.testing.assert_allclose(alone, together, atol=1e-5)


def test_statistics_are_those_of_the_class_that_is_predicted(calibrated, data):
    queries = data[2][:12]
    logits, statistics = calibrated.look(tf.constant(queries))
    labels = np.argmax(logits, axis=1)
    rows = labels if statistics.shape[1] > 1 else np.zeros(12, int)
    expected = statistics.numpy()[np.arange(12), rows]
    np.testing.assert_allclose(calibrated.statistics(queries), expected, rtol=1e-5, atol=1e-5)
    of_label = calibrated.of_label(tf.constant(queries))
    np.testing.assert_array_equal(of_label[1], labels)
    np.testing.assert_allclose(of_label[2], expected, rtol=1e-5, atol=1e-5)
    assert calibrated.statistics(queries[:0]).shape == (0, 0)


@pytest.mark.parametrize("kind", DETECTORS.values(), ids=DETECTORS)
def test_fitted_anew_it_has_to_be_calibrated_anew(kind, data):
    images, labels, odd = data
    detector = kind(model_of("e-cla")).fit(images[:300], labels[:300]).calibrate(images[300:], odd)
    detector.fit(images[:200], labels[:200])
    for ask in (lambda: detector.threshold, lambda: detector.false_positive_rate, lambda: detector.outputs):
        with pytest.raises(InputError, match="the detector is not fitted: call fit and calibrate first"):
            ask()


def test_a_detector_of_another_model_is_refused(calibrated, tmp_path):
    calibrated.save(tmp_path / "detector.npz")
    other = ERClassifier(*build_networks("mnist", (28, 28, 1), 5, 3))
    with pytest.raises(InputError, match="does not fit the model: give the detector that was fitted on this model"):
        type(calibrated).load(tmp_path / "detector.npz", other)


@pytest.mark.parametrize("name", ["weight", "threshold", "features"])
def test_a_file_without_one_of_its_arrays_is_refused(calibrated, tmp_path, name):
    calibrated.save(tmp_path / "detector.npz")
    with np.load(tmp_path / "detector.npz") as archive:
        arrays = {key: value for key, value in archive.items() if key != name}
    np.savez(tmp_path / "detector.npz", **arrays)
    with pytest.raises(InputError, match="with the arrays"):
        type(calibrated).load(tmp_path / "detector.npz", calibrated.model)


@pytest.mark.parametrize("count", [0, 1, 256, 257, 600])
def test_batches_are_joined(count):
    images = np.arange(count, dtype=np.float32).reshape(count, 1, 1, 1) / 1000
    sizes = []

    def function(batch):
        sizes.append(len(batch))
        return {"twice": 2 * batch[:, 0, 0, 0], "rows": (batch,)}

    found = in_batches(function, images)
    np.testing.assert_array_equal(found["twice"], 2 * images[:, 0, 0, 0])
    np.testing.assert_array_equal(found["rows"][0], images)
    assert max(sizes) <= 256
