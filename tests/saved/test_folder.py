"""Folders of saved models: digests, cards, what there is at a path, versions."""

import dataclasses
import hashlib
import shutil

import pytest
from helpers.golden import GOLDEN

from erkeras.errors import InputError
from erkeras.saved import (
    CARD,
    Card,
    DatasetEntry,
    add_evaluation,
    find_model,
    fingerprint,
    new_version,
    newest_version,
    read_card,
    render_card,
)
from erkeras.saved.folder import check_keras_file, digests, write_card


def sha256(content):
    return hashlib.sha256(content).hexdigest()


@pytest.fixture
def folder(tmp_path):
    """A whole folder of files that are no model."""
    folder = tmp_path / "mine"
    (folder / "1" / "variables").mkdir(parents=True)
    (folder / "1" / "variables" / "data").write_bytes(b"variables")
    (folder / "model.keras").write_bytes(b"model")
    card = Card("mine", DatasetEntry((8, 8, 1), ("a", "b")), {}, files=digests(folder))
    write_card(folder, card)
    return folder


def test_digests_are_of_every_file_below_by_its_path(tmp_path):
    (tmp_path / "b" / "c").mkdir(parents=True)
    (tmp_path / "empty").mkdir()
    (tmp_path / "b" / "c" / "two").write_bytes(b"2")
    (tmp_path / "a").write_bytes(b"")
    assert list(digests(tmp_path).items()) == [("a", sha256(b"")), ("b/c/two", sha256(b"2"))]


def test_a_fingerprint_of_a_file_is_its_sha256(tmp_path):
    (tmp_path / "file").write_bytes(b"content")
    assert fingerprint(tmp_path / "file") == sha256(b"content")


def test_a_fingerprint_of_a_folder_is_of_contents_and_names(tmp_path):
    def made(name, **files):
        (tmp_path / name).mkdir()
        for file, content in files.items():
            (tmp_path / name / file).write_text(content)
        return fingerprint(tmp_path / name)

    first = made("first", a="1", b="2")
    assert made("again", b="2", a="1") == first
    assert len({first, made("swapped", a="2", b="1"), made("renamed", a="1", c="2"), made("less", a="1")}) == 4


def test_a_card_is_written_for_programs_and_for_people(folder):
    card = read_card(folder)
    assert card.name == "mine"
    assert (folder / "README.md").read_text() == render_card(card)
    assert sorted(path.name for path in folder.iterdir()) == ["1", "README.md", "card.json", "model.keras"]


def test_what_is_no_folder_of_ours_is_refused(folder, tmp_path):
    with pytest.raises(InputError, match="missing does not exist: give the folder of a saved model"):
        read_card(tmp_path / "missing")
    with pytest.raises(InputError, match=r"model\.keras does not exist"):
        read_card(folder / "model.keras")
    with pytest.raises(InputError, match=r"1 has no card\.json: give the folder of a saved model"):
        read_card(folder / "1")


@pytest.mark.parametrize("name", ["model.keras", "1/variables/data"])
@pytest.mark.parametrize(
    ("damage", "state"),
    [
        (lambda path: path.unlink(), "is missing"),
        (lambda path: path.write_bytes(path.read_bytes()[:-1]), "is not as it was written"),
        (lambda path: path.write_bytes(path.read_bytes() + b" "), "is not as it was written"),
        (lambda path: path.write_bytes(b"\0" + path.read_bytes()[1:]), "is not as it was written"),
    ],
    ids=["gone", "cut", "longer", "changed"],
)
def test_a_damaged_file_is_noticed(folder, name, damage, state):
    damage(folder / name)
    with pytest.raises(InputError, match=rf"{name} {state}: train the model again, or copy its folder again\.$"):
        read_card(folder)


def test_files_that_the_card_does_not_name_are_nobodys_matter(folder):
    (folder / "notes.txt").write_text("mine")
    assert read_card(folder).name == "mine"


