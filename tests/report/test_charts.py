"""Charts as shapes: where they stand, what they say."""

import numpy as np
import pytest

from erkeras.report import charts
from erkeras.report.figures import Fraction, curve_of_detector, histogram


def of_kind(chart, kind, style):
    return [shape for shape in chart.shapes if shape.kind == kind and style in str(shape.attributes.get("class"))]


def test_a_bar_is_as_long_as_its_fraction_and_names_it():
    chart = charts.bars("Bars", [("pgd", Fraction(0.5, 0.4, 0.6), "robust"), ("a" * 50, Fraction(1, 0.9, 1), "clean")])
    first, second = of_kind(chart, "rect", "fill")
    assert (first.attributes["width"], second.attributes["width"]) == (180, 360)
    assert [shape.text for shape in of_kind(chart, "text", "figure")] == [
        "50.0% (40.0% to 60.0%)",
        "100.0% (90.0% to 100.0%)",
    ]
    assert [line.attributes["x1"] for line in of_kind(chart, "line", "whisker")[1:3]] == [144, 216]
    assert "pgd 50.0%" in chart.description
    assert "a" * 50 in chart.description
    assert (
        max(shape.attributes["y"] + shape.attributes["height"] for shape in of_kind(chart, "rect", "")) <= chart.height
    )


def test_a_hundred_squares_stand_for_a_hundred_images():
    chart = charts.hundred(91, 8, 1)
    assert [len(of_kind(chart, "rect", kind)) for kind in ("good", "bad", "none")] == [91, 8, 1]
    assert chart.legend[1] == ("bad", "8 broken by an attack")
    assert len({(shape.attributes["x"], shape.attributes["y"]) for shape in chart.shapes}) == 100


def test_lines_go_through_their_points():
    chart = charts.lines("Curve", "epsilon", [("one", [0, 0.1, 0.2], [1.0, 0.5, 0.0]), ("two", [0, 0.2], [1.0, 0.9])])
    first, second = of_kind(chart, "polyline", "line")
    points = [tuple(map(float, pair.split(","))) for pair in first.attributes["points"].split()]
    assert points == [(50, 8), (195, 93), (340, 178)]
    assert (first.attributes["class"], second.attributes["class"]) == ("line s0", "line s1")
    assert chart.description == "Robust accuracy over epsilon: one from 100.0% to 0.0%; two from 100.0% to 90.0%."
    assert {"0%", "100%", "0.2"} <= {shape.text for shape in chart.shapes}
    assert of_kind(charts.lines("Flat", "epsilon", [("one", [0.0], [1.0])]), "polyline", "line")


def test_a_roc_curve_marks_the_threshold():
    found = curve_of_detector("broken", np.array([-1.0, 1.0]), np.array([2.0, 3.0]))
    chart = charts.roc("ROC", [found])
    (mark,) = of_kind(chart, "circle", "s0")
    assert (mark.attributes["cx"], mark.attributes["cy"]) == (195, 8)
    assert chart.legend[0] == ("s0", "broken: area 1.000")


def test_a_histogram_has_bars_and_a_limit():
    found = histogram({"clean": np.array([0.0, 0.0, 1.0]), "attacked": np.array([1.0])})
    chart = charts.histogram("H", "x", found, {"clean": "s0", "attacked": "s1"}, 0.5)
    heights = sorted(shape.attributes["height"] for shape in of_kind(chart, "rect", "bar s0"))
    assert heights == pytest.approx([170 / 3, 340 / 3], abs=0.01)
    assert len(of_kind(chart, "line", "limit")) == 1
    assert chart.legend == (("s0", "clean (3)"), ("s1", "attacked (1)"))
    assert not of_kind(charts.histogram("H", "x", found, {"clean": "s0", "attacked": "s1"}, 5), "line", "limit")


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1]), (0, 0.3, [0, 0.1, 0.2, 0.3]), (-3, 17, [0, 5, 10, 15]), (2, 2, [2])],
)
def test_ticks_are_round_numbers_inside(low, high, expected):
    assert charts._ticks(low, high, 5) == pytest.approx(expected)
