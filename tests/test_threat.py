import numpy as np
import pytest
import tensorflow as tf

from erkeras.errors import InputError
from erkeras.threat import ThreatModel

SHAPES = [(1, 8, 8, 1), (3, 5, 7, 3), (8, 3, 1, 2)]
NORMS = ["l_inf", "l2"]


def uniform(shape, low=0.0, high=1.0, seed=0):
    return np.random.default_rng(seed).uniform(low, high, shape).astype(np.float32)


def norm_of(perturbations, norm):
    flat = np.asarray(perturbations, np.float64).reshape(len(perturbations), -1)
    return np.abs(flat).max(axis=1) if norm == "l_inf" else np.sqrt((flat**2).sum(axis=1))


@pytest.mark.parametrize(
    ("settings", "given"),
    [
        ({"norm": "l1"}, "'l1'"),
        ({"norm": "linf"}, "'linf'"),
        ({"epsilon": -0.1}, "-0.1"),
        ({"epsilon": float("nan")}, "nan"),
        ({"epsilon": float("inf")}, "inf"),
        ({"norm": "l2", "epsilon": float("inf")}, "inf"),
        ({"norm": "l2", "epsilon": -1.0}, "-1.0"),
        ({"epsilon": 1.01}, "1.01"),
        ({"epsilon": 0.6, "lower": 0.0, "upper": 0.5}, "0.6"),
        ({"lower": 1.0, "upper": 0.0}, r"\[1.0, 0.0\]"),
        ({"lower": 0.5, "upper": 0.5}, r"\[0.5, 0.5\]"),
    ],
)
def test_impossible_threat_is_refused_and_quoted(settings, given):
    with pytest.raises(InputError, match=given):
        ThreatModel(**settings)


@pytest.mark.parametrize("settings", [{"epsilon": 0.0}, {"epsilon": 1.0}, {"norm": "l2", "epsilon": 5.0}])
def test_extreme_threat_is_accepted(settings):
    assert ThreatModel(**settings).epsilon == settings["epsilon"]


def test_root_mean_square_radius_is_per_pixel():
    threat = ThreatModel.root_mean_square(0.005, (28, 28, 1))
    assert threat.norm == "l2"
    assert threat.epsilon == pytest.approx(0.14)
    origins = np.full((2, 28, 28, 1), 0.5, np.float32)
    edge = threat.project(origins + uniform(origins.shape, -1, 1), origins)
    np.testing.assert_allclose(np.sqrt(np.mean((edge - origins) ** 2, axis=(1, 2, 3))), 0.005, rtol=1e-4)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("shape", SHAPES)
def test_distance_is_one_norm_per_image(norm, shape):
    images, origins = uniform(shape), uniform(shape, seed=1)
    distance = ThreatModel(norm).distance(images, origins)
    assert distance.shape == (shape[0],)
    np.testing.assert_allclose(distance, norm_of(images - origins, norm), rtol=1e-5)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("scale", [0.0, 0.5, 1.0])
def test_projection_is_inside_and_idempotent(norm, shape, scale):
    threat = ThreatModel(norm, 0.3)
    origins = uniform(shape)
    projected = threat.project(origins + uniform(shape, -2, 2, seed=1), origins, scale)
    assert norm_of(projected - origins, norm).max() <= 0.3 * scale + 1e-6
    assert projected.numpy().min() >= 0
    assert projected.numpy().max() <= 1
    np.testing.assert_allclose(threat.project(projected, origins, scale), projected, atol=1e-6)


@pytest.mark.parametrize("norm", NORMS)
def test_projection_leaves_what_is_inside(norm):
    threat = ThreatModel(norm, 0.3)
    origins = uniform((3, 5, 7, 3), 0.2, 0.8)
    inside = origins + 0.1 * uniform(origins.shape, -1, 1, seed=1) / np.sqrt(105)
    np.testing.assert_allclose(threat.project(inside, origins), inside, atol=1e-7)


@pytest.mark.parametrize(("norm", "bounds"), [("l_inf", (0.0, 1.0)), ("l_inf", (-9.0, 9.0)), ("l2", (-9.0, 9.0))])
def test_projection_is_the_nearest_point(norm, bounds):
    """The nearest point p of a convex set is the one with (x - p) . (y - p) <= 0 for every y of the set."""
    threat = ThreatModel(norm, 0.3, *bounds)
    origins = tf.constant(uniform((1, 2, 3, 1)), tf.float64)
    outside = origins + uniform(origins.shape, -2, 2, seed=1)
    nearest = threat.project(outside, origins)
    others = threat.random_start(tf.repeat(origins, 500, axis=0), [1, 2])
    if norm == "l2":  # out to the sphere, where a wrong projection shows
        others = origins + (others - origins) * 0.3 / threat.distance(others, origins)[:, None, None, None]
    products = tf.reduce_sum((outside - nearest) * (others - nearest), axis=[1, 2, 3])
    assert products.numpy().max() <= 1e-12
    assert threat.distance(outside, origins).numpy() > 0.3


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("scale", [0.0, 0.5, 1.0])
def test_random_start_is_inside(norm, shape, scale):
    origins = uniform(shape).round(1)
    start = ThreatModel(norm, 0.3).random_start(origins, [3, 4], scale).numpy()
    distance = norm_of(start - origins, norm)
    assert distance.max() <= 0.3 * scale + 1e-6
    assert start.min() >= 0
    assert start.max() <= 1
    assert (distance.min() > 0) == (scale > 0)


