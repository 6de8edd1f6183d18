"""Saved models beside each other, by their cards and records."""

import dataclasses

import pytest

from erkeras.errors import InputError
from erkeras.evaluation import compare_rows, read_rows
from erkeras.saved import read_card
from erkeras.saved.folder import write_card
from helpers.rows import saved, two_rows


@pytest.fixture
def models(tmp_path):
    return two_rows(tmp_path)


def test_rows_are_models_that_differ_by_seed_alone(models):
    first, second = read_rows(models)
    assert [row.defense for row in (first, second)] == ["ER-Classifier", "adversarial training (Madry)"]
    assert [[model.seed for model in row.models] for row in (first, second)] == [[0, 1], [0, 1]]
    assert first.accuracy("pgd") == pytest.approx((37.5 / 40, 37 / 40, 38 / 40))
    assert second.accuracy("clean") == pytest.approx((39 / 40, 39 / 40, 39 / 40))


def test_other_settings_are_another_row(models, tmp_path):
    other = saved(tmp_path / "c0", "madry", 2, broken=[], epochs=9)
    assert [len(row.models) for row in read_rows([*models, other])] == [2, 2, 1]


def test_paired_test_counts_images_that_stand_under_one_row_alone(models):
    """Exact: of 9 discordant pairs 8 on one side, 2 (C(9, 0) + C(9, 1)) / 2^9."""
    first, second = read_rows(models)
    result = compare_rows(first, second, "pgd")
    assert (result.images, result.first_alone, result.second_alone) == (80, 8, 1)
    assert result.p_value == pytest.approx(2 * (1 + 9) / 2**9)
    mirrored = compare_rows(second, first, "pgd")
    assert (mirrored.first_alone, mirrored.second_alone, mirrored.p_value) == (1, 8, pytest.approx(result.p_value))
    assert compare_rows(first, first, "pgd").p_value == compare_rows(first, second, "clean").p_value == 1
    result = compare_rows(first, second, "square")
    assert (result.first_alone, result.second_alone) == (7, 2)


def test_what_cannot_be_compared_is_refused(models, tmp_path):
    with pytest.raises(InputError, match="share the evaluations none"):
        read_rows([*models, saved(tmp_path / "c", "none", 0, broken=[], title="square")])
    with pytest.raises(InputError, match="have an evaluation 'rays'"):
        read_rows(models, "rays")
    with pytest.raises(InputError, match="are of different images"):
        read_rows([*models, saved(tmp_path / "d", "none", 0, broken=[], evaluation_seed=5)])
    with pytest.raises(InputError, match="are of different images"):
        read_rows([*models, saved(tmp_path / "f", "none", 0, broken=[], dataset="npz:digits.npz")])
    only = read_rows([saved(tmp_path / "e", "none", 7, broken=[])])[0]
    with pytest.raises(InputError, match="have no seed in common"):
        compare_rows(only, read_rows(models)[0], "pgd")


@pytest.mark.parametrize("entry", ["job", "training"])
def test_a_model_that_does_not_say_how_it_was_trained_is_refused(models, entry):
    write_card(models[0], dataclasses.replace(read_card(models[0]), **{entry: None}))
    with pytest.raises(InputError, match="does not say how it was trained: give models that erkeras train wrote"):
        read_rows(models)
