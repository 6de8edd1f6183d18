"""An evaluation from Python: run, recorded, killed and resumed, verified, put on the card; and the command's record."""

import dataclasses
import json
import shutil

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers.commands import run
from helpers.interruptions import Killed, KilledAfter

import erkeras
from erkeras.attacks import FGSM, PGD, AttackSettings
from erkeras.data import Split, load_dataset
from erkeras.errors import InputError
from erkeras.evaluation import Evaluation, Record, Sample, Subject, verify_record
from erkeras.saved import read_card
from erkeras.threat import ThreatModel

THREAT = ThreatModel("l_inf", 0.1)
SETTINGS = AttackSettings(("fgsm", "pgd"), steps=2, restarts=1)
#: More than one part of any machine with two processors.
LIMIT = 300
FILES = ("settings.json", "examples.jsonl", "images.npz")


def contents(folder):
    return {name: (folder / name).read_bytes() for name in FILES}


def figures(found):
    """Everything but the seconds."""
    return dataclasses.asdict(found.summary())


def evaluation(model, attacks=SETTINGS, **options):
    return Evaluation(model, attacks, **{"threat": THREAT, "limit": LIMIT, **options})


@pytest.fixture(scope="module")
def straight(saved_model, tmp_path_factory):
    """A record that nothing interrupted, and what its run gave. Not to be written to."""
    made = evaluation(saved_model, record=tmp_path_factory.mktemp("straight") / "record")
    return made, made.run()


@pytest.fixture
def record(straight, tmp_path):
    return shutil.copytree(straight[0].folder, tmp_path / "record")


@pytest.fixture(scope="module")
def in_memory(saved_model):
    return erkeras.load(saved_model).model


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
    assert settings["digest"] == made.subject.digest == read_card(saved_model).files["model.keras"]
    assert {name: settings[name] for name in ("dataset", "split", "limit", "seed")} == {
        "dataset": "digits",
        "split": "test",
        "limit": LIMIT,
        "seed": 0,
    }
    assert settings["threat"] == dataclasses.asdict(THREAT)
    assert settings["asked"] == json.loads(json.dumps(dataclasses.asdict(SETTINGS)))
    assert [(attack["name"], attack["class"]) for attack in settings["attacks"]] == [("fgsm", "FGSM"), ("pgd", "PGD")]
    assert "part" not in settings
    result = json.loads((made.folder / "result.json").read_text())
    assert result["summary"] == json.loads(json.dumps(figures(found)))
    assert set(result["seconds"]) == {"fgsm", "pgd"}


def test_the_command_writes_the_same_bytes(straight, saved_model, tmp_path):
    arguments = ["--attack", "fgsm", "--attack", "pgd", "--steps", "2", "--restarts", "1", "--epsilon", "0.1"]
    result = run("attack", saved_model, *arguments, "--limit", LIMIT, "--record", tmp_path / "record")
    assert result.exit_code == 0, result.output
    assert contents(tmp_path / "record") == contents(straight[0].folder)


def test_killed_and_resumed_it_is_the_same_record(straight, saved_model, tmp_path, heard):
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
    ],
    ids=str,
)
def test_another_question_is_refused_at_once(record, saved_model, changes, message):
    with pytest.raises(InputError, match=f"record was made with {message}: give the same settings, another record, or"):
        evaluation(saved_model, record=record, resume=True, **changes)


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


# How attacks are given.


def test_a_name_is_an_attack_and_pgd_the_default(saved_model):
    assert Evaluation(saved_model).settings == AttackSettings(("pgd",))
    assert evaluation(saved_model, "square").settings == AttackSettings(("square",))


@pytest.mark.parametrize("names", [["fgsm", "square"], ("fgsm", "square")])
def test_names_are_attacks(saved_model, names):
    made = evaluation(saved_model, names)
    assert made.settings == AttackSettings(("fgsm", "square"))
    assert [attack.name for attack in made.attacks] == ["fgsm", "square"]


