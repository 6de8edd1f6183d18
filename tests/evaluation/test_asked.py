"""What an evaluation is asked from Python: attacks by name or themselves, models in every form, images."""

import json
import shutil

import numpy as np
import pytest

import erkeras
from erkeras.attacks import FGSM, PGD, AttackSettings
from erkeras.data import Split, load_dataset
from erkeras.errors import InputError
from erkeras.evaluation import Evaluation, Subject, verify_record
from erkeras.threat import ThreatModel
from helpers.evaluations import LIMIT, THREAT, contents, evaluation, figures

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


def test_attacks_of_two_balls_are_refused(saved_model, tmp_path):
    attacks = [FGSM(ThreatModel("l_inf", 0.01)), PGD(ThreatModel("l_inf", 0.3), steps=3)]
    with pytest.raises(InputError, match="have different threat models"):
        Evaluation(saved_model, attacks, limit=40, record=tmp_path / "record")
    assert not (tmp_path / "record").exists()


def test_a_threat_beside_attacks_with_another_one_is_refused(saved_model):
    with pytest.raises(InputError, match="or another one than threat"):
        Evaluation(saved_model, OBJECTS, threat=ThreatModel("l_inf", 0.3))
    assert Evaluation(saved_model, OBJECTS, threat=THREAT).threat == THREAT


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
