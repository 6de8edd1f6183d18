"""Workers of a Ray that starts once for all tests here: records, a death, an interruption, and bad input."""

import json
import os
import re
import time
from pathlib import Path

import pytest
import ray

from erkeras.attacks import FGSM
from erkeras.cluster import Workers, connection
from erkeras.cluster import workers as module
from erkeras.errors import InputError
from erkeras.evaluation import Evaluation, Subject
from erkeras.progress import Progress
from erkeras.threat import ThreatModel
from helpers.commands import refused, run
from helpers.deaths import DiesOnce
from helpers.evaluations import contents, figures

THREAT = ThreatModel("l_inf", 0.1)


def processes_below(ancestor):
    parents = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(path.parent.name)] = int(path.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue  # it has just ended
    below = {ancestor}
    for _ in range(10):
        below |= {process for process, parent in parents.items() if parent in below}
    return below - {ancestor}


@pytest.fixture(scope="module")
def workers():
    """Two workers. After the last test, nothing of Ray's may be left."""
    before = processes_below(os.getpid())
    with Workers(2) as found:
        folder = Path(found._folder)
        started = processes_below(os.getpid()) - before
        yield found
        started |= processes_below(os.getpid()) - before
    deadline = time.monotonic() + 20
    while any(Path(f"/proc/{process}").exists() for process in started) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not [process for process in started if Path(f"/proc/{process}").exists()]
    assert not folder.exists()


@pytest.fixture
def subject(at_home):
    return Subject.find(at_home / "linear.keras", ("halved_of_test",))


class InterruptedAfterTheFirstPart(Progress):
    """Presses Ctrl-C once a part is recorded, which the first note of accuracy comes before; remembers the notes."""

    def __init__(self):
        self.notes = []

    def advance(self, units, note=""):
        self.notes.append(note)
        if sum("robust" in note for note in self.notes) == 2:
            raise KeyboardInterrupt


def test_the_record_has_the_same_bytes_whoever_dies_or_presses_ctrl_c(workers, subject, tmp_path, heard):
    def evaluate(name, **options):
        attacks = [FGSM(THREAT), DiesOnce(THREAT, steps=5, restarts=2, grave=str(tmp_path / "grave"))]
        return Evaluation(subject, attacks, dataset="digits", limit=300, record=tmp_path / name, **options)

    interrupted = InterruptedAfterTheFirstPart()
    with pytest.raises(KeyboardInterrupt):
        evaluate("by workers").run(interrupted, workers=workers)
    assert (tmp_path / "grave").exists()
    assert re.fullmatch(r"[012] of 2 workers, robust \d+\.\d% of (128|256)", interrupted.notes[-1])
    lines = (tmp_path / "by workers" / "examples.jsonl").read_text().splitlines()
    assert len(lines) == 128
    with Workers(1) as other:
        resumed = evaluate("by workers", resume=True).run(heard, workers=other)
    assert sum(heard.units) == heard.stages[0][1]
    assert min(heard.units) >= 0
    straight = evaluate("by one process").run()
    assert figures(resumed) == figures(straight)
    assert contents(tmp_path / "by workers") == contents(tmp_path / "by one process")
    results = [json.loads((tmp_path / name / "result.json").read_text()) for name in ("by workers", "by one process")]
    assert results[0]["summary"] == results[1]["summary"]
    assert all(seconds > 0 for result in results for seconds in result["seconds"].values())


def test_a_model_in_memory_is_refused(workers):
    made = Evaluation(lambda images: images, [FGSM(THREAT)], dataset="digits")
    with pytest.raises(InputError, match="workers were asked for and model is no model on disk: save it"):
        made.run(workers=workers)


def test_more_workers_than_processors_are_refused(workers, at_home):
    model = ["linear.keras", "--dataset", "digits", "--epsilon", "0.05"]
    refused(run("attack", *model, "--workers", 1000), "1000 workers were asked for and there are")


def test_machines_of_other_versions_are_named(workers, monkeypatch):
    connection.check_versions()
    monkeypatch.setattr(connection, "version", lambda name: "0.0")
    with pytest.raises(InputError, match=r"^the machine .+ of the cluster has erkeras \S+ \(here 0\.0\), tensorflow"):
        connection.check_versions()
    monkeypatch.setattr(connection, "_PACKAGES", ("no-such-package",))
    with pytest.raises(InputError, match=r"has no-such-package none \(here 0\.0\): install the same on all machines"):
        connection.check_versions()


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (ray.exceptions.ActorDiedError(), "a worker died 5 times, as for lack of memory: give fewer workers"),
        (ray.exceptions.OutOfMemoryError("killed"), "a worker ran out of memory: give fewer workers"),
        (ray.exceptions.RayTaskError("attack", "", MemoryError()), "a worker ran out of memory: give fewer workers"),
        (
            ray.exceptions.RayTaskError("attack", "", ray.exceptions.RaySystemError("No module named 'mine'", "lines")),
            "a worker cannot read what was sent to it (No module named 'mine'): install the modules of your attacks",
        ),
        (ray.exceptions.RayTaskError("attack", "", InputError("give less.")), "give less."),
    ],
    ids=["died", "killed for memory", "memory", "module", "refused"],
)
def test_what_ended_a_worker_is_one_sentence(error, message):
    with pytest.raises(InputError) as caught, module._told():
        raise error
    assert str(caught.value).startswith(message)


def test_an_error_of_a_model_is_raised_as_it_was():
    error = ray.exceptions.RayTaskError("attack", "the lines of the worker", KeyError("a layer"))
    with pytest.raises(ray.exceptions.RayTaskError) as caught, module._told():
        raise error
    assert caught.value is error