@pytest.mark.parametrize(
    ("attacks", "message"),
    [
        ("best", "the attack 'best' was asked for: give one of fgsm"),
        (["pgd", "best"], "the attack 'best' was asked for"),
        ([], "the attack none was asked for"),
    ],
)
def test_an_unknown_name_is_refused(saved_model, attacks, message):
    with pytest.raises(InputError, match=message):
        evaluation(saved_model, attacks)


OBJECTS = (FGSM(THREAT), PGD(THREAT, steps=2))


@pytest.mark.parametrize("attacks", [OBJECTS, list(OBJECTS)])
def test_attacks_themselves_have_a_threat_model(saved_model, straight, attacks):
    made = Evaluation(saved_model, attacks, limit=LIMIT)
    assert made.settings is None
    assert made.threat == THREAT
    assert made.attacks == list(OBJECTS)
    assert figures(made.run()) == figures(straight[1])


def test_one_attack_itself_is_enough(saved_model):
    made = Evaluation(saved_model, OBJECTS[0], limit=20)
    assert made.attacks == [OBJECTS[0]]
    assert made.title == "fgsm l_inf 0.1 test"
    assert made.run().names == ("fgsm",)


@pytest.fixture(scope="module")
def of_objects(saved_model, tmp_path_factory):
    """A record of attacks that were given themselves. Not to be written to."""
    folder = tmp_path_factory.mktemp("objects") / "record"
    Evaluation(saved_model, OBJECTS, limit=40, record=folder).run()
    return folder


def test_a_record_of_attacks_themselves_is_resumed_with_the_same_and_verified(saved_model, of_objects, tmp_path):
    record = shutil.copytree(of_objects, tmp_path / "record")
    lines = (record / "examples.jsonl").read_bytes().splitlines(keepends=True)
    (record / "examples.jsonl").write_bytes(b"".join(lines[:25]))
    again = tuple(type(attack).from_config(attack.get_config()) for attack in OBJECTS)
    Evaluation(saved_model, again, limit=40, record=record, resume=True).run()
    assert contents(record) == contents(of_objects)
    assert "asked" not in json.loads((record / "settings.json").read_text())
    assert verify_record(record).holds


@pytest.mark.parametrize(
    "others",
    [
        (FGSM(THREAT), PGD(THREAT, steps=3)),
        (FGSM(THREAT), PGD(THREAT, steps=2, loss="margin")),
        (PGD(THREAT, steps=2), FGSM(THREAT)),
        (FGSM(THREAT),),
    ],
    ids=["steps", "loss", "order", "fewer"],
)
def test_a_record_of_attacks_themselves_is_not_resumed_with_others(saved_model, of_objects, tmp_path, others):
    record = shutil.copytree(of_objects, tmp_path / "record")
    with pytest.raises(InputError, match=r"record was made with attacks .*: give the same settings"):
        Evaluation(saved_model, others, limit=40, record=record, resume=True).run()
    assert contents(record) == contents(of_objects)


def test_a_record_of_attacks_themselves_is_not_resumed_by_names(saved_model, of_objects):
    with pytest.raises(InputError, match="record was made with asked None"):
        evaluation(saved_model, limit=40, record=of_objects, resume=True)


def test_names_and_attacks_together_are_refused(saved_model):
    with pytest.raises(InputError):
        Evaluation(saved_model, ["fgsm", PGD(THREAT, steps=2)])


def test_attacks_of_two_balls_make_a_record_that_holds_or_none(saved_model, tmp_path):
    attacks = [FGSM(ThreatModel("l_inf", 0.01)), PGD(ThreatModel("l_inf", 0.3), steps=3)]
    try:
        Evaluation(saved_model, attacks, limit=40, record=tmp_path / "record").run()
    except InputError:
        return
    assert verify_record(tmp_path / "record").holds


def test_a_threat_beside_attacks_with_their_own_is_refused_or_theirs(saved_model):
    try:
        made = Evaluation(saved_model, OBJECTS, threat=ThreatModel("l_inf", 0.3))
    except InputError:
        return
    assert {attack.threat for attack in made.attacks} == {made.threat}


# How models are given.


