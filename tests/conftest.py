"""What the tests share: quiet TensorFlow, one seed a test, tiny images and networks."""

import gc
import json
import os
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# The threads of t-SNE and k-means wait for each other at full speed, where each processor has a worker already.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pytest

from helpers.shared import made_once, one_at_a_time

# Keras makes millions of small objects that live on.
gc.set_threshold(100_000, 50, 1000)


def pytest_collection_modifyitems(items):
    """What takes long comes first, so that no worker ends alone with it: trainings, and what README and docs show."""
    items.sort(key=lambda item: item.path.parent.name not in ("training", "tests"))


def pytest_collection_finish(session):
    """TensorFlow notes each operation's Python stack, for its messages: a tenth of what most tests take."""
    if "tensorflow.python" in sys.modules:
        stacks = sys.modules["tensorflow.python.util.tf_stack"]
        here = stacks.extract_stack()
        stacks.extract_stack = lambda stacklevel=1: here


@pytest.fixture(autouse=True)
def _same_seed_for_every_test():
    if "keras" in sys.modules:
        sys.modules["keras"].utils.set_random_seed(7)


@pytest.fixture(autouse=True, scope="module")
def _looked_through_once():
    """Keras keeps millions of objects, which each full collection of a long process would look through again."""
    yield
    gc.collect()
    gc.freeze()


@pytest.fixture
def heard():
    """A progress that remembers what it hears: `stages`, `units` and `notes`."""
    from erkeras.progress import Progress

    class Heard(Progress):
        def __init__(self):
            self.stages, self.units, self.notes = [], [], []

        def stage(self, name, total):
            self.stages.append((name, total))

        def advance(self, units, note=""):
            self.units.append(units)
            self.notes.append(note)

    return Heard()


@pytest.fixture
def images():
    """Twelve grey 4 x 4 images."""
    return np.random.default_rng(0).uniform(size=(12, 4, 4, 1)).astype(np.float32)


@pytest.fixture
def labels():
    return np.arange(12) % 3


@pytest.fixture
def tiny_networks():
    """Builds an encoder of 4 x 4 images to codes of 3, and a classifier of three classes."""
    import keras
    from keras import layers

    def build(*hidden, dtype=None):
        encoder = keras.Sequential(
            [
                keras.Input((4, 4, 1), dtype=dtype),
                layers.Flatten(dtype=dtype),
                layers.Dense(6, activation="tanh", dtype=dtype),
                *hidden,
                layers.Dense(3, dtype=dtype),
            ]
        )
        classifier = keras.Sequential(
            [
                keras.Input((3,), dtype=dtype),
                layers.Dense(4, activation="relu", dtype=dtype),
                layers.Dense(3, dtype=dtype),
            ]
        )
        return encoder, classifier

    return build


@pytest.fixture
def tiny_model(tiny_networks):
    """Builds and compiles an ERClassifier of them: critic, PGD, three different optimizers."""
    import keras

    from erkeras.attacks import PGD
    from erkeras.models import ERClassifier, WassersteinCritic
    from erkeras.models.networks import build_critic
    from erkeras.threat import ThreatModel

    def build(*hidden, initial=1, compiled=None, **options):
        keras.utils.set_random_seed(initial)
        model = ERClassifier(
            *tiny_networks(*hidden),
            **{
                "regularizer": WassersteinCritic(0.5, build_critic(3, units=(5,)), clip=0.1),
                "adversary": PGD(ThreatModel("l_inf", 0.2), steps=2),
                **options,
            },
        )
        model.compile(
            keras.optimizers.Adam(0.02),
            keras.optimizers.RMSprop(0.003),
            keras.optimizers.Adam(0.004, beta_1=0.5),
            **(compiled or {}),
        )
        return model

    return build


@pytest.fixture(scope="session")
def tiny_job():
    """Two epochs on digits: the whole path in seconds."""
    import dataclasses

    from erkeras.recipes import Job, find_recipe

    recipe = dataclasses.replace(find_recipe("default", "digits", (8, 8, 1)), epochs=2)
    # Deterministic operations, once on, would stay on for every other test.
    return Job("digits", recipe, limit=100, restarts=2, baseline=True, deterministic=False)


@pytest.fixture(scope="session")
def purified_job():
    """A Defense-GAN of a few updates on digits."""
    import dataclasses

    from erkeras.recipes import Job, find_recipe

    recipe = dataclasses.replace(
        find_recipe("default", "digits", (8, 8, 1), "defense-gan"),
        epochs=2,
        generator_updates=9,
        purifier_steps=5,
        purifier_restarts=2,
    )
    return Job("digits", recipe, limit=20)


@pytest.fixture(scope="session")
def purified_model(tmp_path_factory, purified_job):
    """The folder that it makes. Not to be written to."""
    from tensorflow.python.framework.config import disable_op_determinism

    from erkeras.training import train

    try:
        return made_once(tmp_path_factory, "purified", lambda output: train(purified_job, output))
    finally:
        disable_op_determinism()


@pytest.fixture(scope="session")
def saved_model(tmp_path_factory, tiny_job):
    """The folder that a tiny job makes. Not to be written to."""
    from erkeras.training import train

    return made_once(tmp_path_factory, "saved", lambda output: train(tiny_job, output))


@pytest.fixture(scope="session")
def rows_made_once(tmp_path_factory):
    """The folder of two rows of digits, one epoch and one seed each, and beside it what progress heard."""
    import tensorflow as tf

    from erkeras.progress import Progress
    from erkeras.training import train_rows

    class Stages(Progress):
        def __init__(self):
            self.names = []

        def stage(self, name, total):
            self.names.append(name)

    def make(folder):
        progress = Stages()
        with pytest.MonkeyPatch.context() as patch:
            # Deterministic operations, once on, would stay on for every other test.
            patch.setattr(tf.config.experimental, "enable_op_determinism", lambda: None)
            train_rows(folder, "digits", ("er-classifier", "madry"), (0,), 1, ("fgsm",), progress)
        folder.with_name("stages.json").write_text(json.dumps(progress.names))

    return made_once(tmp_path_factory, "rows", make)


@pytest.fixture
def trained_rows(tmp_path_factory, rows_made_once):
    """The folder of two rows, their models, and what progress heard. Not to be written to.

    One test has it at a time: to ask for rows again locks their records.
    """
    folder = rows_made_once
    models = [folder / "er-classifier-0", folder / "madry-0"]
    with one_at_a_time(tmp_path_factory, "rows"):
        yield folder, models, json.loads(folder.with_name("stages.json").read_text())
