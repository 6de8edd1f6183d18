"""What detectors by densities share: scaling, reduction, the log density of the predicted class."""

import numpy as np
import pytest

from erkeras.detection import ERDetector, KDDetector
from erkeras.errors import InputError
from helpers.detectors import model_of, three_classes


@pytest.fixture(scope="module")
def model():
    return model_of("e-cla")


@pytest.fixture(scope="module")
def data():
    return three_classes()


@pytest.fixture(params=[KDDetector, ERDetector])
def fitted(request, model, data):
    return request.param(model).fit(data[0][:300], data[1][:300])


def test_the_log_density_is_its_one_statistic(fitted, data):
    odd = data[2]
    assert fitted.statistics(odd).shape == (80, 1)
    np.testing.assert_array_equal(fitted.log_density(odd), fitted.statistics(odd)[:, 0])


def test_it_is_the_density_of_the_class_that_is_predicted(fitted, model, data):
    logits, densities = fitted.look(data[2])
    assert densities.shape == (80, 3, 1)
    labels = np.argmax(logits, axis=1)
    expected = densities.numpy()[np.arange(80), labels, 0]
    np.testing.assert_allclose(fitted.log_density(data[2]), expected, rtol=1e-6, atol=1e-6)
    np.testing.assert_array_equal(labels, np.argmax(model(data[2]), axis=1))


def test_er_scales_and_a_unit_that_never_fires_does_no_harm(model, data):
    """Its standard deviation is taken for a millionth."""
    black = np.zeros((60, 8, 8, 1), np.float32)
    detector = ERDetector(model).fit(black, np.arange(60) % 3)
    np.testing.assert_array_equal(detector.scale, np.full(len(detector.scale), 1e-6))
    detector = ERDetector(model, "code").fit(data[0][:300], data[1][:300])
    codes = model.embed(data[0][:300]).numpy().astype(np.float64)
    np.testing.assert_allclose(detector.mean, codes.mean(axis=0), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(detector.scale, codes.std(axis=0), rtol=1e-4)


@pytest.mark.parametrize("kind", [KDDetector, ERDetector])
def test_its_densities_stand_on_a_thousand_images_of_a_class_unless_asked_otherwise(kind, model):
    images = np.random.default_rng(0).uniform(size=(1006, 8, 8, 1)).astype(np.float32)
    labels = np.repeat([0, 1, 2], [1002, 2, 2])
    assert kind(model).fit(images, labels).densities.counts.tolist() == [1000, 2, 2]


def test_reduced_it_stands_on_fewer_centres_and_has_to_be_calibrated_again(fitted, data):
    images, _, odd = data
    fitted.calibrate(images[300:], odd)
    whole = fitted.log_density(odd)
    assert fitted.reduce(10, seed=1) is fitted
    assert fitted.regression is None
    np.testing.assert_array_equal(fitted.densities.counts, [10, 10, 10])
    with pytest.raises(InputError, match="call fit and calibrate first"):
        fitted.score(odd)
    few = fitted.log_density(odd)
    assert np.isfinite(few).all()
    assert np.corrcoef(whole, few)[0, 1] > 0.5
    assert not np.array_equal(whole, few)


def test_it_is_reduced_by_a_seed(model, data):
    first, again, other = (
        ERDetector(model, "code").fit(data[0][:300], data[1][:300]).reduce(5, seed).log_density(data[2])
        for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_a_reduced_detector_is_saved_as_it_is(fitted, model, data, tmp_path):
    images, _, odd = data
    fitted.reduce(10).calibrate(images[300:], odd)
    fitted.save(tmp_path / "detector.npz")
    loaded = type(fitted).load(tmp_path / "detector.npz", model)
    np.testing.assert_array_equal(loaded.score(odd), fitted.score(odd))
    np.testing.assert_array_equal(loaded.densities.counts, [10, 10, 10])


@pytest.mark.parametrize("kind", [KDDetector, ERDetector])
def test_before_it_is_fitted_it_says_so(kind, model, data):
    detector = kind(model)
    for ask in (lambda: detector.reduce(5), lambda: detector.log_density(data[2]), lambda: detector.look(data[2])):
        with pytest.raises(InputError, match="the detector is not fitted: call fit and calibrate first"):
            ask()
