"""An evaluation from Python: run, recorded, killed and resumed, verified, put on the card; and the command's record."""

import dataclasses
import json
import shutil

import keras
import numpy as np
import pytest
import tensorflow as tf

import erkeras
from erkeras.attacks import FGSM, PGD, AttackSettings, Victim
from erkeras.data import load_dataset
from erkeras.errors import InputError, OutOfMemoryError
from erkeras.evaluation import Record, Sample, verify_record
from erkeras.saved import read_card
from erkeras.threat import ThreatModel
from helpers.commands import run
from helpers.evaluations import LIMIT, SETTINGS, THREAT, contents, evaluation, figures
from helpers.interruptions import Killed, KilledAfter


@pytest.fixture
def record(straight, tmp_path):
    return shutil.copytree(straight[0].folder, tmp_path / "record")


@pytest.fixture
def several_parts(monkeypatch):
    monkeypatch.setattr("erkeras.evaluation.attacker._MOST_TIMES", 1)


@pytest.fixture
def copy(saved_model, tmp_path):
    return shutil.copytree(saved_model, tmp_path / "model")


def test_it_is_checked_before_anything_is_loaded(saved_model):
    made = evaluation(saved_model)
    assert made.subject.path == saved_model
    assert made.settings == SETTINGS
    assert made.sample == Sample("digits", "test", LIMIT, 0)
    assert made.threat == THREAT
    assert made.folder is None
    assert [attack.name for attack in made.attacks] == ["fgsm", "pgd"]
    assert {attack.threat for attack in made.attacks} == {THREAT}
    assert not {"images", "victim"} & set(vars(made))


def test_its_attacks_get_the_images_that_still_stand(straight):
    made, found = straight
    summary = found.summary()
    assert found.names == ("fgsm", "pgd")
    assert summary.images == len(made.images) == LIMIT
    assert summary.clean_accuracy >= summary.attacks["fgsm"] >= summary.attacks["pgd"] == summary.robust_accuracy > 0
    assert summary.robust_accuracy < summary.clean_accuracy
    np.testing.assert_array_equal(made.images.indices, load_dataset("digits").test.sample(LIMIT, 0).indices)


def test_a_record_does_not_change_the_figures(straight, saved_model):
    assert figures(evaluation(saved_model).run()) == figures(straight[1])


def test_a_record_says_what_was_asked(straight, saved_model):
    made, found = straight
    settings = json.loads((made.folder / "settings.json").read_text())
    assert settings["model"] == str(saved_model)
    assert settings["digest"] == made.subject.digest
    assert made.subject.is_named(read_card(saved_model).files["model.keras"])  # as older records name it
    assert {name: settings[name] for name in ("dataset", "split", "limit", "seed")} == {
        "dataset": "digits",
        "split": "test",
        "limit": LIMIT,
        "seed": 0,
    }
    assert settings["threat"] == dataclasses.asdict(THREAT)
    assert settings["asked"] == json.loads(json.dumps(dataclasses.asdict(SETTINGS)))
    assert [(attack["name"], attack["class"]) for attack in settings["attacks"]] == [("fgsm", "FGSM"), ("pgd", "PGD")]
    assert settings["internal_batch"] == made.internal_batch == 128
    assert "part" not in settings
    result = json.loads((made.folder / "result.json").read_text())
    assert result["summary"] == json.loads(json.dumps(figures(found)))
    assert set(result["seconds"]) == {"fgsm", "pgd"}


def test_the_command_writes_the_same_bytes(straight, saved_model, tmp_path):
    arguments = ["--attack", "fgsm", "--attack", "pgd", "--steps", "2", "--restarts", "1", "--epsilon", "0.1"]
    result = run("attack", saved_model, *arguments, "--limit", LIMIT, "--record", tmp_path / "record")
    assert result.exit_code == 0, result.output
    assert contents(tmp_path / "record") == contents(straight[0].folder)


def test_killed_and_resumed_it_is_the_same_record(straight, saved_model, tmp_path, heard, several_parts):
    folder = tmp_path / "record"
    with pytest.raises(Killed):
        evaluation(saved_model, record=folder).run(KilledAfter(1))
    known = len((folder / "examples.jsonl").read_text().splitlines())
    assert 0 < known < LIMIT
    again = evaluation(saved_model, record=folder, resume=True)
    assert figures(again.run(heard, "going on")) == figures(straight[1])
    assert contents(folder) == contents(straight[0].folder)
    assert heard.stages == [("going on", LIMIT * sum(attack.work for attack in again.attacks))]
    assert next(units for units in heard.units if units) == known * sum(attack.work for attack in again.attacks)


def test_killed_before_the_first_part_it_leaves_no_record(saved_model, tmp_path):
    class Stop(erkeras.Progress):
        def stage(self, name, total):
            raise Killed

    folder = tmp_path / "record"
    with pytest.raises(Killed):
        evaluation(saved_model, record=folder).run(Stop())
    assert list(tmp_path.iterdir()) == []


