"""Versions beside each other: whole or not there."""

import json
import shutil

import pytest
from click.testing import CliRunner
from erkeras.cli import main

from erkeras.errors import InputError
from erkeras.saved import export_version, find_model, new_version, newest_version, read_card
from erkeras.serving import export
from erkeras.serving.export import export_classifier


def run(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture
def copy(tmp_path, saved_model):
    return shutil.copytree(saved_model, tmp_path / "copy")


def files(folder):
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_a_second_version_is_in_the_card(two_versions, saved_model):
    before, files = read_card(saved_model).files, read_card(two_versions).files
    assert {name: files[name] for name in before} == before
    first = {name.removeprefix("1/") for name in files if name.startswith("1/")}
    second = {name.removeprefix("2/") for name in files if name.startswith("2/")}
    assert first == second
    assert "assets.extra/tf_serving_warmup_requests" in second
    assert newest_version(two_versions) == 2
    assert find_model(two_versions)[1] == two_versions / "model.keras"


def test_a_damaged_second_version_is_noticed(two_versions, tmp_path):
    copy = shutil.copytree(two_versions, tmp_path / "copy")
    (copy / "2" / "saved_model.pb").write_bytes(b"")
    with pytest.raises(InputError, match="is not as it was written"):
        read_card(copy)


def test_the_next_version_is_one_more_than_the_newest(tmp_path):
    for name in ("1", "7", "words", ".8.partial"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "saved_model.pb").touch()
    (tmp_path / "9").mkdir()  # no SavedModel
    assert newest_version(tmp_path) == 7
    assert new_version(tmp_path, None) == tmp_path / "8"
    assert new_version(tmp_path, 3) == tmp_path / "3"
    with pytest.raises(InputError, match="7 exists: give another --version, 8 for one"):
        new_version(tmp_path, 7)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{copy}", "--version", "1"], "1 exists: give another --version, 2 for one."),
        (["{copy}", "--version", "0"], "0 is not in the range"),
        (["missing"], "missing does not exist"),
        (["{copy}/1"], "has no card.json"),
    ],
)
def test_the_command_refuses(copy, arguments, message):
    before = files(copy)
    result = run("export", *(argument.format(copy=copy) for argument in arguments))
    assert result.exit_code == 2
    assert message in result.output
    assert len(result.output.strip().splitlines()) == 1
    assert files(copy) == before


def test_an_export_that_fails_leaves_no_version(tiny_model, tmp_path, monkeypatch):
    def full(*_):
        assert not (tmp_path / "1").exists()
        assert (tmp_path / ".1.partial" / "saved_model.pb").exists()  # hidden: no number, so no server takes it up
        raise OSError("no space left on device")

    model = tiny_model()
    monkeypatch.setattr(export, "_write_warm_up", full)
    with pytest.raises(OSError, match="no space left"):
        export_classifier(model, (4, 4, 1), tmp_path / "1")
    assert newest_version(tmp_path) == 0
    monkeypatch.undo()
    export_classifier(model, (4, 4, 1), tmp_path / "1")
    assert newest_version(tmp_path) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["1"]


def test_a_version_is_not_written_over(tmp_path, tiny_model):
    (tmp_path / "1").mkdir()
    with pytest.raises(InputError, match="1 exists: give another version"):
        export_classifier(tiny_model(), (4, 4, 1), tmp_path / "1")


def test_a_failed_export_leaves_the_folder_as_it_was(copy, monkeypatch):
    before, card = files(copy), json.loads((copy / "card.json").read_text())

    def full(*_):
        raise OSError("full")

    monkeypatch.setattr("erkeras.serving.export.export_saved_model", full)
    monkeypatch.setattr("erkeras.serving.export_saved_model", full)
    with pytest.raises(OSError, match="full"):
        export_version(copy)
    assert files(copy) == before
    assert json.loads((copy / "card.json").read_text()) == card
