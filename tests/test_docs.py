"""What docs/ shows runs."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from erkeras.cli import main
from erkeras.data import DATASET_HELP
from erkeras.models.networks import NETWORKS
from erkeras.recipes import DEFENSES
from helpers.commands import run

DOCS = Path(__file__).parent.parent / "docs"
DOCUMENTS = sorted(str(path.relative_to(DOCS)) for path in DOCS.rglob("*.md"))
OUTSIDE = ("../README.md", "../CONTRIBUTING.md", "../CHANGELOG.md")


def program_of(document):
    (program,) = re.findall(r"```python\n(.*?)```", (DOCS / document).read_text(), re.DOTALL)
    return program


def test_the_next_attack_runs_as_printed():
    names = {"__name__": "printed"}
    exec(compile(program_of("attacks.md"), "attacks.md", "exec"), names)
    images = np.random.default_rng(0).uniform(size=(20, 2, 2, 1)).astype(np.float32)
    matrix = np.random.default_rng(1).normal(size=(4, 3)).astype(np.float32)

    def model(images):
        return tf.reshape(images - 0.5, [-1, 4]) @ matrix

    result = names["RandomNoise"]()(model, images, model(images).numpy().argmax(axis=1))
    assert 0 < result.success.sum() < 20


ATTACKS = """
from erkeras.cli import main
for more in ([], ["--import", "moments"]):
    try:
        main(["attack", "model", "--limit", "20", "--attack", "fgsm", *more])
    except SystemExit as end:
        print("ended with", end.code)
"""


@pytest.mark.slow
def test_a_regularizer_of_ones_own_runs_through_the_command_line(tmp_path, monkeypatch):
    """Attacked in another process than it is trained in, which has to import the module again."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])  # which the command adds the working folder to
    (tmp_path / "moments.py").write_text(program_of("defenses.md"))
    train = ["train", "--regularizer", "moments:SlicedMoments", "--epochs", "1", "--limit", "20", "--restarts", "1"]
    result = run(*train, "--output", "model", "--fast")
    del sys.modules["moments"]
    assert result.exit_code == 0, result.output
    card = json.loads((tmp_path / "model" / "card.json").read_text())
    assert card["training"]["last_epoch"]["sliced_moments"] > 0
    found = subprocess.run([sys.executable, "-c", ATTACKS], capture_output=True, text=True, timeout=300)
    assert re.findall("ended with (.+)", found.stdout) == ["2", "0"], found.stderr
    assert "is made of SlicedMoments, which is not registered: --import the module" in found.stderr


def test_every_defense_of_the_command_line_is_in_the_table():
    text = (DOCS / "defenses.md").read_text()
    assert all(f"| `{name}` |" in text for name in DEFENSES)


def test_every_network_is_in_the_table():
    text = (DOCS / "defenses.md").read_text()
    rows = " ".join(re.findall(r"^\| (`[\w-]+`(?:, `[\w-]+`)?) \| \d+ x \d+ x \d \|", text, re.MULTILINE))
    assert sorted(re.findall(r"`(.+?)`", rows)) == sorted(NETWORKS)


def test_every_data_set_is_in_the_table():
    text = (DOCS / "data.md").read_text()
    names = [*dict.fromkeys(re.findall(r"\b[a-z]\w+(?=[,:])", re.sub(r"\(.*?\)", "", DATASET_HELP)))]
    assert names == ["digits", "mnist", "cifar10", "stl10", "tiny_imagenet", "folder", "npz", "tfds"]
    assert all(re.search(rf"^\| `{name}(:PATH|:NAME)?` \|", text, re.MULTILINE) for name in names)


@pytest.mark.parametrize("document", DOCUMENTS)
def test_files_it_names_exist(document):
    text = (DOCS / document).read_text()
    for name in re.findall(r"`((?:erkeras|benchmarks|tests)/[\w/]+\.py)`", text):
        assert (DOCS.parent / name).exists(), name


def headings(text):
    """The anchors of a page's headings, as both the forge and the site make them."""
    prose = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    found = re.findall(r"^#+ (.*)$", prose, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading).strip().lower().replace(" ", "-") for heading in found}


@pytest.mark.parametrize("document", [*DOCUMENTS, *OUTSIDE])
def test_every_link_leads_to_a_file_and_a_heading(document):
    page = DOCS / document
    for target, anchor in re.findall(r"\]\((?!https?:)([^)#]*)#?([^)]*)\)", page.read_text()):
        place = page.parent / target if target else page
        assert place.exists(), target
        assert not anchor or anchor in headings(place.read_text()), f"{target}#{anchor}"


def commands_of(text):
    """The commands of erkeras in indented blocks, each on one line, without comments."""
    joined = re.sub(r"\\\n\s+", "", text)
    return re.findall(r"^ {4,}(?:\$ |\w+=\S+ )*erkeras (\w+)(.*?)(?:\s#.*)?$", joined, re.MULTILINE)


@pytest.mark.parametrize("document", [*DOCUMENTS, *OUTSIDE])
def test_the_options_of_its_commands_exist(document):
    for name, arguments in commands_of((DOCS / document).read_text()):
        known = {option for parameter in main.commands[name].params for option in parameter.opts}
        known |= {option for parameter in main.commands[name].params for option in parameter.secondary_opts}
        asked = set(re.findall(r"(?<!\S)\[?(--[a-z-]+)", arguments))
        assert asked <= known, (name, asked - known)


def test_commands_are_found():
    assert len({name for document in DOCUMENTS for name, _ in commands_of((DOCS / document).read_text())}) == len(
        main.commands
    )


def test_every_attack_of_the_command_line_is_in_the_table():
    from erkeras.attacks.named import ATTACKS

    text = (DOCS / "attacks.md").read_text()
    assert all(f"| `{name}` |" in text for name in ATTACKS)


def programs_of(document):
    return re.findall(r"```python\n(.*?)```", (DOCS / document).read_text(), re.DOTALL)


@pytest.mark.slow
def test_networks_of_ones_own_train_in_python_and_by_the_command_line(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])  # which the commands add the working folder to
    in_python, module = programs_of("networks.md")
    assert in_python.count("epochs=10") == 2
    exec(compile(in_python.replace("epochs=10", "epochs=4"), "networks.md", "exec"), {})
    plain, robust = (float(found) for found in re.findall(r": ([\d.]+)% under PGD", capsys.readouterr().out))
    assert robust > plain + 20
    (tmp_path / "nets.py").write_text(module)
    found = re.findall(r"^    erkeras (train --network .*)$", (DOCS / "networks.md").read_text(), re.MULTILINE)
    commands = [command for command in found if "SEED" not in command]  # those were measured, and take minutes
    assert len(commands) == 3
    for command in commands:
        result = run(*command.split(), "--epochs", 1, "--steps", 2, "--limit", 20, "--restarts", 1, "--fast")
        assert result.exit_code == 0, result.output
    del sys.modules["nets"]
    cards = tmp_path.glob("saved_models/*/card.json")
    sizes = {path.parent.name: json.loads(path.read_text())["training"]["code_size"] for path in cards}
    assert sizes == {"own-encoder": 8, "own": 32, "plain-made-robust": 32}


def test_a_card_is_read_as_printed(monkeypatch, capsys):
    monkeypatch.chdir(DOCS.parent)
    exec(compile(program_of("model-card.md"), "model-card.md", "exec"), {})
    assert capsys.readouterr().out == "0.961 40\n"
