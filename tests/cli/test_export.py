"""erkeras export."""

import shutil

import numpy as np
import pytest
from helpers.commands import refused, run

from erkeras.data import load_dataset
from erkeras.saved import newest_version, read_card
from erkeras.serving import detect_with


@pytest.fixture
def copy(anywhere, saved_model):
    return shutil.copytree(saved_model, anywhere / "copy")


def files(folder):
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_the_next_version_answers_as_the_one_before(copy):
    result = run("export", copy)
    assert result.exit_code == 0, result.output
    assert f"Exported to {copy / '2'}" in result.output
    assert newest_version(copy) == 2
    card = read_card(copy)
    of_version = [{name.partition("/")[2] for name in card.files if name.startswith(f"{number}/")} for number in (1, 2)]
    assert of_version[0] == of_version[1]
    images = load_dataset("digits").test.images[:20]
    first, second = (detect_with(copy / number, images) for number in ("1", "2"))
    for name in first:
        np.testing.assert_allclose(first[name], second[name], atol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "Missing argument 'MODEL'"),
        (["{copy}", "--version", "1"], "1 exists: give another --version, 2 for one."),
        (["{copy}", "--version", "0"], "0 is not in the range"),
        (["{copy}", "--version", "two"], "'two' is not a valid"),
        (["{copy}", "--import", "no_such_module"], "there is no module 'no_such_module'"),
        (["missing"], "missing does not exist"),
        (["{copy}/1"], "has no card.json"),
        (["{copy}/model.keras"], "does not exist"),
    ],
)
def test_bad_input_is_one_sentence_and_nothing_written(copy, arguments, message):
    before = files(copy)
    refused(run("export", *(argument.format(copy=copy) for argument in arguments)), message)
    assert files(copy) == before


def test_a_damaged_folder_is_refused(copy):
    (copy / "detector.npz").write_bytes(b"")
    refused(run("export", copy), "detector.npz is not as it was written")
    assert newest_version(copy) == 1
