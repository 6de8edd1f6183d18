import numpy as np
import pytest
import tensorflow as tf
from scipy.optimize import linprog

from erkeras.attacks.projections import to_hyperplane
from helpers.closed_forms import to_hyperplane as exact

NORMS = ["l_inf", "l2"]


def problems(count, pixels, seed=0):
    """Points of the box, many of them on its faces, weights of all sizes and some 0, hyperplanes on both sides."""
    random = np.random.default_rng(seed)
    points = np.clip(random.uniform(-0.5, 1.5, (count, pixels)), 0, 1)
    weights = random.normal(size=(count, pixels)) * 10 ** random.uniform(-2, 0, (count, pixels))
    weights[random.uniform(size=weights.shape) < 0.2] = 0
    reach = np.abs(weights).sum(axis=1)
    offsets = reach * random.uniform(-0.6, 0.6, count)
    return points, weights, offsets


def project(points, weights, offsets, norm, *bounds, dtype=np.float64):
    return to_hyperplane(*(tf.constant(part, dtype) for part in (points, weights, offsets)), norm, *bounds).numpy()


def gained(weights, delta):
    return np.sum(weights * delta, axis=1)


def lengths(delta, norm):
    return np.linalg.norm(delta, np.inf if norm == "l_inf" else 2, axis=1)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("pixels", [1, 2, 17, 300])
def test_is_the_exact_solution(norm, pixels):
    points, weights, offsets = problems(200, pixels)
    expected = np.stack([exact(*row, norm) for row in zip(points, weights, offsets, strict=True)])
    met = np.isclose(gained(weights, expected), offsets)
    assert met.sum() > 20  # both kinds are there
    assert (~met).sum() > 20
    found = project(points, weights, offsets, norm)
    np.testing.assert_allclose(found, expected, atol=1e-12)
    found = project(points, weights, offsets, norm, dtype=np.float32)
    # Where the end of the box is nearly the hyperplane, the multiplier is ill-conditioned; what it does is not.
    np.testing.assert_allclose(gained(weights, found), gained(weights, expected), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(lengths(found, norm), lengths(expected, norm), rtol=1e-4)
    assert np.all(np.abs(np.clip(points + found, 0, 1) - points - found) < 1e-6)


def test_is_the_linear_program_s_optimum_in_l_inf():
    """An independent solver; least t with -t <= delta <= t."""
    points, weights, offsets = problems(20, 9, seed=1)
    found = project(points, weights, offsets, "l_inf")
    solved = 0
    for point, weight, offset, delta in zip(points, weights, offsets, found, strict=True):
        identity, ones = np.eye(9), np.ones((9, 1))
        program = linprog(
            np.append(np.zeros(9), 1),
            A_ub=np.block([[identity, -ones], [-identity, -ones]]),
            b_ub=np.zeros(18),
            A_eq=np.append(weight, 0)[None],
            b_eq=[offset],
            bounds=[*zip(-point, 1 - point, strict=True), (0, None)],
        )
        if program.success:
            solved += 1
            assert np.abs(delta).max() == pytest.approx(program.fun, abs=1e-9)
            assert weight @ delta == pytest.approx(offset, abs=1e-9)
        else:
            corner = np.where(weight * offset > 0, 1, np.where(weight * offset < 0, 0, point))
            np.testing.assert_allclose(point + delta, corner)
    assert 5 < solved < 20


def test_is_optimal_in_l2():
    """Kuhn-Tucker: free pixels share delta / weight, and those at the box's end would have gone further."""
    points, weights, offsets = problems(100, 30, seed=2)
    found = project(points, weights, offsets, "l2")
    met = np.isclose(gained(weights, found), offsets)
    assert met.sum() > 20
    for point, weight, delta in zip(points[met], weights[met], found[met], strict=True):
        ended = np.isclose(point + delta, 0) | np.isclose(point + delta, 1)
        free = ~ended & (weight != 0)
        if free.any():
            ratios = delta[free] / weight[free]
            assert np.ptp(ratios) < 1e-9
            assert np.all(np.abs(delta[ended]) <= np.abs(ratios[0] * weight[ended]) + 1e-9)


@pytest.mark.parametrize("norm", NORMS)
def test_hyperplane_out_of_reach_gives_the_corner_nearest_to_it(norm):
    points, weights, offsets = problems(30, 12, seed=3)
    toward = np.sign(weights * offsets[:, None])
    found = project(points, weights, 1e3 * offsets, norm)
    np.testing.assert_allclose(points + found, np.where(toward > 0, 1, np.where(toward < 0, 0, points)), atol=1e-12)


@pytest.mark.parametrize("norm", NORMS)
def test_other_bounds(norm):
    points, weights, offsets = problems(50, 10, seed=4)
    # The same picture, moved and stretched.
    stretched = project(4 * points - 1, weights, 4 * offsets, norm, -1.0, 3.0)
    np.testing.assert_allclose(stretched, 4 * project(points, weights, offsets, norm), atol=1e-12)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("scale", [1e-30, 1e-3, 1e30])
def test_scale_of_a_hyperplane_does_not_matter(norm, scale):
    points, weights, offsets = problems(50, 10, seed=5)
    expected = project(points, weights, offsets, norm, dtype=np.float32)
    found = project(points, scale * weights, scale * offsets, norm, dtype=np.float32)
    np.testing.assert_allclose(found, expected, atol=2e-5)


@pytest.mark.parametrize("norm", NORMS)
def test_nothing_to_do(norm):
    points, weights, offsets = problems(4, 6, seed=6)
    weights[0] = 0
    offsets[1] = 0
    weights[2], offsets[2] = 0, 0
    found = project(points, weights, offsets, norm, dtype=np.float32)
    np.testing.assert_array_equal(found[:3], 0)
    assert np.all(np.isfinite(found))
    assert np.abs(found[3]).max() > 0


@pytest.mark.parametrize("norm", NORMS)
def test_pieces_that_newton_takes_one_by_one(norm):
    """Rooms and weights in geometric rows: up to 57 rounds of Newton alone."""
    for dtype, pixels, tolerance in ((np.float64, 100, 1e-9), (np.float32, 30, 1e-5)):
        points = np.tile(0.3 ** np.arange(pixels), (8, 1))
        weights = points[:, ::-1]
        fractions = np.array([0.1, 0.3, 0.5, 0.7, 0.9, 0.99, 0.999, 0.9999])
        offsets = -fractions * np.sum(weights * points, axis=1)
        expected = np.stack([exact(*row, norm) for row in zip(points, weights, offsets, strict=True)])
        found = project(points, weights, offsets, norm, dtype=dtype)
        np.testing.assert_allclose(gained(weights, found), offsets, rtol=tolerance)
        np.testing.assert_allclose(lengths(found, norm), lengths(expected, norm), rtol=10 * tolerance)


@pytest.mark.parametrize("norm", NORMS)
def test_rows_do_not_see_each_other(norm):
    points, weights, offsets = problems(40, 50, seed=7)
    together = project(points, weights, offsets, norm, dtype=np.float32)
    order = np.random.default_rng(0).permutation(40)
    np.testing.assert_array_equal(
        project(points[order], weights[order], offsets[order], norm, dtype=np.float32), together[order]
    )
    alone = [project(points[row : row + 1], weights[row : row + 1], offsets[row : row + 1], norm, dtype=np.float32)
             for row in range(40)]  # fmt: skip
    np.testing.assert_allclose(np.concatenate(alone), together, atol=1e-6)