def test_where_memory_runs_out_the_record_keeps_what_it_has(straight, saved_model, tmp_path, several_parts):
    class Full(KilledAfter):
        def advance(self, units, note=""):
            try:
                super().advance(units, note)
            except Killed:
                raise tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor") from None

    folder = tmp_path / "record"
    with pytest.raises(OutOfMemoryError, match=r"^the memory ran out in attacking: give a smaller internal batch; "):
        evaluation(saved_model, record=folder).run(Full(1))
    assert folder.exists()
    assert figures(evaluation(saved_model, record=folder, resume=True).run()) == figures(straight[1])
    assert contents(folder) == contents(straight[0].folder)


def test_a_whole_record_is_read_and_nothing_attacked(record, straight, saved_model, monkeypatch):
    def attacked(*_, **__):
        raise AssertionError("it was attacked again")

    for kind in (FGSM, PGD):
        monkeypatch.setattr(kind, "__call__", attacked)
    assert figures(evaluation(saved_model, record=record, resume=True).run()) == figures(straight[1])
    assert contents(record) == contents(straight[0].folder)


def test_resume_without_a_record_begins_one(straight, saved_model, tmp_path):
    made = evaluation(saved_model, record=str(tmp_path / "record"), resume=True)
    made.run()
    assert contents(tmp_path / "record") == contents(straight[0].folder)


def test_its_record_is_verified(straight):
    made, found = straight
    verified = verify_record(made.folder)
    assert verified.holds
    assert verified.recomputed == verified.recorded == found.robust_accuracy
    assert (verified.images, verified.dataset, verified.split) == (LIMIT, "digits", "test")


def test_a_record_that_is_there_is_not_written_over(record, straight, saved_model):
    with pytest.raises(InputError, match=r"record exists: give another record, delete it, or resume it\.$"):
        evaluation(saved_model, record=record)
    assert contents(record) == contents(straight[0].folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seed": 1}, r"seed 0 \(now 1\)"),
        ({"limit": 299}, r"limit 300 \(now 299\)"),
        ({"limit": None}, r"limit 300 \(now None\)"),
        ({"split": "validation"}, r"split test \(now validation\)"),
        ({"part": "II"}, r"part None \(now II\)"),
        ({"threat": ThreatModel("l_inf", 0.2)}, r"threat .*\(now .*\)"),
        ({"threat": ThreatModel("l_inf", 0.1, 0.0, 0.9)}, r"threat .*\(now .*\)"),
        ({"attacks": AttackSettings(("fgsm", "pgd"), steps=3, restarts=1)}, r"asked .*\(now .*\)"),
        ({"attacks": "pgd"}, r"asked .*\(now .*\)"),
        ({"internal_batch": 64}, r"internal_batch 128 \(now 64\)"),
    ],
    ids=str,
)
def test_another_question_is_refused_at_once(record, saved_model, changes, message):
    with pytest.raises(InputError, match=f"record was made with {message}: give the same settings, another record, or"):
        evaluation(saved_model, record=record, resume=True, **changes)


def test_a_record_that_names_no_internal_batch_had_128(record, straight, saved_model):
    settings = json.loads((record / "settings.json").read_text())
    del settings["internal_batch"]
    (record / "settings.json").write_text(json.dumps(settings))
    with pytest.raises(InputError, match=r"internal_batch 128 \(now 64\)"):
        evaluation(saved_model, record=record, resume=True, internal_batch=64)
    for asked in (None, 128):
        made = evaluation(saved_model, record=record, resume=True, internal_batch=asked)
        assert figures(made.run()) == figures(straight[1])


def test_an_internal_batch_of_ones_own_is_kept_and_verified_with(saved_model, tmp_path, monkeypatch):
    seen = []
    outputs_for = Victim.outputs_for

    def watched(victim, images, knowledge="labels", internal_batch=None):
        seen.append(internal_batch)
        return outputs_for(victim, images, knowledge, internal_batch)

    monkeypatch.setattr(Victim, "outputs_for", watched)
    made = evaluation(saved_model, "fgsm", record=tmp_path / "record", internal_batch=48, limit=60)
    made.run()
    assert Record.open(made.folder).internal_batch == 48
    assert verify_record(made.folder, again=20).holds
    again = evaluation(saved_model, "fgsm", record=made.folder, resume=True, limit=60)
    assert again.internal_batch == 48
    assert set(seen) == {48}


@pytest.mark.parametrize("internal_batch", [0, 2.5, "64"])
def test_an_internal_batch_that_holds_no_image_is_refused(saved_model, internal_batch):
    with pytest.raises(InputError, match="internal_batch"):
        evaluation(saved_model, internal_batch=internal_batch)


def test_another_model_is_refused_at_once(record, copy):
    model = keras.saving.load_model(copy / "model.keras")
    model.encoder.layers[-1].bias.assign_add(model.encoder.layers[-1].bias + 1)
    model.save(copy / "other.keras")
    with pytest.raises(InputError, match="record was made with digest "):
        evaluation(copy / "other.keras", dataset="digits", record=record, resume=True)


