"""What a report is made of: records by the card and by the user, curves, and what is refused."""

import dataclasses
import json
import shutil

import pytest

from erkeras.errors import InputError
from erkeras.report import read_sources
from erkeras.saved import MODEL, fingerprint
from helpers.reports import examples_of, model_of, record_of, summary_of


def curve_file(path, *models, **changes):
    digests = {str(model): fingerprint(model / MODEL) for model in models}
    found = {
        "epsilons": [0, 0.1], "attacks": ["pgd"], "accuracies": {name: [1.0, 0.5] for name in digests},
        "norm": "l_inf", "dataset": "digits", "images": 20, "seed": 0, "with_detector": False, "digests": digests,
        **changes,
    }  # fmt: skip
    path.write_text(json.dumps(found))
    return path


def other_record(folder, model, **changes):
    examples, _ = examples_of(attacks=1)
    summary = summary_of(examples, ("pgd",))
    return record_of(folder, fingerprint(model / MODEL), examples, ("pgd",), summary, **changes).folder


def test_a_card_brings_its_evaluations_its_records_and_what_training_reports(tmp_path):
    model = model_of(tmp_path / "mine")
    (found,) = read_sources([model])
    recorded, trained = found.measured
    assert recorded.title == "apgd-ce square l_inf 0.2 test"
    assert len(recorded.examples) == 60
    assert recorded.answers.scores.shape == (60,)
    assert found.training is trained
    assert (trained.folder, trained.examples, trained.title) == (None, None, "fgsm, pgd, by erkeras train")
    assert found.name == "mine"


def test_a_record_that_is_not_there_leaves_its_figures(tmp_path):
    model = model_of(tmp_path / "mine")
    shutil.rmtree(model / "records")
    (found,) = read_sources([model])
    assert (found.measured[0].record, found.measured[0].examples) == (None, None)
    assert found.measured[0].summary.robust_accuracy == pytest.approx(51 / 60)


def test_a_record_elsewhere_goes_to_the_model_that_it_is_about(tmp_path):
    models = [model_of(tmp_path / name, weights=name.encode()) for name in ("a", "b")]
    asked = {"attacks": ["autoattack"], "version": None, "with_detector": False}
    record = other_record(tmp_path / "elsewhere", models[1], asked=asked)
    first, second = read_sources(models, [record])
    assert len(first.measured) == 2
    assert second.measured[-1].title == "autoattack standard l_inf 0.2 test"
    assert second.measured[-1].summary.robust_accuracy == second.measured[0].summary.robust_accuracy
    plain = other_record(tmp_path / "plain", models[0])
    assert read_sources(models, [plain])[0].measured[-1].title == "pgd l_inf 0.2 test"


def test_a_record_that_the_card_names_is_there_once(tmp_path):
    model = model_of(tmp_path / "mine")
    (found,) = read_sources([model], [model / "records" / "apgd-ce-square-l_inf-0.2-test"])
    assert len(found.measured) == 2


def test_a_curve_goes_to_its_models(tmp_path):
    models = [model_of(tmp_path / name, weights=name.encode()) for name in ("a", "b", "c")]
    curve = curve_file(tmp_path / "curve.json", *models[:2])
    first, second, third = read_sources(models, curves=[curve])
    assert [list(found.curves[0].accuracies.values()) for found in (first, second)] == [[(1.0, 0.5)], [(1.0, 0.5)]]
    assert third.curves == ()


def test_models_of_one_name_are_told_apart_by_their_folders(tmp_path):
    models = [model_of(tmp_path / name / "mine") for name in ("a", "b")]
    assert [found.name for found in read_sources(models)] == [str(model) for model in models]


def refused(match, *arguments, **options):
    with pytest.raises(InputError, match=match) as error:
        read_sources(*arguments, **options)
    assert str(error.value).endswith(".")


def test_what_is_no_model_is_refused(tmp_path):
    refused("missing does not exist", [tmp_path / "missing"])
    (tmp_path / "empty").mkdir()
    refused("empty has no card.json", [tmp_path / "empty"])
    (tmp_path / "model.keras").write_bytes(b"")
    refused("model.keras is a file: give the folder", [tmp_path / "model.keras"])
    model = model_of(tmp_path / "mine")
    refused("a model was given twice", [model, tmp_path / "." / "mine"])
    (model / "card.json").write_text("{")
    refused("is not a model card", [model])


