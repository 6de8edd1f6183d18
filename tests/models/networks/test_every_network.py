"""Every network of a name, with fewer filters: it trains a step, saves, resumes, exports, and answers without erkeras.

The layers are those of the name and their connections too: `narrow` builds them again with a fraction of the filters.
"""

import subprocess
import sys

import keras
import numpy as np
import pytest
from keras import layers

from erkeras.attacks import PGD
from erkeras.models import Checkpoint, ERClassifier, WassersteinCritic
from erkeras.models.networks import build_critic, build_networks
from erkeras.recipes import NETWORK_NAMES
from erkeras.serving.export import export_classifier
from erkeras.threat import ThreatModel
from helpers.training_state import assert_same, state

#: With 4 or 8 filters, images of 96 x 96 end TensorFlow 2.21 in a filter gradient: "double free or corruption".
CODE_SIZE, CLASSES, IMAGES, WIDEST = 3, 4, 4, 16
#: Name -> sides of images. The residual networks halve those of 64 and 96 at once.
SIDES = {
    "digits": [8],
    "mnist": [28],
    "mnist-deep": [28],
    "mnist-large": [28],
    "colour": [32],
    "vgg16": [32],
    "vgg19": [32],
    "stl10": [96],
    "tiny-imagenet": [64],
    "preact-resnet18": [32, 64, 96],
    "wide-resnet28-10": [32, 64, 96],
    "wide-resnet34-10": [32],
}
#: Always; the others take minutes, and `test_residual.py` has one of them.
FAMILIES = [("mnist", 28)]
CASES = [
    pytest.param(name, side, marks=[] if (name, side) in FAMILIES else pytest.mark.slow)
    for name, sides in SIDES.items()
    for side in sides
]


def narrow(network, kept):
    """The same layers and connections, with at most so many filters or units but in the layer that is kept."""

    def rebuild(layer):
        config = layer.get_config()
        for size in ("filters", "units"):
            if layer.name != kept and size in config:
                config[size] = min(config[size], WIDEST)
        return type(layer).from_config(config)

    return keras.models.clone_model(network, clone_function=rebuild)


def build_model(name, side, initial):
    keras.utils.set_random_seed(initial)
    shape = (side, side, 1 if side < 32 else 3)
    encoder, classifier = build_networks(name, shape, CODE_SIZE, CLASSES)
    model = ERClassifier(
        narrow(encoder, "code"),
        narrow(classifier, "logits"),
        regularizer=WassersteinCritic(0.1, build_critic(CODE_SIZE, units=(4,))),
        adversary=PGD(ThreatModel("l_inf", 8 / 255), steps=1),
    )
    model.compile(*(keras.optimizers.Adam(0.01) for _ in range(3)))
    # Tracing a deep network takes longer than the steps here.
    model.run_eagerly = True
    return model


def data_of(model):
    random = np.random.default_rng(0)
    return random.uniform(size=(IMAGES, *model.encoder.input_shape[1:])).astype(np.float32), np.arange(IMAGES)


def test_every_name_is_here():
    assert set(SIDES) == set(NETWORK_NAMES)


@pytest.mark.parametrize(("name", "side"), CASES)
def test_it_trains_a_step_resumes_and_is_saved(name, side, tmp_path):
    straight = build_model(name, side, initial=1)
    assert max(layer.filters for layer in straight.encoder.layers if isinstance(layer, layers.Conv2D)) == WIDEST
    images, labels = data_of(straight)
    before = straight.get_weights()
    fit = {"batch_size": IMAGES, "shuffle": False, "verbose": 0}
    logs = straight.fit(images, labels, callbacks=[Checkpoint(tmp_path / "checkpoint")], **fit).history
    assert np.isfinite([values[0] for values in logs.values()]).all()
    moved = [not np.array_equal(*pair) for pair in zip(before, straight.get_weights(), strict=True)]
    assert np.mean(moved) > 0.6  # some ReLUs of so few are dead

    resumed, checkpoint = build_model(name, side, initial=2), Checkpoint(tmp_path / "checkpoint")
    assert checkpoint.restore(resumed) == 1
    for model in (straight, resumed):
        model.fit(images, labels, epochs=2, initial_epoch=1, **fit)
    assert_same(state(straight), state(resumed))

    straight.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    expected = np.asarray(straight(images))
    np.testing.assert_array_equal(again(images), expected)
    assert expected.shape == (IMAGES, CLASSES)


WITHOUT_ERKERAS = """
import sys
sys.modules["erkeras"] = None  # importing it fails
from pathlib import Path
import numpy as np, tensorflow as tf
for folder in sorted(Path(sys.argv[1]).iterdir()):
    given = np.load(folder / "given.npz")
    signatures = tf.saved_model.load(str(folder / "1")).signatures
    found = signatures["logits"](images=tf.constant(given["images"]))["logits"]
    print(folder.name, np.abs(found - given["logits"]).max() / np.abs(given["logits"]).max())
"""


ALL = [(name, side) for name, sides in SIDES.items() for side in sides]


@pytest.mark.parametrize(
    "cases",
    [
        pytest.param(FAMILIES, id="families"),
        *(pytest.param(part, id=part[0][0], marks=pytest.mark.slow) for part in (ALL[:9], ALL[9:12], ALL[12:])),
    ],
)
def test_exported_they_answer_where_erkeras_is_not(cases, tmp_path):
    """All in one process of its own."""
    for name, side in cases:
        model, folder = build_model(name, side, initial=1), tmp_path / f"{name}-{side}"
        images, _ = data_of(model)
        export_classifier(model, images.shape[1:], folder / "1")
        np.savez(folder / "given.npz", images=images, logits=model(images))
    program = [sys.executable, "-c", WITHOUT_ERKERAS, str(tmp_path)]
    found = subprocess.run(program, check=True, capture_output=True, text=True, timeout=600)
    errors = dict(line.split() for line in found.stdout.splitlines())
    assert set(errors) == {f"{name}-{side}" for name, side in cases}
    assert max(map(float, errors.values())) < 1e-4