@pytest.mark.parametrize("form", ["folder", "text", "keras file", "SavedModel", "folder of SavedModels", "in memory"])
def test_every_form_of_a_model_gives_the_same_figures(saved_model, in_memory, straight, tmp_path, form):
    shutil.copytree(saved_model / "1", tmp_path / "versions" / "1")
    model, kind = {
        "folder": (saved_model, "keras"),
        "text": (str(saved_model), "keras"),
        "keras file": (saved_model / "model.keras", "keras"),
        "SavedModel": (saved_model / "1", "saved_model"),
        "folder of SavedModels": (tmp_path / "versions", "saved_model"),
        "in memory": (in_memory, "object"),
    }[form]
    made = evaluation(model, dataset="digits")
    assert made.subject.kind == kind
    found = made.run()
    assert found.robust_accuracy == straight[1].robust_accuracy
    np.testing.assert_array_equal(found.examples.broken_by, straight[1].examples.broken_by)


def test_a_model_in_memory_is_recorded_and_verified_with_it(in_memory, tmp_path):
    folder = tmp_path / "record"
    evaluation(in_memory, dataset="digits", limit=40, record=folder).run()
    assert json.loads((folder / "settings.json").read_text())["digest"] is None
    assert verify_record(folder, in_memory).holds
    assert evaluation(in_memory, dataset="digits", limit=40, record=folder, resume=True).run().names == ("fgsm", "pgd")


def test_a_function_of_images_is_a_model(in_memory, straight):
    found = evaluation(lambda images: in_memory(images), dataset="digits").run()
    assert figures(found) == figures(straight[1])


def test_a_detector_is_attacked_with_its_model(saved_model, tmp_path):
    settings = AttackSettings(("pgd",), steps=2, restarts=1, with_detector=True)
    made = evaluation(saved_model, settings, limit=40, record=tmp_path / "record")
    found = made.run()
    assert found.names == ("pgd-detector",)
    assert made.title == "pgd with detector l_inf 0.1 test"
    assert verify_record(tmp_path / "record").holds
    saved = erkeras.load(saved_model)
    of_memory = evaluation(saved.detector.outputs, settings, dataset="digits", limit=40).run()
    assert figures(of_memory) == figures(found)


def test_images_that_are_loaded_already_are_taken(saved_model, straight):
    images = load_dataset("digits").test.sample(LIMIT, 0)
    made = evaluation(saved_model, images=images)
    assert made.images is images
    assert figures(made.run()) == figures(straight[1])


def test_what_a_model_does_not_say_has_to_be_given(saved_model, in_memory):
    for model, name in ((saved_model / "model.keras", "model.keras"), (in_memory, "model")):
        with pytest.raises(InputError, match=f"{name} does not say what it was trained on: give --dataset"):
            evaluation(model)
        with pytest.raises(InputError, match=f"no epsilon is known for .*{name}: give --epsilon"):
            Evaluation(model, dataset="digits")


def test_without_a_threat_it_is_the_one_that_the_card_reports(saved_model):
    assert Evaluation(saved_model).threat == ThreatModel("l_inf", 0.15)


def test_images_of_another_size_are_refused(saved_model):
    images = Split(np.zeros((4, 9, 8, 1), np.float32), np.zeros(4, np.int32), np.arange(4))
    with pytest.raises(InputError, match=r"digits has images of 9 x 8 x 1 and .*digits takes 8 x 8 x 1"):
        evaluation(saved_model, images=images)


def test_a_detector_that_is_not_there_is_refused(saved_model):
    settings = AttackSettings(("pgd",), with_detector=True)
    with pytest.raises(InputError, match=r"the detector of .* was asked for, and it has none: leave it out"):
        evaluation(saved_model / "1", settings, dataset="digits")


def test_a_subject_that_is_found_already_is_taken(saved_model):
    subject = Subject.find(saved_model)
    assert evaluation(subject).subject is subject


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


def test_a_card_gets_nothing_before_the_end(copy):
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
    message = "the card was asked for without a folder of ours, or with a record elsewhere: leave one out"
    for model in (saved_model / place, in_memory):
        with pytest.raises(InputError, match=message):
            evaluation(model, dataset="digits", card=True)


def test_a_card_and_a_record_together_are_refused(copy, tmp_path):
    with pytest.raises(InputError, match="or with a record elsewhere: leave one out"):
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
