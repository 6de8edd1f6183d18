"""The examples in docstrings run, and every class that a user makes has one."""

import ast
import re
import shutil
import textwrap
from pathlib import Path

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


@pytest.fixture
def names(saved_model, tmp_path, monkeypatch):
    """What an example takes for granted: the names of erkeras, a model of digits, images and networks."""
    import keras
    import numpy as np

    from erkeras.memory import within_memory
    from erkeras.models import Checkpoint, GaussianCode, KeepBest, NoiseLayer, networks
    from erkeras.pixels import as_images

    monkeypatch.chdir(tmp_path)
    folder = shutil.copytree(saved_model, tmp_path / "saved_models" / "digits-er-classifier")
    digits, saved = erkeras.load_dataset("digits"), erkeras.load(folder)
    encoder, classifier = networks.build_networks("digits", digits.image_shape, 16, digits.classes)
    saved.model.compile("adam")
    layers = keras.layers
    plain = [keras.Input((8, 8, 1)), layers.Flatten(), layers.Dense(16, "relu", name="code"), layers.Dense(10)]
    few = digits.test.take(np.arange(8))
    return {
        **{name: getattr(erkeras, name) for name in erkeras.__all__},
        **{kind.__name__: kind for kind in (Checkpoint, GaussianCode, KeepBest, NoiseLayer)},
        "adversarial_validation_images": 1 - digits.validation.images[:40],
        "as_images": as_images,
        "build_digits_classifier": lambda: networks.build_networks("digits", (8, 8, 1), 16, 10)[1],
        "build_digits_encoder": lambda: networks.build_networks("digits", (8, 8, 1), 16, 10)[0],
        "classifier": classifier,
        "dataclasses": __import__("dataclasses"),
        "detector": saved.detector,
        "digits": digits,
        "encoder": encoder,
        "erkeras": erkeras,
        "generator": networks.build_generator((8, 8, 1)),
        "images": few.images,
        "keras": keras,
        "labels": few.labels,
        "model": saved.model,
        "np": np,
        "Path": Path,
        "pixels": digits.train.images,
        "plain": keras.Sequential(plain),
        "test": digits.test,
        "threat": erkeras.ThreatModel("l_inf", 0.1),
        "train": digits.train,
        "validation": digits.validation,
        "within_memory": within_memory,
    }


@pytest.mark.parametrize("name", sorted(EXAMPLES.keys() - NOT_RUN.keys()))
def test_the_example_runs(name, names):
    if name == "verify_record":
        erkeras.Evaluation("saved_models/digits-er-classifier", "fgsm", limit=20, record="record").run()
    exec(compile(EXAMPLES[name], name, "exec"), names)


def test_every_class_that_a_user_makes_has_an_example():
    public = {name for name in erkeras.__all__ if isinstance(getattr(erkeras, name), type)}
    assert public >= NOT_MADE
    assert public - NOT_MADE <= EXAMPLES.keys()
    assert NOT_RUN.keys() <= EXAMPLES.keys()
