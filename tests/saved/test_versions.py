"""Further versions of a saved model: what they hold, and that a failed one leaves nothing."""

import shutil

import keras
import pytest

import erkeras
from erkeras.errors import InputError
from erkeras.saved import export_version, newest_version, read_card

NAMES = ("zero", "one", "two")


def stops(*_, **__):
    raise OSError("no space left")


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """A saved classifier without a detector. Not to be written to."""
    folder = tmp_path_factory.mktemp("made") / "plain"
    return erkeras.save(
        keras.Sequential([keras.Input((4, 4, 1)), keras.layers.Flatten(), keras.layers.Dense(3)]),
        folder,
        class_names=NAMES,
    )


@pytest.fixture
def copy(plain, tmp_path):
    return shutil.copytree(plain.folder, tmp_path / "copy")


def test_a_new_version_is_in_the_card_and_the_others_stay(copy, plain):
    assert export_version(copy) == copy / "2"
    assert export_version(copy, 7) == copy / "7"
    assert export_version(str(copy)) == copy / "8"
    before, after = plain.card, read_card(copy)
    assert {name: after.files[name] for name in before.files} == before.files
    first = {name.removeprefix("1/") for name in before.files if name.startswith("1/")}
    for version in (2, 7, 8):
        assert {name.partition("/")[2] for name in after.files if name.startswith(f"{version}/")} == first
    assert "assets.extra/tf_serving_warmup_requests" in first
    assert after.dataset == before.dataset


def test_a_damaged_second_version_is_noticed(copy):
    export_version(copy)
    (copy / "2" / "saved_model.pb").write_bytes(b"")
    with pytest.raises(InputError, match=r"2/saved_model\.pb is not as it was written"):
        erkeras.load(copy)


def test_a_version_that_is_there_is_refused(copy):
    before = (copy / "card.json").read_bytes()
    with pytest.raises(InputError, match=r"1 exists: give another --version, 2 for one\.$"):
        export_version(copy, 1)
    assert (copy / "card.json").read_bytes() == before


def test_an_export_that_fails_leaves_the_folder_as_it_was(copy, monkeypatch):
    before = {path: path.read_bytes() for path in copy.rglob("*") if path.is_file()}
    monkeypatch.setattr("erkeras.serving.export_classifier", stops)
    with pytest.raises(OSError, match="no space left"):
        export_version(copy)
    assert {path: path.read_bytes() for path in copy.rglob("*") if path.is_file()} == before


def test_a_version_is_not_made_of_a_damaged_folder(copy):
    (copy / "model.keras").write_bytes(b"PK")
    with pytest.raises(InputError, match="is not as it was written"):
        export_version(copy)
    assert newest_version(copy) == 1
