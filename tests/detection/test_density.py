import tracemalloc

import numpy as np
import pytest
from scipy.stats import gaussian_kde
from sklearn.neighbors import KernelDensity

from erkeras.detection import ClassDensities
from erkeras.errors import InputError


@pytest.fixture
def points():
    random = np.random.RandomState(0)
    labels = np.repeat([0, 1, 2], [30, 50, 20])
    features = (random.normal(size=(100, 6)) + 2 * labels[:, np.newaxis]).astype(np.float32)
    return features, labels


@pytest.mark.parametrize("bandwidth", [0.05, 0.7, 5.0])
def test_density_is_that_of_scikit_learn(points, bandwidth):
    features, labels = points
    queries = np.random.RandomState(1).normal(size=(40, 6)).astype(np.float32) * 3
    densities = ClassDensities.fit(features, labels, 3, bandwidth=bandwidth)
    found = densities.log_density(queries).numpy()
    for label in range(3):
        reference = KernelDensity(bandwidth=bandwidth, rtol=0).fit(features[labels == label].astype(np.float64))
        np.testing.assert_allclose(found[:, label], reference.score_samples(queries.astype(np.float64)), rtol=1e-6)


def test_many_features_and_centres_are_as_few():
    # More of both than one block holds, and classes of different size.
    random = np.random.RandomState(2)
    centres, queries = (random.normal(size=(count, 3)).astype(np.float32) for count in (2600, 1100))
    counts = [2500, 100]
    found = ClassDensities(centres, counts, 0.3).log_density(queries).numpy()
    for label, part in enumerate(np.split(centres, [2500])):
        reference = KernelDensity(bandwidth=0.3, rtol=0).fit(part.astype(np.float64))
        np.testing.assert_allclose(found[:, label], reference.score_samples(queries.astype(np.float64)), rtol=1e-6)


@pytest.mark.parametrize("unit", [0.01, 1, 100])
def test_bandwidth_has_the_highest_leave_one_out_likelihood(points, unit):
    features, labels = np.float32(unit) * points[0], points[1]

    def likelihood(bandwidth):
        total = 0.0
        for row in range(len(features)):
            others = (labels == labels[row]) & (np.arange(len(features)) != row)
            model = KernelDensity(bandwidth=bandwidth, rtol=0).fit(features[others].astype(np.float64))
            total += model.score_samples(features[row : row + 1].astype(np.float64))[0]
        return total

    best = ClassDensities.fit(features, labels, 3).bandwidth[0]
    assert likelihood(best) > max(likelihood(best * 1.4), likelihood(best / 1.4))


def test_limit_draws_points_of_each_class(points):
    features, labels = points
    densities = ClassDensities.fit(features, labels, 3, limit=25, seed=1)
    assert densities.counts.tolist() == [25, 25, 20]
    known = {tuple(row) for row in features[labels == 1]}
    assert all(tuple(row) in known for row in densities.centres[25:50])
    again = ClassDensities.fit(features, labels, 3, limit=25, seed=1)
    np.testing.assert_array_equal(again.centres, densities.centres)


def test_fitting_takes_little_more_memory_than_the_features_again():
    """What has all digits is of one class at a time; the centres and a copy have half."""
    features, labels = np.random.default_rng(0).normal(size=(4000, 300)), np.arange(4000) % 10
    tracemalloc.start()
    densities = ClassDensities.fit(features, labels, 10, bandwidth=1.0)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1.2 * features.nbytes
    assert densities.centres.nbytes == features.nbytes // 2


def test_a_class_without_images_is_refused(points):
    features, labels = points
    with pytest.raises(InputError, match="class 3 has 0 images"):
        ClassDensities.fit(features, labels, 4)


def test_far_points_keep_their_order():
    densities = ClassDensities(np.zeros((1, 2), np.float32), [1], 0.1)
    far = densities.log_density(np.array([[1e3, 0], [1e3 + 1e-2, 0], [1e4, 0]], np.float32)).numpy()[:, 0]
    assert np.all(np.isfinite(far))
    assert np.all(np.diff(far) < 0)


def test_as_many_centres_as_points_change_nothing(points):
    features, labels = points
    whole = ClassDensities.fit(features, labels, 3, bandwidth=0.7)
    found = whole.reduced(50)
    assert sorted(found.counts) == sorted(whole.counts)
    np.testing.assert_allclose(found.log_density(features), whole.log_density(features), rtol=1e-6)


def test_fewer_centres_keep_mass_mean_and_spread(points):
    features, labels = points
    whole = ClassDensities.fit(features, labels, 3, bandwidth=0.7)
    found = whole.reduced(4, seed=1)
    assert found.counts.tolist() == [4, 4, 4]
    for label, (centres, weights, bandwidth) in enumerate(
        zip(*(np.split(column, 3) for column in (found.centres, found.weights, found.bandwidth)), strict=True)
    ):
        points_of_class = features[labels == label].astype(np.float64)
        mean = points_of_class.mean(axis=0)
        assert weights.sum() == pytest.approx(1)
        np.testing.assert_allclose(weights @ centres, mean, atol=1e-6)
        # Of a mixture, the variance within and between its parts, as the mean over the dimensions.
        spread = weights @ (bandwidth**2 + ((centres - mean) ** 2).mean(axis=1))
        assert spread == pytest.approx(0.7**2 + points_of_class.var(axis=0).mean())
    np.testing.assert_array_equal(found.centres, whole.reduced(4, seed=1).centres)


def test_points_that_coincide_are_one_centre():
    densities = ClassDensities(np.zeros((6, 2), np.float32), [6], 0.3)
    found = densities.reduced(3)
    assert found.counts.tolist() == [1]
    query = np.ones((1, 2), np.float32)
    np.testing.assert_allclose(found.log_density(query), densities.log_density(query), rtol=1e-12)


def test_density_at_a_label_is_that_column(points):
    features, labels = points
    densities = ClassDensities.fit(features, labels, 3)
    of_label = np.where(labels == 1, 2, labels)  # one class asks for nothing
    found = densities.log_density_at(features, of_label)
    expected = densities.log_density(features).numpy()[np.arange(len(labels)), of_label]
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    assert densities.log_density_at(features[:0], of_label[:0]).shape == (0,)


def test_density_is_that_of_scipy():
    random = np.random.RandomState(0)
    points = random.normal(size=(500, 3))
    # scipy's kernels have the covariance of the data: whitened, it is the same bandwidth in every direction.
    points = (points - points.mean(axis=0)) @ np.linalg.inv(np.linalg.cholesky(np.cov(points.T))).T
    points = points.astype(np.float32)
    queries = random.normal(size=(50, 3)).astype(np.float32) * 2
    exact = gaussian_kde(points.T.astype(np.float64), bw_method=0.3)
    found = ClassDensities.fit(points, np.zeros(500, int), 1, bandwidth=0.3).log_density(queries).numpy()[:, 0]
    np.testing.assert_allclose(found, exact.logpdf(queries.T), rtol=1e-6, atol=1e-6)
