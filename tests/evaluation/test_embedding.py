import numpy as np

from erkeras.evaluation import project_codes


def test_projection_keeps_classes_apart_and_is_deterministic():
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1, 2], 20)
    centres = 20 * rng.normal(size=(3, 5))
    clean, attacked = (centres[labels] + rng.normal(size=(60, 5)) for _ in range(2))
    first, second = project_codes(clean, attacked, seed=1)
    for points in (first, second):
        assert points.shape == (60, 2)
        # In the plane shared by both, each point is nearest to the clean centre of its own class.
        means = np.stack([first[labels == label].mean(axis=0) for label in range(3)])
        nearest = np.argmin(np.linalg.norm(points[:, np.newaxis] - means, axis=2), axis=1)
        np.testing.assert_array_equal(nearest, labels)
    again = project_codes(clean, attacked, seed=1)
    np.testing.assert_array_equal(first, again[0])
    np.testing.assert_array_equal(second, again[1])
