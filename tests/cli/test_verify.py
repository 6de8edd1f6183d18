"""erkeras verify."""

import json
import shutil

import pytest

from helpers.commands import refused, run


@pytest.fixture(scope="module")
def made(saved_model, tmp_path_factory):
    """A record and its figures."""
    folder = tmp_path_factory.mktemp("made")
    arguments = ["--attack", "apgd-ce", "--limit", "150", "--iterations", "5"]
    result = run("attack", saved_model, *arguments, "--record", folder / "record", "--json", folder / "out.json")
    assert result.exit_code == 0, result.output
    return folder


@pytest.fixture
def record(made, anywhere):
    return shutil.copytree(made / "record", anywhere / "record")


def test_a_record_is_verified(record, made):
    result = run("verify", record)
    assert result.exit_code == 0, result.output
    found = json.loads((made / "out.json").read_text())
    assert f"robust accuracy {found['robust_accuracy']:.2%} on 150 test images of digits" in result.output


def test_a_record_of_another_model_or_version_is_refused(record, saved_model, anywhere):
    other = shutil.copytree(saved_model, anywhere / "other")
    shutil.copy(saved_model / "1" / "saved_model.pb", other / "model.keras")
    refused(run("verify", record, anywhere / "other" / "1"), "is not the model that")
    refused(run("verify", record, anywhere / "missing"), "missing does not exist")


def test_a_tampered_record_is_found_out(record):
    path = record / "examples.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    row = next(row for row, line in enumerate(lines) if line["broken_by"] == "apgd-ce")
    lines[row]["broken_by"] = None
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    refused(
        run("verify", record),
        f"an image is said to stand, and is broken (1 images: original indices {lines[row]['index']})",
    )


def test_what_is_no_record_is_refused(anywhere):
    refused(run("verify", "missing"), "missing is not the record of an evaluation")
    refused(run("verify"), "Missing argument 'RECORD'")


def test_a_record_of_an_attack_that_does_not_exist_is_refused(record):
    settings = json.loads((record / "settings.json").read_text())
    for change in ({"class": "Victim"}, {"name": "square"}, {"config": {"threat": {}, "no": 1}}):
        changed = {**settings, "attacks": [{**settings["attacks"][0], **change}]}
        (record / "settings.json").write_text(json.dumps(changed))
        result = run("verify", record)
        refused(result, "evaluate again")
