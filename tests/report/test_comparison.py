"""Models beside each other, and the paired test of `erkeras table`."""

import dataclasses
from pathlib import Path

import pytest
from scipy.stats import binomtest

from erkeras.report.comparison import comparisons, shared_curves
from erkeras.report.sources import Curve, read_sources
from helpers.reports import examples_of, model_of


@pytest.fixture
def models(tmp_path):
    broken = {"a": (1, 2), "b": (1, 3, 4, 5, 6, 7), "c": ()}
    return [
        model_of(tmp_path / name, made=examples_of(broken=rows, later=()), weights=name.encode())
        for name, rows in broken.items()
    ]


def test_each_two_models_are_tested_on_the_images_on_which_they_differ(models):
    recorded, trained = comparisons(read_sources(models))
    assert recorded.title == "APGD-CE and Square, l_inf epsilon 0.2"
    assert [row[0] for row in recorded.table.rows] == ["a", "b", "c"]
    assert [row[1:4] for row in recorded.table.rows][1] == ("98.3%", "88.3%", "88.3%")
    first, second, third = recorded.tests.rows
    assert first == ("a and b", "60", "5", "1", f"{binomtest(5, 6).pvalue:.2g}", "1")
    assert second[:4] == ("a and c", "60", "0", "2")
    assert third[:4] == ("b and c", "60", "0", "6")
    assert third[4] == f"{2 * 0.5**6:.2g}"
    assert "with 3 tests, below 0.017" in recorded.sentence
    # What training reports keeps no record.
    assert trained.tests is None
    assert trained.missing[0].sentence == "No paired test with a, b and c: a test needs the records."


def test_the_images_of_one_record_may_come_in_another_order(models, tmp_path):
    examples, clean = examples_of(broken=(1, 2), later=())
    turned = type(examples)(**{name: value[::-1].copy() for name, value in vars(examples).items()})
    other = model_of(tmp_path / "d", made=(turned, clean[::-1].copy()), weights=b"d")
    (recorded, _) = comparisons(read_sources([models[0], other]))
    assert recorded.tests.rows[0][:4] == ("a and d", "60", "0", "0")


def test_evaluations_of_other_images_are_not_compared(models, tmp_path):
    other = model_of(tmp_path / "d", names=("pgd", "square"), weights=b"d")
    found = comparisons(read_sources([models[0], other]))
    assert [one.title for one in found] == ["FGSM and PGD, l_inf epsilon 0.15, as training reports"]


def test_a_curve_of_several_models_is_one_chart(models):
    read = read_sources(models)
    told = (Path("c.json"), (0.0, 0.1), ("pgd",), "l_inf", "digits", 20, 0, False)
    with_curves = [
        dataclasses.replace(model, curves=(Curve(*told, {model.name: (1.0, 0.1 * number)}),))
        for number, model in enumerate(read[:2])
    ]
    (chart,) = shared_curves([*with_curves, read[2]])
    assert chart.title == "pgd on 20 test images of digits, seed 0"
    assert chart.legend == (("s0", "a"), ("s1", "b"))
    assert "b from 100.0% to 10.0%" in chart.description
    assert shared_curves(with_curves[:1]) == []
