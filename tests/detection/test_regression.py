import numpy as np
import pytest

from erkeras.detection import Regression


@pytest.fixture
def kinds():
    random = np.random.RandomState(0)
    return random.normal(size=(400, 1)), random.normal(-3, 1, size=(300, 1))


def test_the_border_of_two_equal_normals_is_halfway(kinds):
    natural, adversarial = kinds
    found = Regression.fit(natural, adversarial, None)
    assert found.threshold == 0.5
    assert -found.bias / found.weight[0] == pytest.approx(-1.5, abs=0.15)
    np.testing.assert_array_equal(found.verdicts(np.array([[-1.0], [-2.0]])), [False, True])


def test_one_far_away_changes_little(kinds):
    natural, adversarial = kinds
    plain = Regression.fit(natural, adversarial, None)
    far = Regression.fit(natural, np.concatenate([adversarial, [[-1e10]]]), None)
    assert -far.bias / far.weight[0] == pytest.approx(-plain.bias / plain.weight[0], abs=0.02)


def test_units_do_not_matter(kinds):
    natural, adversarial = kinds
    plain, other = (Regression.fit(unit * natural + 5, unit * adversarial + 5, None) for unit in (1, 1e6))
    np.testing.assert_allclose(other.log_odds(1e6 * natural + 5), plain.log_odds(natural + 5), rtol=1e-4)


def test_few_positives_weigh_as_much_as_many(kinds):
    natural, adversarial = kinds
    many, few = (
        Regression.fit(natural, part, None) for part in (np.repeat(adversarial[:100], 9, axis=0), adversarial[:100])
    )
    assert -few.bias / few.weight[0] == pytest.approx(-many.bias / many.weight[0], abs=0.05)
