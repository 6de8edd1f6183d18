import pytest

from helpers.commands import refused, run


@pytest.mark.parametrize("devices", ["0", "x", "-1", "1.5", "\N{SUPERSCRIPT TWO}"])
def test_devices_are_a_number_or_all(tmp_path, devices):
    result = run("train", "--devices", devices, "--output", tmp_path / "model")
    refused(result, "is neither a number from 1 on nor all")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--synchronized"], "has no effect on one device"),
        (["--cluster", "auto"], "without --workers of 2 or more"),
        (["--devices", "4096"], "4096 devices were asked for"),
    ],
)
def test_what_does_not_go_together_is_refused(tmp_path, monkeypatch, options, message):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    refused(run("train", *options, "--output", tmp_path / "model"), message)
    assert not list(tmp_path.iterdir())


def test_a_batch_that_devices_cannot_share_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("erkeras.training.devices.Devices.replicas", 3)
    refused(run("train", "--batch-size", 100, "--output", tmp_path / "model"), "which 3 devices cannot share evenly")
    assert not list(tmp_path.iterdir())


def test_tf_config_is_looked_at(tmp_path, monkeypatch):
    monkeypatch.setenv("TF_CONFIG", "{")
    refused(run("train", "--output", tmp_path / "model"), "TF_CONFIG is no JSON")
    monkeypatch.setenv(
        "TF_CONFIG", '{"cluster": {"worker": ["localhost:1", "localhost:2"]}, "task": {"type": "worker", "index": 1}}'
    )
    refused(run("train", "--workers", 2, "--output", tmp_path / "model"), "TF_CONFIG names the workers already")
