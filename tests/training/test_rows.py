"""The paper's rows, trained and attacked; what is done is not done again."""

import json

import pytest

from erkeras.evaluation import read_rows, verify_record
from erkeras.recipes import DEFENSES
from erkeras.saved import read_card
from erkeras.training import PAIRS, ROWS, train_rows

ASKED = ("digits", ("er-classifier", "madry"), (0,), 1, ("fgsm",))


def times(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*")}


def test_each_row_is_a_model_of_its_own(trained_rows):
    folder, models, _ = trained_rows
    assert models == [folder / "er-classifier-0", folder / "madry-0"]
    assert sorted(path.name for path in folder.iterdir()) == ["er-classifier-0", "madry-0"]
    for model, defense in zip(models, ASKED[1], strict=True):
        job = read_card(model).job
        assert (job.dataset, job.recipe.defense, job.recipe.epochs) == ("digits", defense, 1)
        assert (job.seed, job.restarts, job.deterministic) == (0, 1, True)
        assert job.command == (
            f"erkeras train --dataset digits --defense {defense} --seed 0 --restarts 1 --epochs 1 --output {model}"
        )


def test_each_is_attacked_on_the_same_images_and_its_card_says_so(trained_rows):
    _, models, _ = trained_rows
    entries = [read_card(model).evaluations for model in models]
    for model, (entry,) in zip(models, entries, strict=True):
        assert entry.title == "fgsm l_inf 0.15 test"
        assert (entry.seed, entry.summary.images) == (0, 360)
        assert verify_record(model / entry.record).holds
    settings = [
        json.loads((model / "records" / "fgsm-l_inf-0.15-test" / "settings.json").read_text()) for model in models
    ]
    assert settings[0]["limit"] == settings[1]["limit"] == 1000
    assert [row.defense for row in read_rows(models)] == ["ER-Classifier", "adversarial training (Madry)"]


def test_progress_hears_of_every_step(trained_rows):
    _, _, stages = trained_rows
    of_one = ["training", "attacking", "attacking validation", "fitting detector"]
    assert stages == [*of_one, "attacking er-classifier-0", *of_one, "attacking madry-0"]


def test_again_it_does_nothing(trained_rows, heard):
    folder, models, _ = trained_rows
    weights = {
        path: stamp for path, stamp in times(folder).items() if path.suffix in (".keras", ".npz", ".pb", ".jsonl")
    }
    assert train_rows(folder, *ASKED, heard) == models
    after = times(folder)
    assert {path: after[path] for path in weights} == weights
    assert sum(heard.units) == 2 * 360  # the records, read
    assert all(name.startswith("attacking ") for name, _ in heard.stages)


def test_another_question_of_the_same_folder_is_refused(trained_rows):
    folder, _, _ = trained_rows
    with pytest.raises(ValueError, match=r"er-classifier-0 was started with epochs 1 \(now 2\)"):
        train_rows(folder, "digits", ("er-classifier",), (0,), 2, ("fgsm",))


def test_the_rows_are_those_of_table_1_that_have_no_purifier():
    assert set(ROWS) == set(DEFENSES) - {"defense-gan"}
    assert len(ROWS) == 9


def test_pairs_differ_by_the_regularizer_alone():
    for regularized, plain in PAIRS:
        assert {**DEFENSES[regularized], "coefficient": 0.0} == DEFENSES[plain]