@pytest.mark.parametrize("damage", ["1/saved_model.pb", "detector.npz", "model.keras"])
def test_a_trained_folder_without_one_of_its_files_is_refused(saved_model, tmp_path, damage):
    copy = shutil.copytree(saved_model, tmp_path / "copy")
    (copy / damage).unlink()
    with pytest.raises(InputError, match="is missing"):
        find_model(copy)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is not a model card"),
        ("[]", "is not a model card"),
        ("{}", "has format None"),
        ('{"format": 9, "files": {}}', "format 9"),
    ],
)
def test_a_card_that_is_not_ours_is_refused(tmp_path, content, message):
    (tmp_path / CARD).write_text(content)
    with pytest.raises(InputError, match=message):
        read_card(tmp_path)


def test_an_evaluation_of_the_same_record_takes_the_place_of_the_one_before(folder):
    (first,) = GOLDEN.evaluations
    second = dataclasses.replace(first, title="other", record="records/other")
    again = dataclasses.replace(first, title="again")
    for entry in (first, second, again):
        add_evaluation(folder, entry)
    assert read_card(folder).evaluations == (second, again)
    text = (folder / "README.md").read_text()
    assert "### other" in text
    assert "### again" in text
    assert first.title not in text


def test_an_evaluation_is_not_added_to_a_damaged_folder(folder):
    (folder / "model.keras").write_bytes(b"other")
    before = (folder / CARD).read_bytes()
    with pytest.raises(InputError, match="is not as it was written"):
        add_evaluation(folder, GOLDEN.evaluations[0])
    assert (folder / CARD).read_bytes() == before


def test_find_model_knows_every_kind(saved_model):
    assert find_model(saved_model) == ("keras", saved_model / "model.keras", read_card(saved_model))
    assert find_model(saved_model / "model.keras") == ("keras", saved_model / "model.keras", None)
    assert find_model(saved_model / "1") == ("saved_model", saved_model / "1", None)


def test_find_model_takes_the_newest_version(tmp_path):
    for version in ("2", "10"):
        (tmp_path / version).mkdir()
        (tmp_path / version / "saved_model.pb").touch()
    assert find_model(tmp_path) == ("saved_model", tmp_path / "10", None)


def test_nothing_to_attack(tmp_path):
    with pytest.raises(InputError, match="missing does not exist: give a folder that erkeras train wrote"):
        find_model(tmp_path / "missing")
    with pytest.raises(InputError, match="has no model: give a folder that erkeras train wrote"):
        find_model(tmp_path)
    with pytest.raises(InputError, match=r"missing\.keras does not exist: give a \.keras file"):
        find_model(tmp_path / "missing.keras")


def test_a_keras_file_is_looked_into(saved_model, tmp_path):
    check_keras_file(saved_model / "model.keras")
    whole = (saved_model / "model.keras").read_bytes()
    shutil.make_archive(str(tmp_path / "other"), "zip", saved_model / "1")
    (tmp_path / "other.zip").rename(tmp_path / "other.keras")
    (tmp_path / "empty.keras").touch()
    (tmp_path / "text.keras").write_bytes(b"PK truncated")
    (tmp_path / "cut.keras").write_bytes(whole[: len(whole) // 2])
    middle = len(whole) // 2
    (tmp_path / "flipped.keras").write_bytes(whole[:middle] + bytes([whole[middle] ^ 255]) + whole[middle + 1 :])
    for name in ("other", "empty", "text", "cut", "flipped"):
        with pytest.raises(InputError, match=rf"{name}\.keras is not a whole \.keras file: save the model again\.$"):
            check_keras_file(tmp_path / f"{name}.keras")


def test_the_next_version_is_one_more_than_the_newest(tmp_path):
    assert newest_version(tmp_path) == 0
    assert new_version(tmp_path, None) == tmp_path / "1"
    for name in ("1", "7", "words", ".8.partial"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "saved_model.pb").touch()
    (tmp_path / "9").mkdir()  # no SavedModel
    assert newest_version(tmp_path) == 7
    assert new_version(tmp_path, None) == tmp_path / "8"
    assert new_version(tmp_path, 3) == tmp_path / "3"
    with pytest.raises(InputError, match=r"7 exists: give another --version, 8 for one\.$"):
        new_version(tmp_path, 7)