@pytest.mark.parametrize("norm", NORMS)
def test_random_start_of_an_image_ignores_its_neighbours(norm):
    threat = ThreatModel(norm, 0.3)
    origins = uniform((5, 4, 3, 2))
    seeds = np.array([[9, index] for index in range(5)])
    together = threat.random_start(tf.constant(origins), seeds).numpy()
    order = [3, 0, 4, 1, 2]
    np.testing.assert_array_equal(threat.random_start(tf.constant(origins[order]), seeds[order]), together[order])
    for index in range(5):
        alone = threat.random_start(tf.constant(origins[index : index + 1]), seeds[index : index + 1])
        np.testing.assert_array_equal(alone[0], together[index])


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("rank", [1, 2])
def test_random_start_is_a_function_of_its_seeds(norm, rank):
    threat = ThreatModel(norm, 0.3)
    origins = tf.fill([2, 4, 4, 1], 0.5)

    def start(seed):
        seeds = np.array([seed, 0]) if rank == 1 else np.array([[seed, 0], [seed, 1]])
        return threat.random_start(origins, seeds).numpy()

    np.testing.assert_array_equal(start(1), start(1))
    assert not np.any(np.isclose(start(1), start(2), atol=1e-6).all(axis=(1, 2, 3)))
    assert not np.allclose(*start(1), atol=1e-3)


def deciles(values):
    return np.histogram(values, bins=10, range=(0, 1))[0] / np.size(values)


@pytest.mark.parametrize("per_image", [False, True])
def test_random_start_is_uniform_in_the_cube(per_image):
    origins = tf.fill([400, 1, 4, 5], 0.5)
    seeds = tf.constant([[5, index] for index in range(400)]) if per_image else tf.constant([5, 0])
    start = tf.function(ThreatModel("l_inf", 0.2).random_start)(origins, seeds)
    fractions = (start.numpy() - 0.3) / 0.4
    np.testing.assert_allclose(deciles(fractions), 0.1, atol=0.015)
    assert np.abs(np.corrcoef(fractions.reshape(400, -1).T) - np.eye(20)).max() < 0.25


@pytest.mark.parametrize("per_image", [False, True])
@pytest.mark.parametrize("shape", [(1, 1, 3), (3, 1, 1), (1, 3, 1)])
def test_random_start_is_uniform_in_the_ball(per_image, shape):
    count = 2000
    origins = tf.fill([count, *shape], 0.5)
    seeds = tf.constant([[5, index] for index in range(count)]) if per_image else tf.constant([5, 0])
    start = tf.function(ThreatModel("l2", 0.2).random_start)(origins, seeds)
    points = (start.numpy().reshape(count, 3) - 0.5) / 0.2
    radii = np.linalg.norm(points, axis=1)
    np.testing.assert_allclose(deciles(radii**3), 0.1, atol=0.025)
    # On a sphere in three dimensions every coordinate is uniform (Archimedes), whatever the radius.
    for coordinate in (points / radii[:, None]).T:
        np.testing.assert_allclose(deciles((coordinate + 1) / 2), 0.1, atol=0.025)
        assert abs(np.corrcoef(radii, np.abs(coordinate))[0, 1]) < 0.08


@pytest.mark.parametrize("shape", [(9, 8, 8, 1), (60, 28, 28, 1), (7, 5, 11, 3)])
@pytest.mark.parametrize("by_row", [True, False])
def test_structured_starts_are_stripes_and_blocks_of_both_signs(shape, by_row):
    n, height, width, _ = shape
    origins = np.full(shape, 0.5, np.float32)
    seeds = np.stack([np.full(n, 3), np.arange(n)], axis=1) if by_row else np.array([3, 4])
    start = ThreatModel("l_inf", 0.2).structured_start(origins, seeds, 0.5).numpy()
    signs = (start - 0.5) / 0.1
    np.testing.assert_allclose(np.abs(signs), 1, atol=1e-5)
    kinds = [(height, 1), (-(-height // 7), -(-width // 7)), (-(-height // 4), -(-width // 4))]
    fitting = set()
    for image in np.sign(signs):
        fits = [
            all(
                np.ptp(image[top : top + rows, left : left + columns], axis=(0, 1)).max() == 0
                for top in range(0, height, rows)
                for left in range(0, width, columns)
            )
            for rows, columns in kinds
        ]
        assert any(fits)
        fitting.add(fits.index(True))
    if n == 60:
        assert fitting == {0, 1, 2}
        assert 0.4 < np.mean(signs > 0) < 0.6


def test_structured_start_of_an_image_does_not_depend_on_its_neighbours():
    threat, origins = ThreatModel("l_inf", 0.2), uniform((6, 8, 8, 1))
    seeds = np.stack([np.full(6, 3), np.arange(6)], axis=1)
    whole = threat.structured_start(origins, seeds).numpy()
    np.testing.assert_array_equal(threat.structured_start(origins[2:4], seeds[2:4]), whole[2:4])
    with pytest.raises(InputError, match="use them with l_inf"):
        ThreatModel("l2", 0.2).structured_start(origins, seeds)


def test_normal_start_is_normal_and_projected():
    origins = np.full((40, 8, 8, 1), 0.5, np.float32)
    noise = ThreatModel("l_inf", 0.3).normal_start(origins, [1, 2], 0.05).numpy() - 0.5
    assert noise.std() == pytest.approx(0.05, rel=0.05)
    assert np.abs(noise).max() > 0.13
    near = ThreatModel("l_inf", 0.3).normal_start(origins, [1, 2], 0.05, 0.1).numpy() - 0.5
    np.testing.assert_allclose(near, np.clip(noise, -0.03, 0.03), atol=1e-6)
