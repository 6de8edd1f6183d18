"""--workers and --cluster of attack and verify, with workers that are this process."""

import contextlib

import pytest

from erkeras import cluster
from erkeras.evaluation import ThisProcess
from helpers.commands import refused, run
from helpers.evaluations import contents


@pytest.fixture
def asked(monkeypatch):
    """What was asked of workers: how many and where, then each model that they held, then their end."""
    found = []

    class Workers(contextlib.AbstractContextManager):
        def __init__(self, count, address):
            found.append((count, address))

        def hold(self, subject, with_detector, jit_compile="auto"):
            assert jit_compile == "auto"
            found.append((subject.name, with_detector))
            return ThisProcess(subject.load(with_detector))

        def __exit__(self, *error):
            found.append("ended")

    monkeypatch.setattr(cluster, "Workers", Workers)
    return found


def test_attack_and_verify_by_workers(anywhere, saved_model, asked):
    arguments = ["attack", saved_model, "--attack", "fgsm", "--limit", "50"]
    for name, more in {"alone": [], "workers": ["--workers", 3], "cluster": ["--cluster", "auto"]}.items():
        result = run(*arguments, "--record", name, *more)
        assert result.exit_code == 0, result.output
        assert contents(anywhere / name) == contents(anywhere / "alone")
    held = (str(saved_model), False)
    assert asked == [(3, None), held, "ended", (None, "auto"), held, "ended"]
    result = run("verify", "workers", "--again", 5, "--workers", 2, "--cluster", "head:6379")
    assert result.exit_code == 0, result.output
    assert "5 images attacked again, with the same end" in result.output
    assert asked[6:] == [(2, "head:6379"), held, "ended"]


def test_a_detector_is_held_too(anywhere, saved_model, asked):
    arguments = ["--with-detector", "--attack", "pgd", "--steps", "2", "--restarts", "1", "--limit", "10"]
    result = run("attack", saved_model, *arguments, "--workers", 1, "--record", "record")
    assert result.exit_code == 0, result.output
    assert asked[1] == (str(saved_model), True)
    assert run("verify", "record", "--again", 2, "--workers", 1).exit_code == 0
    assert asked[4] == (str(saved_model), True)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["attack", "{model}", "--workers", "1", "--naive"], "--workers or --cluster was given with --endpoint or"),
        (["verify", "{model}", "--cluster", "auto"], "--workers or --cluster was given without --again: add it"),
        (["attack", "{model}", "--workers", "0"], "0 is not in the range x>=1"),
    ],
)
def test_bad_input_starts_no_worker(saved_model, asked, arguments, message):
    refused(run(*[argument.format(model=saved_model) for argument in arguments]), message)
    assert not asked
