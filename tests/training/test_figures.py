"""The figures that training reports: which attacks, on what the detector learns, what the card says of it."""

import dataclasses

import numpy as np
import pytest
from PIL import Image

import erkeras
from erkeras.attacks import FGSM, PGD
from erkeras.data import load_dataset
from erkeras.recipes import Job, find_recipe
from erkeras.threat import ThreatModel
from erkeras.training import figures

SHAPE = (8, 8, 1)
RECIPE = find_recipe("default", "digits", SHAPE)


@pytest.fixture(scope="module")
def digits():
    return load_dataset("digits")


@pytest.fixture(scope="module")
def model(saved_model):
    return erkeras.load(saved_model).model


@pytest.fixture(scope="module")
def attacked(model, digits, tiny_job):
    """Test and validation images, and what one-restart attacks made of them."""
    job = dataclasses.replace(tiny_job, restarts=1, limit=60)
    parts = [split.sample(job.limit, job.seed) for split in (digits.test, digits.validation)]
    return job, parts, [figures.evaluate(model, part, job, erkeras.Progress(), "attacking") for part in parts]


@pytest.mark.parametrize("epsilon", [0.15, 0.3])
def test_fgsm_and_pgd_are_reported_in_the_recipes_ball(epsilon):
    job = Job("digits", dataclasses.replace(RECIPE, epsilon=epsilon), restarts=3)
    threat = ThreatModel("l_inf", epsilon)
    assert figures.attacks_of(job) == (FGSM(threat), PGD(threat, steps=40, restarts=3))


def test_behind_a_purifier_pgd_is_short_and_starts_once():
    recipe = find_recipe("default", "digits", SHAPE, "defense-gan")
    _, pgd = figures.attacks_of(Job("digits", recipe, restarts=5))
    assert (pgd.steps, pgd.restarts) == (10, 1)


@pytest.mark.parametrize(("limit", "plain", "purified"), [(None, None, 128), (20, 20, 20), (500, 500, 128)])
def test_behind_a_purifier_fewer_images_are_attacked(limit, plain, purified):
    behind = find_recipe("default", "digits", SHAPE, "defense-gan")
    for recipe, images in ((RECIPE, plain), (behind, purified)):
        assert figures.limit_of(Job("digits", recipe, limit=limit)) == images


def test_a_report_says_what_was_asked_and_found(attacked):
    job, (test, _), (robustness, _) = attacked
    report = figures.report(job, test, robustness, None)
    assert (report.split, report.seed, report.threat) == ("test", job.seed, ThreatModel("l_inf", job.recipe.epsilon))
    assert (report.pgd.steps, report.pgd.restarts) == (40, 1)
    assert report.pgd.step_size == pytest.approx(2.5 * job.recipe.epsilon / 40)
    assert report.indices == tuple(test.indices)
    assert report.summary == robustness.summary()
    assert report.baseline is None
    assert figures.report(job, test, robustness, report.summary).baseline == report.summary


@pytest.mark.parametrize("features", ["code", "combined"])
def test_the_detector_is_fitted_on_clean_training_images(model, digits, tiny_job, features):
    job = dataclasses.replace(tiny_job, features=features)
    detector = figures.fit_detector(model, digits, job)
    expected = erkeras.ERDetector(model, features).fit(digits.train.pixels, digits.train.labels, 1000, job.seed)
    images = digits.test.images[:10]
    np.testing.assert_array_equal(detector.log_density(images), expected.log_density(images))


def test_it_learns_from_successful_attacks_where_there_are_ten(model, digits, attacked):
    job, (test, validation), (robustness, found) = attacked
    assert found.successful.sum() >= 10
    detector = figures.fit_detector(model, digits, job)
    entry = figures.describe_detector(detector, digits, job, test, robustness, found)
    assert entry.calibrated_on == "validation images, clean and successfully attacked by PGD"
    assert entry.fitted_on == "clean training images, at most 1,000 of each class"
    assert (entry.features, entry.stated_false_positive_rate) == ("combined", 0.05)
    assert (entry.centres, entry.unreduced) == (None, None)
    assert entry.successful.adversarial == robustness.successful.sum()
    assert entry.all_attacked.adversarial == robustness.right_when_clean.sum()
    assert entry.successful.natural == len(test)
    again = figures.fit_detector(model, digits, job)
    again.calibrate(validation.images, found.examples.images[found.successful])
    assert again.threshold == entry.threshold == detector.threshold


@pytest.mark.parametrize(("successes", "word"), [(9, "attacked"), (10, "successfully attacked")])
def test_with_fewer_it_learns_from_all_attacked_images(model, digits, attacked, successes, word):
    job, (test, _), (robustness, found) = attacked
    broken_by = found.examples.broken_by.copy()
    broken_by[np.flatnonzero(broken_by >= 0)[successes:]] = -1
    few = dataclasses.replace(found, examples=dataclasses.replace(found.examples, broken_by=broken_by))
    assert few.successful.sum() == successes
    entry = figures.describe_detector(figures.fit_detector(model, digits, job), digits, job, test, robustness, few)
    assert entry.calibrated_on == f"validation images, clean and {word} by PGD"


def test_a_compact_one_says_what_it_was(model, digits, attacked):
    job, (test, _), (robustness, found) = attacked
    job = dataclasses.replace(job, compact=True)
    detector = figures.fit_detector(model, digits, job)
    whole = detector.log_density(test.images)
    entry = figures.describe_detector(detector, digits, job, test, robustness, found)
    assert entry.centres == 50
    assert max(detector.densities.counts) == 50
    assert entry.fitted_on == "clean training images, all of each class"
    error = detector.log_density(test.images) - whole
    assert entry.unreduced.log_density_standard_deviation == pytest.approx(whole.std())
    assert entry.unreduced.log_density_root_mean_square_error == pytest.approx(np.sqrt(np.mean(error**2)))
    assert entry.unreduced.all_attacked.adversarial == entry.all_attacked.adversarial


def test_the_picture_has_a_column_for_each_class_that_was_right(model, digits, attacked, tmp_path):
    job, (test, _), (robustness, _) = attacked
    figures.draw(tmp_path / "all.png", None, test, robustness, digits, job)
    few = test.take(np.flatnonzero(test.labels < 3))
    of_few = figures.evaluate(model, few, job, erkeras.Progress(), "attacking")
    figures.draw(tmp_path / "few.png", None, few, of_few, digits, job)
    columns = len(set(test.labels[robustness.right_when_clean]))
    columns_of_few = len(set(few.labels[of_few.right_when_clean]))
    assert columns > columns_of_few > 0
    widths = [Image.open(tmp_path / f"{name}.png").width for name in ("all", "few")]
    assert widths == [150 * columns, 150 * columns_of_few]


def test_where_nothing_was_right_nothing_is_drawn(digits, attacked, tmp_path):
    job, (test, _), (robustness, _) = attacked
    wrong = dataclasses.replace(robustness.examples, broken_by=np.full(len(test), -2, np.int32))
    figures.draw(tmp_path / "p.png", None, test, dataclasses.replace(robustness, examples=wrong), digits, job)
    assert list(tmp_path.iterdir()) == []
