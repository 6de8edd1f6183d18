"""The examples in docstrings run, and every class that a user makes has one."""

import ast
import dataclasses
import importlib
import re
import shutil
import textwrap
from pathlib import Path

import numpy as np
import pytest

import erkeras

PACKAGE = Path(__file__).parent.parent / "erkeras"
#: Examples that are not run here, and why.
NOT_RUN = {
    "Client": "needs a server: tests/serving/ has one",
    "Served": "needs a server: tests/serving/ has one",
    "Workers": "starts Ray: tests/cluster/ does",
    "WassersteinGAN": "trains for minutes: tests/models/ trains a small one",
    "train": "trains for half a minute: tests/training/ trains a smaller job",
}
#: Public classes that a user gets or catches, and does not make; and two bases, whose examples docs/ have.
NOT_MADE = {
    "Attack",
    "Attacked",
    "Card",
    "Dataset",
    "InputError",
    "Record",
    "Regularizer",
    "Robustness",
    "Saved",
    "Split",
    "UnavailableError",
    "Verification",
}


def examples():
    """The examples of all docstrings of the package, by the name of what they are of."""
    found = {}
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, (ast.ClassDef, ast.FunctionDef)):
                text = ast.get_docstring(node) or ""
                for block in re.findall(r"^Example:\n((?:(?: {4}.*)?\n)*(?: {4}.*))", text, re.MULTILINE):
                    found[node.name] = textwrap.dedent(block)
    return found


EXAMPLES = examples()


class Names(dict):
    """What an example takes for granted, made when it is asked for: names of erkeras, a model, images, networks."""

    def __init__(self, folder):
        super().__init__()
        self.folder = folder

    def __missing__(self, name):
        if name in MADE:
            self[name] = MADE[name](self)
            return self[name]
        if name in erkeras.__all__:
            return getattr(erkeras, name)
        raise KeyError(name)


MADE = {
    "adversarial_validation_images": lambda names: 1 - names["validation"].images[:40],
    "attacks": lambda names: [erkeras.FGSM(names["threat"])],
    "as_images": lambda names: importlib.import_module("erkeras.pixels").as_images,
    "build_digits_classifier": lambda names: lambda: networks("digits")[1],
    "build_digits_encoder": lambda names: lambda: networks("digits")[0],
    "classifier": lambda names: networks("digits")[1],
    "dataclasses": lambda names: dataclasses,
    "detector": lambda names: names["saved"].detector,
    "digits": lambda names: erkeras.load_dataset("digits"),
    "encoder": lambda names: networks("digits")[0],
    "erkeras": lambda names: erkeras,
    "generator": lambda names: erkeras.models.networks.build_generator((8, 8, 1)),
    "images": lambda names: names["test"].images[:8],
    "keras": lambda names: importlib.import_module("keras"),
    "labels": lambda names: names["test"].labels[:8],
    "model": lambda names: compiled(names["saved"].model),
    "np": lambda names: np,
    "Path": lambda names: Path,
    "pixels": lambda names: names["train"].images,
    "plain": lambda names: plain(names["keras"]),
    "saved": lambda names: erkeras.load(names.folder),
    "split": lambda names: names["test"].take(np.arange(8)),
    "test": lambda names: names["digits"].test,
    "threat": lambda names: erkeras.ThreatModel("l_inf", 0.1),
    "train": lambda names: names["digits"].train,
    "validation": lambda names: names["digits"].validation,
    "within_memory": lambda names: importlib.import_module("erkeras.memory").within_memory,
    **{
        name: lambda names, name=name: getattr(erkeras.models, name)
        for name in ("Checkpoint", "GaussianCode", "KeepBest", "NoiseLayer")
    },
}


def networks(name):
    return erkeras.models.networks.build_networks(name, (8, 8, 1), 16, 10)


def compiled(model):
    model.compile("adam")
    return model


def plain(keras):
    layers = keras.layers
    hidden = layers.Dense(16, "relu", name="code")
    return keras.Sequential([keras.Input((8, 8, 1)), layers.Flatten(), hidden, layers.Dense(10)])


@pytest.fixture
def names(saved_model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return Names(shutil.copytree(saved_model, tmp_path / "saved_models" / "digits-er-classifier"))


@pytest.mark.parametrize("name", sorted(EXAMPLES.keys() - NOT_RUN.keys()))
def test_the_example_runs(name, names):
    if name == "verify_record":
        erkeras.Evaluation("saved_models/digits-er-classifier", "fgsm", limit=20, record="record").run()
    exec(compile(EXAMPLES[name], name, "exec"), {}, names)


def test_every_class_that_a_user_makes_has_an_example():
    public = {name for name in erkeras.__all__ if isinstance(getattr(erkeras, name), type)}
    assert public >= NOT_MADE
    assert public - NOT_MADE <= EXAMPLES.keys()
    assert NOT_RUN.keys() <= EXAMPLES.keys()
