import numpy as np
import pytest
from scipy.special import expit
from sklearn.metrics import roc_auc_score

from erkeras.detection import Regression
from erkeras.errors import InputError


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


@pytest.mark.parametrize("rate", [0.02, 0.05, 0.5])
def test_the_threshold_is_what_a_new_natural_image_exceeds_at_that_rate(kinds, rate):
    natural, adversarial = kinds
    found = Regression.fit(natural, adversarial, rate)
    scores = np.sort(expit(found.log_odds(natural)))
    rank = round(400 * (1 - rate)) + 1  # ceil(401 (1 - rate)) for these rates
    assert scores[rank - 1] < found.threshold < scores[rank]
    assert found.threshold == pytest.approx(scores[rank - 1 : rank + 1].mean())
    assert found.verdicts(natural).sum() == 400 - rank
    assert found.false_positive_rate == rate


def test_the_rate_is_5_percent_unless_asked_otherwise(kinds):
    assert Regression.fit(*kinds).threshold == Regression.fit(*kinds, 0.05).threshold


def test_so_few_natural_images_that_none_may_exceed_it(kinds):
    found = Regression.fit(kinds[0][:5], kinds[1], 0.05)
    assert not found.verdicts(kinds[0][:5]).any()
    assert found.threshold == pytest.approx((expit(found.log_odds(kinds[0][:5])).max() + 1) / 2)


@pytest.mark.parametrize("threshold", [0.0, 1e-9, 0.3, 1.0])
def test_counted_from_the_threshold_the_sign_is_the_verdict(threshold):
    found = Regression(np.array([2.0]), -1.0, threshold, None)
    statistics = np.linspace(-8, 8, 33)[:, np.newaxis]
    np.testing.assert_array_equal(
        found.log_odds(statistics) - found.bias + found.offset > 0, found.verdicts(statistics)
    )


def test_separation_counts_what_it_says():
    # Scores rise with the statistic; the threshold lies at 0.
    found = Regression(np.array([1.0]), 0.0, 0.5, None)
    natural = np.array([-3.0, -2, -1, 1] * 10)[:, np.newaxis]
    adversarial = np.array([-2.5, -0.5, 0.5, 2, 3])[:, np.newaxis]
    separation = found.separation(natural, adversarial)
    scores, truth = np.concatenate([natural, adversarial])[:, 0], np.repeat([0, 1], [40, 5])
    assert separation.auroc == pytest.approx(roc_auc_score(truth, scores))
    # At 2 and above no natural image is found, at 1 ten of 40 are.
    assert separation.detection_rate_at_5 == pytest.approx(2 / 5)
    assert (separation.detection_rate, separation.false_positive_rate) == (3 / 5, 10 / 40)
    assert (separation.natural, separation.adversarial) == (40, 5)


def test_without_adversarial_images_only_false_positives_are_counted():
    found = Regression(np.array([1.0]), 0.0, 0.5, None).separation(np.array([[-1.0], [1.0]]), np.zeros((0, 1)))
    assert (found.auroc, found.detection_rate_at_5, found.detection_rate) == (None, None, None)
    assert (found.false_positive_rate, found.natural, found.adversarial) == (0.5, 2, 0)


def test_without_natural_images_nothing_is_counted():
    with pytest.raises(InputError, match="0 natural images"):
        Regression(np.array([1.0]), 0.0, 0.5, None).separation(np.zeros((0, 1)), np.ones((2, 1)))


@pytest.mark.parametrize(("natural", "adversarial"), [(0, 3), (3, 0)])
def test_one_kind_alone_is_not_fitted_on(natural, adversarial):
    with pytest.raises(InputError, match=f"{natural} natural and {adversarial} adversarial"):
        Regression.fit(np.zeros((natural, 1)), np.ones((adversarial, 1)))


@pytest.mark.parametrize("rate", [0, 1, -0.1, 1.5, np.nan])
def test_a_rate_that_is_none_is_refused(kinds, rate):
    with pytest.raises(InputError, match="give a number between 0 and 1"):
        Regression.fit(*kinds, rate)
