"""Records: written part by part, read whole, gone on with."""

import dataclasses
import json
import os

import numpy as np
import pytest

from erkeras.errors import InputError
from erkeras.evaluation import Record, evaluate_robustness
from helpers.interruptions import Killed, KilledAfter
from helpers.linear_record import ATTACKS, evaluate, make_split, model, settings


@pytest.fixture(scope="module")
def split():
    return make_split()


def contents(folder):
    return {name: (folder / name).read_bytes() for name in ("settings.json", "examples.jsonl", "images.npz")}


def test_a_record_holds_every_example(split, tmp_path):
    record = Record.create(tmp_path / "record", settings(split))
    found = evaluate(split, record)
    plain = evaluate_robustness(model, split, ATTACKS, seed=3)
    read = Record.open(tmp_path / "record").read()
    for name, value in vars(plain.examples).items():
        np.testing.assert_array_equal(getattr(read, name), value, err_msg=name)
        np.testing.assert_array_equal(getattr(found.examples, name), value, err_msg=name)
    lines = [json.loads(line) for line in (tmp_path / "record" / "examples.jsonl").read_text().splitlines()]
    assert [line["index"] for line in lines] == split.indices.tolist()
    assert {line["broken_by"] for line in lines} == {None, "clean", "pgd", "pgd-margin"}
    assert record.result()["summary"] == {**dataclasses.asdict(plain.summary()), "warnings": []}


def test_killed_and_resumed_is_the_same_record(split, tmp_path, heard, monkeypatch):
    monkeypatch.setattr("erkeras.evaluation.attacker._MOST_TIMES", 1)  # several parts
    evaluate(split, Record.create(tmp_path / "straight", settings(split)))
    with pytest.raises(Killed):
        evaluate(split, Record.create(tmp_path / "killed", settings(split)), KilledAfter(1))
    known = len((tmp_path / "killed" / "examples.jsonl").read_text().splitlines())
    assert 0 < known < 300
    record = Record.open(tmp_path / "killed")
    evaluate(split, record, heard)
    assert contents(tmp_path / "killed") == contents(tmp_path / "straight")
    assert sum(heard.units) == 300 * sum(attack.work for attack in ATTACKS)


@pytest.mark.parametrize("cut", [1, 40])
def test_a_line_that_was_cut_costs_that_example_alone(split, tmp_path, cut):
    folder = tmp_path / "record"
    evaluate(split, Record.create(folder, settings(split)))
    whole = contents(folder)
    with (folder / "examples.jsonl").open("r+b") as lines:
        lines.truncate(len(whole["examples.jsonl"]) - cut)
    assert len(Record.open(folder).read()) == 299
    evaluate(split, Record.open(folder))
    assert contents(folder) == whole


def test_what_was_appended_is_not_read_again_unless_another_hand_cut_it(split, tmp_path, monkeypatch):
    examples = evaluate_robustness(model, split, ATTACKS, seed=3).examples
    record = Record.create(tmp_path / "record", settings(split))

    def append(start, stop):
        columns = {name: value[start:stop] for name, value in vars(examples).items()}
        record.append(dataclasses.replace(examples, **columns), [0, 0])

    append(0, 100)
    with monkeypatch.context() as patched:
        patched.setattr("erkeras.files.read_regular", None)
        append(100, 200)
    lines = tmp_path / "record" / "examples.jsonl"
    os.truncate(lines, lines.stat().st_size - 5)
    append(199, 300)
    for name, value in vars(examples).items():
        np.testing.assert_array_equal(getattr(record.read(), name), value, err_msg=name)


def test_two_shards_give_the_verdicts_of_one_run(split):
    whole = evaluate_robustness(model, split, ATTACKS, seed=3).examples
    for rows in (np.arange(150), np.arange(150, 300)):
        part = evaluate_robustness(model, split.take(rows), ATTACKS, seed=3).examples
        for name in ("broken_by", "queries", "predictions"):
            np.testing.assert_array_equal(getattr(part, name), getattr(whole, name)[rows], err_msg=name)


@pytest.fixture
def record(split, tmp_path):
    record = Record.create(tmp_path / "record", settings(split))
    evaluate(split, record)
    return record


def test_what_is_not_a_whole_record_is_refused(record, tmp_path):
    with pytest.raises(InputError, match="is not the record of an evaluation"):
        Record.open(tmp_path)
    path = record.folder / "examples.jsonl"
    lines = path.read_text().splitlines()
    path.write_text("nonsense\n" + "\n".join(lines))
    with pytest.raises(InputError, match="has a line that is no example"):
        record.read()
    path.unlink()
    with pytest.raises(InputError, match="is missing"):
        record.read()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"format": 99, "attacks": []}', "has format 99"),
        ("{", r"settings\.json cannot be read: copy the record again, or evaluate again\.$"),
        ("[]", r"settings\.json cannot be read"),
        ("{}", r"settings\.json cannot be read"),
        ('{"format": 1}', r"settings\.json cannot be read"),
        ('{"format": 1, "attacks": 3}', r"settings\.json cannot be read"),
        ('{"format": 1, "attacks": [{}]}', r"settings\.json cannot be read"),
    ],
)
def test_settings_that_are_none_are_refused(record, content, message):
    (record.folder / "settings.json").write_text(content)
    with pytest.raises(InputError, match=message):
        Record.open(record.folder)


def test_a_record_without_its_images_is_refused_by_what_is_missing(record):
    (record.folder / "images.npz").unlink()
    with pytest.raises(InputError, match=r"images\.np[yz] cannot be read: copy the record again"):
        record.read()


def test_a_new_record_has_no_folder_before_its_first_examples(split, tmp_path):
    record = Record.create(tmp_path / "record", settings(split))
    assert not record.folder.exists()
    assert len(record.read()) == 0
    assert record.read().images.shape == (0, 4, 4, 1)
    assert record.seconds() == [0.0, 0.0]
    assert record.result() == {}
    assert not (tmp_path / "record").exists()


def test_another_question_is_told_from_the_same(record, split):
    assert record.differs(settings(split)) == ""
    assert record.differs(settings(split, seed=4)) == "seed 3 (now 4)"
