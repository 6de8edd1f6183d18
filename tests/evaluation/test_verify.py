"""Whoever doubts a record: what holds, every kind of lie, and which model a record is about."""

import json
import shutil

import numpy as np
import pytest

from erkeras.attacks import FGSM, AttackSettings
from erkeras.data import Split
from erkeras.errors import InputError
from erkeras.evaluation import Evaluation, Record, Sample, find_recorded, verify_record
from erkeras.threat import ThreatModel
from helpers.linear_record import change_line, evaluate, make_split, model, settings


@pytest.fixture(scope="module")
def split():
    return make_split()


@pytest.fixture(scope="module")
def made(split, tmp_path_factory):
    """A record of the linear model. Not to be written to."""
    record = Record.create(tmp_path_factory.mktemp("made") / "record", settings(split))
    evaluate(split, record)
    return record.folder


@pytest.fixture
def record(made, tmp_path):
    return Record.open(shutil.copytree(made, tmp_path / "record"))


def verified(record, split):
    return verify_record(record.folder, model, images=split)


def test_verification_gets_the_same_number(record, split):
    found = verified(record, split)
    assert found.holds
    assert found.images == 300
    assert found.recorded == found.recomputed == record.result()["summary"]["robust_accuracy"]
    assert 0 < found.recorded < 0.9
    assert len(found.doubtful) == 0


def test_images_may_come_in_any_order_and_be_more(record, split):
    order = np.random.RandomState(5).permutation(300)
    more = Split(
        np.concatenate([split.pixels[order], split.pixels[:9]]),
        np.concatenate([split.labels[order], split.labels[:9]]),
        np.concatenate([split.indices[order], np.arange(2000, 2009)]),
    )
    assert verified(record, more).holds


LIES = ("stands", "broken", "outside the ball", "outside the pixels", "not misclassified", "wrong when clean")


@pytest.mark.parametrize("lie", LIES)
def test_verification_finds_a_lie(record, split, lie):
    examples = record.read()
    broken = int(np.flatnonzero(examples.broken_by == 0)[0])
    standing = int(np.flatnonzero(examples.broken_by == -1)[0])
    row = standing if lie in ("broken", "wrong when clean") else broken
    if lie in ("stands", "broken", "wrong when clean"):
        words = {"stands": None, "broken": "pgd", "wrong when clean": "clean"}
        change_line(record, row, broken_by=words[lie])
    else:
        images, clean = examples.images, split.images[row]
        images[row] = {
            "not misclassified": clean,
            "outside the ball": np.where(images[row] > 0.5, 1, 0),
            "outside the pixels": np.where(images[row] == images[row].max(), 1.01, images[row]),
        }[lie]
        np.savez(record.folder / "images.npz", images=images)
    found = verified(record, split)
    assert not found.holds
    assert found.doubtful.tolist() == [split.indices[row]]
    assert found.recorded != found.recomputed


def test_two_lies_that_keep_the_number_are_found(record, split):
    broken_by = record.read().broken_by
    broken, standing = (int(np.flatnonzero(broken_by == kind)[0]) for kind in (0, -1))
    change_line(record, broken, broken_by=None)
    change_line(record, standing, broken_by="pgd")
    found = verified(record, split)
    assert found.recorded == found.recomputed
    assert not found.holds
    assert set(found.doubtful) == {split.indices[broken], split.indices[standing]}


def test_a_record_of_other_images_is_refused(record, split):
    (claim,) = verified(record, split.take(np.arange(50))).false_claims
    assert claim == "it names images that the data set does not have"
    other = Split(split.pixels, (split.labels + 1) % 3, split.indices)
    assert "it has other labels than the data set" in verified(record, other).false_claims


def test_a_record_that_is_not_finished_is_refused(record, split):
    path = record.folder / "examples.jsonl"
    lines = path.read_text().splitlines()
    path.write_text("\n".join(lines[:200]) + "\n" + lines[200][:20])
    with pytest.raises(InputError, match=r"holds 200 of 300 examples: finish it with the same command and --resume\.$"):
        verified(record, split)


def test_a_record_without_a_seed_is_attacked_again_by_the_seed_0(record, split):
    """As one that was made by hand: settings.json need not name a seed."""
    path = record.folder / "settings.json"
    known = json.loads(path.read_text())
    del known["seed"]
    path.write_text(json.dumps(known))
    found = verify_record(record.folder, model, images=split, again=100)
    assert found.again == 100
    assert any("attacked again" in claim for claim in found.false_claims)  # it was made by the seed 3


def test_what_is_no_record_is_refused(tmp_path):
    for place in (tmp_path, tmp_path / "missing"):
        for look in (verify_record, find_recorded):
            with pytest.raises(InputError, match="is not the record of an evaluation"):
                look(place, model)


