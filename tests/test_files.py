import json

import numpy as np
import pytest

from erkeras import files


def names(folder):
    return sorted(path.name for path in folder.iterdir())


class Killed(Exception):
    pass


def kill(*_):
    raise Killed


def test_text_is_written_and_replaces_what_was_there(tmp_path):
    path = tmp_path / "card.json"
    for text in ('{"a": 1}', "ümlaut\n"):
        files.write_text(path, text)
        assert path.read_text() == text
    assert names(tmp_path) == ["card.json"]


def test_arrays_are_written_as_they_are(tmp_path):
    path = tmp_path / "record.npz"
    arrays = {"images": np.arange(6, dtype=np.uint8).reshape(2, 3), "success": np.array([True]), "name": np.array("x")}
    for _ in range(2):
        files.write_arrays(path, arrays)
        with np.load(path, allow_pickle=False) as found:
            assert sorted(found.files) == sorted(arrays)
            for name, array in arrays.items():
                np.testing.assert_array_equal(found[name], array)
                assert found[name].dtype == array.dtype
    assert names(tmp_path) == ["record.npz"]


def test_arrays_are_compressed(tmp_path):
    files.write_arrays(tmp_path / "zeros.npz", {"zeros": np.zeros(10**6)})
    assert (tmp_path / "zeros.npz").stat().st_size < 10**5


def test_a_pickle_is_refused_and_what_was_there_stays(tmp_path):
    path = tmp_path / "record.npz"
    files.write_arrays(path, {"a": np.ones(2)})
    with pytest.raises(ValueError, match="allow_pickle"):
        files.write_arrays(path, {"a": np.array([{}, None], object)})
    with np.load(path) as found:
        np.testing.assert_array_equal(found["a"], np.ones(2))


@pytest.mark.parametrize("there", [True, False])
def test_killed_before_the_rename_the_file_is_the_old_one_or_not_there(tmp_path, monkeypatch, there):
    text, arrays = tmp_path / "card.json", tmp_path / "record.npz"
    if there:
        files.write_text(text, "old")
        files.write_arrays(arrays, {"a": np.zeros(1)})
    monkeypatch.setattr(files.os, "replace", kill)
    for write in (lambda: files.write_text(text, "new"), lambda: files.write_arrays(arrays, {"a": np.ones(1)})):
        with pytest.raises(Killed):
            write()
    monkeypatch.undo()
    assert text.exists() == arrays.exists() == there
    if there:
        assert text.read_text() == "old"
        with np.load(arrays) as found:
            assert found["a"] == 0
    # What was left half-written is in nobody's way.
    files.write_text(text, json.dumps([1]))
    files.write_arrays(arrays, {"a": np.ones(1)})
    assert names(tmp_path) == ["card.json", "record.npz"]
