"""What the tutorials and how-to guides show runs."""

import re
import shlex
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

import erkeras
from helpers.commands import run

DOCS = Path(__file__).parent.parent / "docs"
SMALLER = (("--attack autoattack", "--attack fgsm"), ("--limit 360", "--limit 20"), (" --baseline", ""))


@pytest.fixture(autouse=True)
def anywhere(tmp_path, monkeypatch):
    """An empty working folder, as a reader has who is not in a clone."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])  # which commands add the working folder to
    return tmp_path


@pytest.fixture
def demo(saved_model, anywhere):
    """The model of `make demo`, where the pages have it."""
    return shutil.copytree(saved_model, anywhere / "saved_models" / "digits-er-classifier")


def programs_of(document):
    return re.findall(r"```python\n(.*?)```", (DOCS / document).read_text(), re.DOTALL)


def run_program(document, number=0, smaller=None):
    """Runs a program of a page, and gives its names. `smaller` are two texts, one of the page and one instead."""
    program = programs_of(document)[number]
    if smaller is not None:
        assert smaller[0] in program
        program = program.replace(*smaller)
    names = {"__name__": "printed"}
    exec(compile(program, document, "exec"), names)
    return names


def run_commands(document, **more):
    """Runs the commands of a page that need no server, made smaller; `more` are options by a command's name."""
    text = re.sub(r"\\\n\s+", "", (DOCS / document).read_text())
    ran = []
    for command in re.findall(r"^    (?:\$ )?erkeras (.*?)(?:\s+#.*)?$", text, re.MULTILINE):
        if "--endpoint" in command:  # `tests/serving/` has a server
            continue
        for old, new in SMALLER:
            command = command.replace(old, new)
        name, *arguments = shlex.split(command)
        found = [str(path) for word in arguments for path in (sorted(Path().glob(word)) if "*" in word else [word])]
        result = run(name, *found, *more.get(name, "").split())
        assert result.exit_code == 0, result.output
        ran.append((name, result.output))
    return ran


def test_the_first_model(demo):
    ran = run_commands("tutorials/first-model.md")
    assert [name for name, _ in ran] == ["attack", "verify", "attack", "detect", "export"]
    assert "as recorded" in ran[1][1]
    assert ran[3][1].count("attacked.npz[") == 6
    assert (demo / "2").is_dir()


@pytest.mark.slow
def test_images_of_ones_own(anywhere):
    run_program("tutorials/own-images.md")
    assert len(list(anywhere.glob("images/digit-3/*.png"))) > 150
    ran = run_commands("tutorials/own-images.md", train="--epochs 1 --limit 20 --restarts 1 --fast")
    assert [name for name, _ in ran] == ["train", "attack", "verify", "detect"]
    assert (anywhere / "broken.png").exists()
    assert len(erkeras.load("saved_models/mine").card.dataset.class_names) == 10


def test_a_keras_model_is_made_robust():
    names = run_program("how-to/make-robust.md", smaller=("epochs=5", "epochs=1"))
    images = names["digits"].test.images[:20]
    saved = erkeras.load("saved_models/robust").model
    np.testing.assert_allclose(saved(images), names["robust"](images), atol=1e-5)
    assert not np.allclose(names["plain"](images), names["robust"](images), atol=1e-2)


def test_an_honest_evaluation(demo, capsys):
    run_program("how-to/evaluate.md", smaller=("limit=100", "limit=20"))
    robust, holds = capsys.readouterr().out.splitlines()[-2:]
    assert re.fullmatch(r"[\d.]+% are robust", robust)
    assert holds == "True"


def test_a_detector_on_a_keras_model(capsys):
    names = run_program("how-to/detect.md", smaller=("epochs=10", "epochs=4"))
    assert float(re.search(r"AUROC ([\d.]+)", capsys.readouterr().out).group(1)) > 0.6
    images = names["digits"].test.images
    loaded = erkeras.load("saved_models/watched").detector
    np.testing.assert_array_equal(loaded.predict(images).verdict, names["detector"].predict(images).verdict)


def test_an_objective_of_ones_own():
    names = run_program("how-to/extend.md", smaller=("epochs=3", "epochs=1"))
    loaded = erkeras.load("saved_models/pairing").model
    assert loaded.objective.weight == 0.5
    images = names["digits"].test.images[:20]
    np.testing.assert_allclose(loaded(images), names["model"](images), atol=1e-5)


def test_a_detector_of_ones_own(saved_model, anywhere):
    kind = run_program("how-to/extend.md", 1)["ConfidenceDetector"]
    digits, model = erkeras.load_dataset("digits"), erkeras.load(saved_model).model
    detector = kind(model).fit(digits.train.images, digits.train.labels)
    pgd = erkeras.PGD(erkeras.ThreatModel("l_inf", 0.15), steps=2)
    attacked = pgd(model, digits.validation.images[:100], digits.validation.labels[:100]).images
    detector.calibrate(digits.validation.images, attacked)
    found = detector.predict(digits.test.images)
    confidence = found.probabilities.max(axis=1)
    assert np.all(np.diff(found.score[np.argsort(confidence)]) <= 1e-6)  # the surer, the less adversarial
    detector.save(anywhere / "detector.npz")
    again = kind.load(anywhere / "detector.npz", model).predict(digits.test.images)
    np.testing.assert_array_equal(again.verdict, found.verdict)