def test_the_same_model_elsewhere_goes_on(record, straight, copy):
    """It is known by its digest, not by its path."""
    found = evaluation(copy, record=record, resume=True).run()
    assert figures(found) == figures(straight[1])
    assert contents(record) == contents(straight[0].folder)


def test_what_is_no_record_is_not_gone_on_with(saved_model, tmp_path):
    with pytest.raises(InputError, match="is not the record of an evaluation"):
        evaluation(saved_model, record=tmp_path, resume=True)


# The card.


def test_a_card_takes_the_figures_and_keeps_the_record(copy):
    made = evaluation(copy, limit=40, card=True)
    assert made.folder == copy / "records" / "fgsm-pgd-l_inf-0.1-test"
    found = made.run()
    card = read_card(copy)
    (entry,) = card.evaluations
    assert entry == made.card_entry(found)
    assert entry.summary == found.summary()
    assert (entry.title, entry.threat) == ("fgsm pgd l_inf 0.1 test", THREAT)
    assert (entry.dataset, entry.split, entry.seed) == ("digits", "test", 0)
    assert copy / entry.record == made.folder
    assert f"### {entry.title}" in (copy / "README.md").read_text()
    assert verify_record(made.folder).holds
    with pytest.raises(InputError, match="exists: give another record, delete it, or resume it"):
        evaluation(copy, limit=40, card=True)
    again = evaluation(copy, limit=40, card=True, resume=True)
    assert figures(again.run()) == figures(found)
    assert read_card(copy).evaluations == card.evaluations


def test_a_card_gets_nothing_before_the_end(copy, several_parts):
    with pytest.raises(Killed):
        evaluation(copy, card=True).run(KilledAfter(1))
    assert read_card(copy).evaluations == ()
    evaluation(copy, card=True, resume=True).run()
    assert read_card(copy).evaluations[0].summary.images == LIMIT


def test_a_record_elsewhere_leaves_the_card(straight, saved_model):
    assert read_card(saved_model).evaluations == ()


def test_the_titles_of_different_evaluations_are_different(saved_model):
    def title(attacks, **options):
        return evaluation(saved_model, attacks, **options).title

    with_detector = AttackSettings(("pgd",), with_detector=True)
    assert title("pgd") == "pgd l_inf 0.1 test"
    assert title(["pgd", "fgsm", "pgd"]) == "pgd fgsm l_inf 0.1 test"
    assert title("autoattack") == "autoattack standard l_inf 0.1 test"
    assert title(AttackSettings(("autoattack",), version="plus")) == "autoattack plus l_inf 0.1 test"
    assert title(with_detector) == "pgd with detector l_inf 0.1 test"
    assert title("pgd", split="validation", threat=ThreatModel("l2", 1.5)) == "pgd l2 1.5 validation"


@pytest.mark.parametrize("place", ["model.keras", "1"])
def test_a_card_asks_for_a_folder_of_ours(saved_model, in_memory, place):
    message = "the card was asked for without a folder that erkeras wrote, or together with a record: leave one out"
    for model in (saved_model / place, in_memory):
        with pytest.raises(InputError, match=message):
            evaluation(model, dataset="digits", card=True)


def test_a_card_and_a_record_together_are_refused(copy, tmp_path):
    with pytest.raises(InputError, match="or together with a record: leave one out"):
        evaluation(copy, card=True, record=tmp_path / "record")
    assert not (copy / "records").exists()


def test_a_report_has_the_figures_and_every_image(straight, saved_model):
    made, found = straight
    report = json.loads(json.dumps(made.report(found)))
    assert (report["model"], report["dataset"], report["split"], report["seed"]) == (
        str(saved_model),
        "digits",
        "test",
        0,
    )
    for name, value in json.loads(json.dumps(figures(found))).items():
        assert report[name] == value
    assert set(report["settings"]) == set(report["seconds"]) == {"fgsm", "pgd"}
    lines = [json.loads(line) for line in (made.folder / "examples.jsonl").read_text().splitlines()]
    assert report["examples"] == lines


# A purifier.


def test_a_naive_attack_is_of_the_classifier_behind_a_purifier(purified_model, saved_model, tmp_path):
    made = evaluation(purified_model, AttackSettings(("pgd",), steps=2, restarts=1), limit=8)
    found = made.run_naively()
    assert "made for another model" in found.warnings[-1]
    model = made.victim
    attacked = made.attacks[0](
        model.classifier, made.images.images, made.images.labels, indices=made.images.indices
    ).images
    np.testing.assert_allclose(found.examples.images, attacked)
    np.testing.assert_array_equal(found.examples.predictions, np.argmax(model(tf.constant(attacked)), axis=1))
    for refused in (evaluation(saved_model), evaluation(purified_model, record=tmp_path / "record")):
        with pytest.raises(InputError, match="a naive attack was asked for without a model of"):
            refused.run_naively()


def test_a_record_knows_its_attacks(straight):
    assert Record.open(straight[0].folder).names == ["fgsm", "pgd"]
