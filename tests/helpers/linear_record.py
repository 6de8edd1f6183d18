"""What the tests of records share: a linear model, images, two attacks, and records of them."""

import json

import numpy as np
import tensorflow as tf

from erkeras.attacks import PGD
from erkeras.data import Split
from erkeras.evaluation import evaluate_robustness
from erkeras.threat import ThreatModel

MATRIX = np.random.RandomState(0).normal(size=(16, 3)).astype(np.float32)
ATTACKS = [PGD(ThreatModel("l_inf", 0.05), steps=2), PGD(ThreatModel("l_inf", 0.05), steps=3, loss="margin")]


def model(images):
    return 5 * tf.reshape(images - 0.5, [-1, 16]) @ MATRIX


def make_split():
    """300 images, every tenth with a wrong label."""
    images = np.random.RandomState(1).rand(300, 4, 4, 1).astype(np.float32)
    labels = model(images).numpy().argmax(axis=1).astype(np.int32)
    labels[::10] = (labels[::10] + 1) % 3
    return Split(images, labels, np.random.RandomState(2).permutation(1000)[:300])


def settings(split, **changes):
    return {
        "images": len(split),
        "image_shape": [4, 4, 1],
        "attacks": [{"name": attack.name, "config": attack.get_config()} for attack in ATTACKS],
        "seed": 3,
        **changes,
    }


def evaluate(split, record, progress=None):
    return evaluate_robustness(model, split, ATTACKS, seed=3, record=record, progress=progress)


def change_line(record, row, **changes):
    path = record.folder / "examples.jsonl"
    lines = path.read_text().splitlines()
    lines[row] = json.dumps({**json.loads(lines[row]), **changes})
    path.write_text("".join(f"{line}\n" for line in lines))
