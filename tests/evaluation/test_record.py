import dataclasses
import json

import numpy as np
import pytest
import tensorflow as tf

from erkeras.attacks import PGD
from erkeras.data import Split
from erkeras.errors import InputError
from erkeras.evaluation import Record, evaluate_robustness, verify_record
from erkeras.progress import Progress
from erkeras.threat import ThreatModel

MATRIX = np.random.RandomState(0).normal(size=(16, 3)).astype(np.float32)
ATTACKS = [PGD(ThreatModel("l_inf", 0.05), steps=2), PGD(ThreatModel("l_inf", 0.05), steps=3, loss="margin")]


def model(images):
    return 5 * tf.reshape(images - 0.5, [-1, 16]) @ MATRIX


@pytest.fixture
def split():
    images = np.random.RandomState(1).rand(300, 4, 4, 1).astype(np.float32)
    labels = model(images).numpy().argmax(axis=1).astype(np.int32)
    labels[::10] = (labels[::10] + 1) % 3
    return Split(images, labels, np.random.RandomState(2).permutation(1000)[:300])


def settings(split, **changes):
    return {
        "images": len(split),
        "image_shape": [4, 4, 1],
        "attacks": [{"name": attack.name, "config": attack.get_config()} for attack in ATTACKS],
        "seed": 3,
        **changes,
    }


class Killed(Exception):
    pass


class KilledAfter(Progress):
    """Dies in the middle of the part after some."""

    def __init__(self, parts):
        self.parts, self.notes = parts, set()

    def advance(self, units, note=""):
        self.notes.add(note)
        if len(self.notes - {""}) >= self.parts and units:
            raise Killed


def contents(folder):
    return {name: (folder / name).read_bytes() for name in ("settings.json", "examples.jsonl", "images.npz")}


def evaluate(split, record, progress=None):
    return evaluate_robustness(model, split, ATTACKS, seed=3, record=record, progress=progress)


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


def test_killed_and_resumed_is_the_same_record(split, tmp_path, heard):
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


def change_line(record, row, **changes):
    path = record.folder / "examples.jsonl"
    lines = path.read_text().splitlines()
    lines[row] = json.dumps({**json.loads(lines[row]), **changes})
    path.write_text("".join(f"{line}\n" for line in lines))


def test_verification_gets_the_same_number(record, split):
    verified = verify_record(record.folder, model, images=split)
    summary = record.result()["summary"]
    assert verified.images == 300
    assert verified.recorded == verified.recomputed == summary["robust_accuracy"]
    assert len(verified.doubtful) == 0


@pytest.mark.parametrize("lie", ["stands", "broken", "outside the ball", "not misclassified", "wrong when clean"])
def test_verification_finds_a_lie(record, split, lie):
    examples = record.read()
    broken = int(np.flatnonzero(examples.broken_by == 0)[0])
    standing = int(np.flatnonzero(examples.broken_by == -1)[0])
    row = standing if lie in ("broken", "wrong when clean") else broken
    if lie in ("stands", "broken", "wrong when clean"):
        words = {"stands": None, "broken": "pgd", "wrong when clean": "clean"}
        change_line(record, row, broken_by=words[lie])
    else:
        images = examples.images
        clean = split.images[row]
        images[row] = clean if lie == "not misclassified" else np.where(images[row] > 0.5, 1, 0)
        np.savez(record.folder / "images.npz", images=images)
    verified = verify_record(record.folder, model, images=split)
    assert verified.doubtful.tolist() == [split.indices[row]]
    assert verified.recorded != verified.recomputed


def test_what_is_not_a_whole_record_is_refused(record, split, tmp_path):
    with pytest.raises(InputError, match="is not the record of an evaluation"):
        Record.open(tmp_path)
    with pytest.raises(InputError, match="names images that the data set does not have"):
        verify_record(record.folder, model, images=split.take(np.arange(50)))
    other = Split(split.pixels, (split.labels + 1) % 3, split.indices)
    with pytest.raises(InputError, match="has other labels"):
        verify_record(record.folder, model, images=other)
    path = record.folder / "examples.jsonl"
    lines = path.read_text().splitlines()
    path.write_text("\n".join(lines[:200]) + "\n" + lines[200][:20])
    with pytest.raises(InputError, match="holds 200 of 300 examples"):
        verify_record(record.folder, model, images=split)
    path.write_text("nonsense\n" + "\n".join(lines))
    with pytest.raises(InputError, match="has a line that is no example"):
        record.read()
    path.unlink()
    with pytest.raises(InputError, match="is missing"):
        record.read()
    (record.folder / "settings.json").write_text('{"format": 99, "attacks": []}')
    with pytest.raises(InputError, match="has format 99"):
        Record.open(record.folder)


def test_another_question_is_told_from_the_same(record, split):
    assert record.differs(settings(split)) == ""
    assert record.differs(settings(split, seed=4)) == "seed 3 (now 4)"
