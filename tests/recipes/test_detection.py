"""Section 4.5 as data: the paper's figures, as it prints them."""

import pytest

from erkeras.detection.named import DETECTORS
from erkeras.recipes.detection import CARLINI_WAGNER_BOUNDS, PAPER_FIGURES

ATTACKS = ("fgsm", "pgd", "cw")


def test_bounds_of_carlini_and_wagner_are_the_papers():
    assert CARLINI_WAGNER_BOUNDS == {"mnist": 0.007, "cifar10": 0.004}


@pytest.mark.parametrize("dataset", ["mnist", "cifar10"])
def test_each_table_has_every_pair_and_every_detector(dataset):
    figures = PAPER_FIGURES[dataset]
    assert set(figures) == {(first, second) for first in ATTACKS for second in ATTACKS}
    for cell in figures.values():
        assert set(cell) == set(DETECTORS)
        for pair in cell.values():
            assert len(pair) == 2
            assert all(0 < percent <= 100 for percent in pair)


def test_the_papers_best_figures_are_those_that_it_prints_bold():
    """The best of each cell, as the text of section 4.5 has it."""
    mnist, cifar10 = PAPER_FIGURES["mnist"], PAPER_FIGURES["cifar10"]
    best = {pair: [max(figure[place] for figure in cell.values()) for place in (0, 1)] for pair, cell in mnist.items()}
    assert best["pgd", "pgd"] == [97.94, 63.81]
    assert best["fgsm", "fgsm"] == [96.49, 81.15]
    assert best["cw", "cw"] == [98.66, 100.0]
    assert cifar10["pgd", "pgd"]["er2"] == (97.54, 86.78)
