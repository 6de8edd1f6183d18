"""The paper's rows on one data set: trained over seeds, and attacked on the same images."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from erkeras import data, evaluation, training
from erkeras.attacks.named import AttackSettings
from erkeras.progress import Progress
from erkeras.recipes import Job, find_recipe

#: Those of Table 1, in its order.
ROWS = ("none", "e-cla", "vae-cla", "rse", "er-classifier-minus", "madry", "trades", "er-classifier", "er-trades")
#: Rows that differ by the regularizer alone.
PAIRS = (("er-classifier", "madry"), ("er-classifier-minus", "e-cla"), ("er-trades", "trades"))


def train_rows(
    folder: Path,
    dataset: str,
    defenses: Sequence[str] = ROWS,
    seeds: Sequence[int] = (0, 1, 2),
    epochs: int | None = None,
    attacks: Sequence[str] = ("pgd", "autoattack"),
    progress: Progress | None = None,
) -> list[Path]:
    """Trains rows of the paper over seeds, and attacks each; what is done is not done again.

    Args:
        folder: where the models go, each into DEFENSE-SEED.
        dataset: as `load_dataset` takes it.
        defenses: names in `DEFENSES`.
        seeds: of training.
        epochs: of training; by default as the recipe says.
        attacks: names, all on the test images that the seed 0 draws.
        progress: hears of a stage for each step.

    Returns:
        The models' folders.
    """
    models = []
    for defense in defenses:
        for seed in seeds:
            recipe = find_recipe("default", dataset, data.check_dataset(dataset), defense)
            recipe = dataclasses.replace(recipe, epochs=epochs or recipe.epochs)
            model = folder / f"{defense}-{seed}"
            options = "" if epochs is None else f" --epochs {epochs}"
            command = f"erkeras train --dataset {dataset} --defense {defense} --seed {seed} --restarts 1{options}"
            job = Job(dataset, recipe, seed, restarts=1, command=f"{command} --output {model}")
            training.train(job, model, resume=True, progress=progress)
            settings = AttackSettings(tuple(attacks))
            evaluation.Evaluation(model, settings, card=True, resume=True).run(progress, f"attacking {model.name}")
            models.append(model)
    return models
