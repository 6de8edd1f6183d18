"""The numbers of a report: intervals, classes, confusions, histograms, ROC."""

import numpy as np
import pytest

from erkeras.evaluation.examples import STANDING, UNANSWERED
from erkeras.report.figures import (
    FOUND,
    NO_NUMBER,
    accuracy_over_distance,
    confusion,
    curve_of_detector,
    fraction,
    histogram,
    of_hundred,
    per_class,
    spread,
)
from erkeras.report.sources import Measured, Reported
from helpers.golden import GOLDEN
from helpers.reports import THREAT, examples_of, summary_of

MODEL = Reported(None, GOLDEN, ())


def measured_of(examples, names=("pgd", "square"), **changes):
    return Measured("title", "digits", "test", 0, THREAT, summary_of(examples, names, **changes))


@pytest.mark.parametrize(
    ("value", "images", "low", "high"),
    [(0.5, 10, 0.2366, 0.7634), (0.0, 20, 0.0, 0.1611), (1.0, 20, 0.8389, 1.0), (0.909, 1000, 0.8896, 0.9253)],
)
def test_an_interval_is_wilsons(value, images, low, high):
    found = fraction(value, images)
    assert found.value == value
    assert (found.low, found.high) == pytest.approx((low, high), abs=1e-4)


@pytest.mark.parametrize(
    ("clean", "robust", "expected"),
    [
        (0.988, 0.909, (91, 8, 1)),
        (1.0, 1.0, (100, 0, 0)),
        (0.0, 0.0, (0, 0, 100)),
        (0.75, 0.5, (50, 25, 25)),
        (0.995, 0.985, (98, 1, 1)),
    ],
)
def test_parts_of_a_hundred_are_whole_and_sum_up(clean, robust, expected):
    assert of_hundred(clean, robust) == expected


def test_classes_have_their_accuracies_and_what_they_are_taken_for():
    examples, _ = examples_of(broken=(1, 4), later=(7,), wrong=(0, 3))
    zero, one, two = per_class(MODEL, examples)
    assert [row.name for row in (zero, one, two)] == ["zero", "one", "two"]
    assert [row.images for row in (zero, one, two)] == [20, 20, 20]
    assert (zero.clean.value, zero.robust.value, zero.taken_for) == (0.9, 0.9, "")
    assert (one.clean.value, one.robust.value, one.taken_for) == (1.0, 0.85, "two (3 of 3)")
    assert (one.robust.low, one.robust.high) == (fraction(0.85, 20).low, fraction(0.85, 20).high)


def test_a_confusion_matrix_counts_every_image_once():
    examples, _ = examples_of(broken=(1, 4), later=(7,), wrong=(0, 3))
    found = confusion(MODEL, measured_of(examples), examples)
    assert found.columns == ("zero", "one", "two")
    counts = {name: [count for count, _, _ in cells] for name, cells in found.rows}
    assert counts == {"zero": [18, 2, 0], "one": [0, 17, 3], "two": [0, 0, 20]}
    assert found.frequent == (("one", "two", 3), ("zero", "one", 2))
    assert [[own for _, _, own in cells].index(True) for _, cells in found.rows] == [0, 1, 2]
    assert [cells[row][1] for row, (_, cells) in enumerate(found.rows)] == [9, 9, 10]


def test_what_the_detector_finds_and_what_is_no_number_have_columns_of_their_own():
    examples, _ = examples_of(broken=(1,), later=(), wrong=())
    examples.predictions[2], examples.broken_by[3] = 0, UNANSWERED
    found = confusion(MODEL, measured_of(examples, ("pgd-detector", "fgsm")), examples)
    assert found.columns == ("zero", "one", "two", FOUND, NO_NUMBER)
    assert [count for count, _, _ in dict(found.rows)["two"]] == [0, 0, 19, 1, 0]
    assert [count for count, _, _ in dict(found.rows)["zero"]] == [19, 0, 0, 0, 1]
    # An attack that goes on outside the ball leaves such predictions too: there the image stands.
    assert dict(confusion(MODEL, measured_of(examples), examples).rows)["two"][2][0] == 20


def test_of_many_classes_the_most_frequent_confusions_are_given():
    examples, _ = examples_of(broken=range(0, 30, 2), later=(), wrong=(), n=120, classes=30)
    found = confusion(MODEL, measured_of(examples), examples)
    assert found.rows == ()
    assert len(found.frequent) == 15
    assert found.frequent[0] == ("zero", "one", 1)


def test_a_histogram_counts_all_values_in_bins_that_all_share():
    found = histogram({"one": np.array([0.0, 1.0, np.nan]), "two": np.array([4.0]), "none": np.zeros(0)})
    assert (found.edges[0], found.edges[-1]) == (0, 4)
    assert {name: sum(counts) for name, counts in found.counts.items()} == found.totals == {"one": 2, "two": 1}
    assert found.counts["two"][-1] == 1
    far = histogram({"one": np.array([*np.arange(99.0), 1e6])}, 0.01)
    assert far.edges[-1] < 1e5
    assert sum(far.counts["one"]) == 100
    assert histogram({"one": np.zeros(0)}) is None
    assert sum(histogram({"one": np.ones(5)}).counts["one"]) == 5


def test_distances_are_shown_where_they_differ():
    examples, _ = examples_of()
    assert spread(examples) is None
    examples.distance[:] = np.linspace(0, 1, len(examples))
    np.testing.assert_array_equal(spread(examples), examples.distance[examples.broken_by >= 0])
    assert spread(examples_of(broken=(1,), later=())[0]) is None


def test_the_roc_curve_is_that_of_the_scores():
    natural, adversarial = np.array([-2.0, -1.0, 0.5, -3.0]), np.array([1.0, -1.5, np.inf])
    found = curve_of_detector("all", natural, adversarial)
    pairs = [(one > other) for one in adversarial for other in natural]
    assert found.area == pytest.approx(np.mean(pairs))
    assert found.threshold == (0.25, pytest.approx(2 / 3))
    assert (found.false_positives[0], found.found[0], found.false_positives[-1], found.found[-1]) == (0, 0, 1, 1)
    assert curve_of_detector("all", natural, np.zeros(0)) is None
    random = np.random.RandomState(0)
    long = curve_of_detector("long", random.normal(size=5000), random.normal(1, size=5000))
    assert len(long.found) <= 320
    assert (long.false_positives[-1], long.found[-1]) == (1, 1)


def test_accuracy_over_epsilon_is_read_off_the_distances_of_an_attack_that_minimises():
    examples, _ = examples_of(broken=(1, 2), later=(), wrong=(0,), attacks=1)
    examples.distance[:] = np.linspace(0, 0.6, len(examples))
    assert accuracy_over_distance(measured_of(examples, ("rays",)), examples) is None
    epsilons, accuracies = accuracy_over_distance(
        measured_of(examples, ("rays",), mean_boundary_distance=0.3), examples
    )
    assert (epsilons[0], accuracies[0]) == (0, 59 / 60)
    for epsilon, accuracy in zip(epsilons[1:], accuracies[1:], strict=True):
        assert accuracy == np.sum(examples.distance[1:].astype(float) > epsilon) / 60
    assert accuracies[-1] == 0
    assert np.sum(examples.broken_by == STANDING) == 57
