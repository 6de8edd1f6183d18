"""`import erkeras` is enough for Keras to load what holds a class of ours, and costs nothing."""

import json
import os
import subprocess
import sys
from importlib import import_module

import numpy as np
import pytest

from erkeras.registration import HOMES


def run(program, *arguments):
    """What a program prints, in a process of its own."""
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    command = [sys.executable, "-c", program, *map(str, arguments)]
    found = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment)
    assert found.returncode == 0, found.stderr[-2000:]
    return found.stdout


def test_importing_the_package_loads_nothing_large():
    program = """
import sys
import erkeras
large = {"keras", "tensorflow", "numpy", "scipy", "sklearn", "matplotlib", "pydantic", "PIL", "cleverhans"}
print(sorted(large & set(sys.modules)))
"""
    assert run(program).strip() == "[]"


#: One of two imports of a class comes first: a class that is registered stays, and a stand-in gives way to it.
STAND_INS = """
from erkeras.attacks import PGD
from erkeras.registration import register_with
register_with(keras)
assert keras.saving.get_registered_object("erkeras>PGD") is PGD
from erkeras.attacks import APGD
attack = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(APGD(iterations=3)))
print(attack == APGD(iterations=3))
"""


@pytest.mark.parametrize("imports", ["import erkeras; import keras", "import keras; import erkeras"])
def test_keras_loads_a_saved_model_in_a_fresh_process(tiny_model, images, labels, tmp_path, imports):
    model = tiny_model()
    model.fit(images, labels, verbose=0)
    model.save(tmp_path / "model.keras")
    np.save(tmp_path / "images.npy", images)
    program = f"""
import sys
{imports}
model = keras.models.load_model(sys.argv[1] + "/model.keras")
import json
import numpy as np
parts = [type(part).__name__ for part in (model, model.regularizer, model.adversary, model.objective, model.prior)]
print(json.dumps([parts, model(np.load(sys.argv[1] + "/images.npy")).numpy().tolist()]))
{STAND_INS}
"""
    first, second = run(program, tmp_path).splitlines()[-2:]
    parts, logits = json.loads(first)
    assert parts == ["ERClassifier", "WassersteinCritic", "PGD", "CrossEntropy", "StandardNormal"]
    np.testing.assert_allclose(logits, model(images), atol=1e-6)
    assert second == "True"


def test_the_homes_are_those_of_the_classes_registered_with_keras():
    program = """
import importlib, json, pkgutil
import erkeras
for found in pkgutil.walk_packages(erkeras.__path__, "erkeras."):
    if not found.name.startswith("erkeras.cli") and found.name != "erkeras.__main__":
        importlib.import_module(found.name)
import keras
registry = keras.saving.get_custom_objects()
ours = {name.removeprefix("erkeras>"): value for name, value in registry.items() if name.startswith("erkeras>")}
print(json.dumps({name: value.__name__ if isinstance(value, type) else None for name, value in ours.items()}))
"""
    registered = json.loads(run(program).splitlines()[-1])
    # Each is the class itself once its module is imported, and no stand-in.
    assert registered == {name: name for name in HOMES}


@pytest.mark.parametrize("name", HOMES)
def test_a_class_is_at_home_where_it_is_looked_for(name):
    import keras

    cls = getattr(import_module(HOMES[name]), name)
    assert keras.saving.get_registered_name(cls) == f"erkeras>{name}"
    assert keras.saving.get_registered_object(f"erkeras>{name}") is cls
