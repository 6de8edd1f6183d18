"""What the tests of rows share: folders with the card and the record of a model, and no model."""

import numpy as np

from erkeras.evaluation import Examples, Record
from erkeras.evaluation.examples import STANDING, WRONG_WHEN_CLEAN
from erkeras.recipes import Job, Recipe
from erkeras.saved import Card, DatasetEntry, EvaluationEntry, Summary, TrainingEntry
from erkeras.saved.folder import write_card
from erkeras.threat import ThreatModel

N = 40


def saved(folder, defense, seed, broken, later=(), wrong=(), title="pgd l_inf 0.1 test", evaluation_seed=0, epochs=3,
          dataset="digits"):  # fmt: skip
    """A folder with the card and the record of a model under which these images do not stand."""
    folder.mkdir()
    broken_by = np.full(N, STANDING, np.int32)
    broken_by[list(broken)], broken_by[list(later)], broken_by[list(wrong)] = 0, 1, WRONG_WHEN_CLEAN
    order = np.random.default_rng(seed).permutation(N)  # images are known by their indices
    zeros = np.zeros(N, np.int32)
    counts = np.ones((N, 2), np.int64)
    record = Record.create(
        folder / "record",
        {"images": N, "image_shape": [2, 2, 1], "attacks": [{"name": "pgd"}, {"name": "square"}], "seed": 0},
    )
    images = np.zeros((N, 2, 2, 1), np.float32)
    examples = Examples(order, zeros, zeros, broken_by[order], zeros, zeros.astype(np.float32), counts, counts, images)
    record.append(examples, [1.0, 1.0])
    standing = float(np.mean(broken_by == STANDING))
    summary = Summary(
        images=N,
        outputs="logits",
        clean_accuracy=1 - len(wrong) / N,
        attacks={"pgd": standing + len(later) / N, "square": standing},
        robust_accuracy=standing,
        mean_boundary_distance=None,
        forward_passes={},
        backward_passes={},
    )
    recipe = Recipe("digits", 16, epochs, 64, 0.15, defense=defense, coefficient=0.1)
    card = Card(
        name=folder.name,
        dataset=DatasetEntry((2, 2, 1), ("0", "1")),
        versions={},
        job=Job("digits", recipe, seed),
        training=TrainingEntry(60.0 * (seed + 1), {}),
        evaluations=(
            EvaluationEntry(title, dataset, "test", evaluation_seed, ThreatModel("l_inf", 0.1), summary, "record"),
        ),
    )
    write_card(folder, card)
    return folder


def two_rows(folder):
    """Eight images stand up to PGD under the first row alone, one under the second, over two seeds; Square breaks one
    of the eight, and another."""
    return [
        saved(folder / "a0", "er-classifier", 0, broken=[0], later=[1, 20], wrong=[39]),
        saved(folder / "b0", "madry", 0, broken=[0, 1, 2, 3, 4], wrong=[39]),
        saved(folder / "b1", "madry", 1, broken=[0, 1, 2, 3, 4], wrong=[38]),
        saved(folder / "a1", "er-classifier", 1, broken=[0, 7], wrong=[38]),
    ]