def test_a_card_without_an_evaluation_is_refused_but_for_a_record_elsewhere(tmp_path):
    from erkeras.saved import read_card
    from erkeras.saved.folder import write_card

    model = model_of(tmp_path / "mine")
    write_card(model, dataclasses.replace(read_card(model), evaluation=None, evaluations=()))
    refused(f"the card of {model} has no evaluation: attack it first, with erkeras attack {model} --card", [model])
    record = other_record(tmp_path / "elsewhere", model)
    assert [found.title for found in read_sources([model], [record])[0].measured] == ["pgd l_inf 0.2 test"]


def test_records_of_other_models_are_refused(tmp_path):
    one, other = (model_of(tmp_path / name, weights=name.encode()) for name in ("one", "other"))
    refused("elsewhere is a record of none of the models", [one], [other_record(tmp_path / "elsewhere", other)])
    shutil.rmtree(one / "records")
    shutil.copytree(other / "records", one / "records")
    refused("is a record of another model than", [one])


def test_records_that_cannot_be_read_are_refused(tmp_path):
    model = model_of(tmp_path / "mine")
    place = model / "records" / "apgd-ce-square-l_inf-0.2-test"
    refused("is not the record of an evaluation", [model], [tmp_path])
    lines = (place / "examples.jsonl").read_text().splitlines(keepends=True)
    (place / "examples.jsonl").write_text("".join(lines[:-1]))
    refused("holds 59 of 60 examples", [model])
    (place / "examples.jsonl").write_text("".join(["no JSON\n", *lines[1:]]))
    refused("line 1", [model])
    (place / "examples.jsonl").write_text("".join(lines))
    (place / "answers.npz").write_bytes(b"no archive")
    refused("answers.npz is not an .npz file", [model])
    (place / "settings.json").write_text("[]")
    refused("settings.json cannot be read", [model])


def test_a_card_that_says_otherwise_than_its_record_is_refused(tmp_path):
    model = model_of(tmp_path / "mine")
    card = json.loads((model / "card.json").read_text())
    card["evaluations"][0]["summary"]["robust_accuracy"] += 0.01
    (model / "card.json").write_text(json.dumps(card))
    refused("has other figures in its examples than in its result or its card: erkeras verify", [model])


def test_a_record_that_is_not_finished_is_refused(tmp_path):
    model = model_of(tmp_path / "mine")
    record = other_record(tmp_path / "elsewhere", model)
    (record / "result.json").write_text('{"seconds": {"pgd": 1.0}}')
    refused("elsewhere is not finished", [model], [record])
    (record / "result.json").write_text('{"summary": {"images": "many"}}')
    refused("elsewhere does not say what was measured", [model], [record])
    record = other_record(tmp_path / "no-threat", model)
    settings = json.loads((record / "settings.json").read_text())
    settings["attacks"][0]["config"], settings["threat"] = {}, None
    (record / "settings.json").write_text(json.dumps(settings))
    refused("no-threat does not say what was measured", [model], [record])


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"epsilons": [0.1, 0.1]}, "is no curve"),
        ({"epsilons": []}, "is no curve"),
        ({"epsilons": [0, float("inf")]}, "is no curve"),
        ({"accuracies": {"other": [1.0, 0.5]}}, "is no curve"),
        ({"images": None}, "is no curve"),
        ({"seed": float("inf")}, "is no curve"),
    ],
)
def test_curves_that_are_none_are_refused(tmp_path, changes, match):
    model = model_of(tmp_path / "mine")
    refused(match, [model], curves=[curve_file(tmp_path / "curve.json", model, **changes)])


def test_curves_of_other_models_and_older_ones_are_refused(tmp_path):
    one, other = (model_of(tmp_path / name, weights=name.encode()) for name in ("one", "other"))
    refused("curve.json is of none of the models", [one], curves=[curve_file(tmp_path / "curve.json", other)])
    path = tmp_path / "older.json"
    path.write_text('{"epsilons": [0], "attacks": ["pgd"], "accuracies": {"one": [1.0]}}')
    refused("does not say of which models it is: draw the curve again", [one], curves=[path])
    refused("missing.json cannot be read", [one], curves=[tmp_path / "missing.json"])
    path.write_text("[" * 100_000)
    refused("is no curve", [one], curves=[path])
    path.write_text("[]")
    refused("is no curve", [one], curves=[path])


@pytest.mark.parametrize(
    "changes",
    [{"images": 0}, {"clean_accuracy": 1.5}, {"robust_accuracy": 0.9}, {"robust_accuracy": -0.5}, {"attacks": {}}],
)
def test_figures_that_no_evaluation_gives_are_refused(tmp_path, changes):
    model = model_of(tmp_path / "mine")
    card = json.loads((model / "card.json").read_text())
    card["evaluation"]["summary"].update(changes)
    (model / "card.json").write_text(json.dumps(card))
    refused("images and accuracies that no evaluation gives", [model])