# Which model it is about.


@pytest.fixture(scope="module")
def of_digits(saved_model, tmp_path_factory):
    """A record of the trained model, elsewhere than in its folder. Not to be written to."""
    folder = tmp_path_factory.mktemp("digits") / "record"
    Evaluation(saved_model, "fgsm", limit=30, record=folder).run()
    return folder


def test_a_record_names_its_model(of_digits, saved_model):
    record, subject = find_recorded(of_digits)
    assert record.folder == of_digits
    assert subject.path == saved_model
    assert find_recorded(str(of_digits))[1].path == saved_model


def test_another_place_of_the_same_model_is_taken(of_digits, saved_model, tmp_path):
    copy = shutil.copytree(saved_model, tmp_path / "copy")
    for place in (copy, copy / "model.keras", str(copy)):
        assert find_recorded(of_digits, place)[1].digest == find_recorded(of_digits)[1].digest
    assert verify_record(of_digits, copy).holds


@pytest.mark.parametrize("place", ["1", "other.keras"])
def test_another_model_is_refused(of_digits, saved_model, purified_model, tmp_path, place):
    copy = shutil.copytree(saved_model, tmp_path / "copy")
    shutil.copy(purified_model / "model.keras", copy / "other.keras")
    message = f"{place} is not the model that .*record is about, or not the same version of it: give that one"
    for look in (find_recorded, verify_record):
        with pytest.raises(InputError, match=message):
            look(of_digits, copy / place)


def test_a_model_that_is_gone_has_to_be_given(of_digits, saved_model, tmp_path):
    record = shutil.copytree(of_digits, tmp_path / "record")
    content = json.loads((record / "settings.json").read_text())
    (record / "settings.json").write_text(json.dumps({**content, "model": str(tmp_path / "gone")}))
    with pytest.raises(InputError, match="gone does not exist"):
        find_recorded(record)
    assert find_recorded(record, saved_model)[1].path == saved_model


def test_a_record_that_a_card_keeps_goes_where_its_model_goes(saved_model, tmp_path, monkeypatch):
    copy = shutil.copytree(saved_model, tmp_path / "before")
    made = Evaluation(copy, "fgsm", limit=20, card=True)
    made.run()
    moved = copy.rename(tmp_path / "after")
    folder = moved / made.folder.relative_to(copy)
    assert find_recorded(folder)[1].path == moved
    assert verify_record(folder).holds
    monkeypatch.chdir(folder.parent)
    assert verify_record(folder.name).holds


def test_a_damaged_model_is_refused_before_anything_is_verified(of_digits, saved_model, tmp_path):
    copy = shutil.copytree(saved_model, tmp_path / "copy")
    (copy / "detector.npz").write_bytes(b"")
    with pytest.raises(InputError, match=r"detector\.npz is not as it was written"):
        find_recorded(of_digits, copy)


def test_modules_of_the_users_own_are_handed_on(of_digits):
    assert find_recorded(of_digits, modules=["json", "math"])[1].modules == ("json", "math")


@pytest.mark.parametrize("part", ["I", "II"])
def test_a_record_of_a_part_is_verified_on_the_whole_split(saved_model, tmp_path, part):
    folder = tmp_path / "record"
    made = Evaluation(saved_model, "fgsm", limit=20, seed=4, part=part, record=folder)
    made.run()
    assert json.loads((folder / "settings.json").read_text())["part"] == part
    np.testing.assert_array_equal(made.images.indices, Sample("digits", limit=20, seed=4, part=part).load().indices)
    assert verify_record(folder).holds


def test_a_record_of_validation_images_is_verified_on_them(saved_model, tmp_path):
    Evaluation(saved_model, "fgsm", limit=20, split="validation", record=tmp_path / "record").run()
    found = verify_record(tmp_path / "record")
    assert found.holds
    assert found.split == "validation"


def test_the_ball_is_that_of_the_record(saved_model, tmp_path):
    """The same images in a smaller ball broke nothing."""
    folder = tmp_path / "record"
    Evaluation(saved_model, FGSM(ThreatModel("l_inf", 0.3)), limit=40, record=folder).run()
    assert verify_record(folder).holds
    content = json.loads((folder / "settings.json").read_text())
    content["attacks"][0]["config"] = FGSM(ThreatModel("l_inf", 0.2)).get_config()
    (folder / "settings.json").write_text(json.dumps(content))
    assert len(verify_record(folder).doubtful) > 0


def test_a_record_of_labels_alone_is_verified(saved_model, tmp_path):
    Evaluation(saved_model, AttackSettings(("rays",), queries=30), limit=20, record=tmp_path / "record").run()
    assert verify_record(tmp_path / "record").holds
