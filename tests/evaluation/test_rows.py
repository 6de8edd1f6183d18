import numpy as np
import pytest
from click.testing import CliRunner
from erkeras.cli import main

from erkeras.errors import InputError
from erkeras.evaluation import Examples, Record, compare_rows, read_rows
from erkeras.evaluation.examples import STANDING, WRONG_WHEN_CLEAN
from erkeras.recipes import Job, Recipe
from erkeras.saved import Card, DatasetEntry, EvaluationEntry, Summary, TrainingEntry
from erkeras.saved.folder import write_card
from erkeras.threat import ThreatModel

N = 40


def saved(folder, defense, seed, broken, later=(), wrong=(), title="pgd l_inf 0.1 test", evaluation_seed=0, epochs=3,
          dataset="digits"):  # fmt: skip
    """A folder with the card and the record of a model under which these images do not stand."""
    folder.mkdir()
    broken_by = np.full(N, STANDING, np.int32)
    broken_by[list(broken)], broken_by[list(later)], broken_by[list(wrong)] = 0, 1, WRONG_WHEN_CLEAN
    order = np.random.default_rng(seed).permutation(N)  # images are known by their indices
    zeros = np.zeros(N, np.int32)
    counts = np.ones((N, 2), np.int64)
    record = Record.create(
        folder / "record",
        {"images": N, "image_shape": [2, 2, 1], "attacks": [{"name": "pgd"}, {"name": "square"}], "seed": 0},
    )
    images = np.zeros((N, 2, 2, 1), np.float32)
    examples = Examples(order, zeros, zeros, broken_by[order], zeros, zeros.astype(np.float32), counts, counts, images)
    record.append(examples, [1.0, 1.0])
    standing = float(np.mean(broken_by == STANDING))
    summary = Summary(
        images=N,
        outputs="logits",
        clean_accuracy=1 - len(wrong) / N,
        attacks={"pgd": standing + len(later) / N, "square": standing},
        robust_accuracy=standing,
        mean_boundary_distance=None,
        forward_passes={},
        backward_passes={},
    )
    recipe = Recipe("digits", 16, epochs, 64, 0.15, defense=defense, coefficient=0.1)
    card = Card(
        name=folder.name,
        dataset=DatasetEntry((2, 2, 1), ("0", "1")),
        versions={},
        job=Job("digits", recipe, seed),
        training=TrainingEntry(60.0 * (seed + 1), {}),
        evaluations=(
            EvaluationEntry(title, dataset, "test", evaluation_seed, ThreatModel("l_inf", 0.1), summary, "record"),
        ),
    )
    write_card(folder, card)
    return folder


@pytest.fixture
def models(tmp_path):
    """Eight images stand up to PGD under the first row alone, one under the second, over two seeds; Square breaks one
    of the eight, and another."""
    return [
        saved(tmp_path / "a0", "er-classifier", 0, broken=[0], later=[1, 20], wrong=[39]),
        saved(tmp_path / "b0", "madry", 0, broken=[0, 1, 2, 3, 4], wrong=[39]),
        saved(tmp_path / "b1", "madry", 1, broken=[0, 1, 2, 3, 4], wrong=[38]),
        saved(tmp_path / "a1", "er-classifier", 1, broken=[0, 7], wrong=[38]),
    ]


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


def test_the_command_shows_them(models):
    names = [str(folder) for folder in models]
    result = CliRunner().invoke(main, ["table", *names, "--pair", names[0], names[1]], terminal_width=200)
    assert result.exit_code == 0, result.output
    output = " ".join(result.output.split())
    assert all(part in output for part in ("ER-Classifier", "93.8%", "(92.5"))
    assert "80 pairs of an image and a seed" in output
    assert "│ exact McNemar p │ 1 │ 0.039 │ 0.18 │" in output
    result = CliRunner().invoke(main, ["table", *names, "--pair", names[0], "elsewhere"])
    assert result.exit_code == 2
    assert "not among the models" in result.output
