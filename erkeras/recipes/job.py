"""Defines what a training is asked for."""

from __future__ import annotations

from dataclasses import dataclass

from erkeras.recipes.recipe import Recipe


@dataclass(frozen=True)
class Job:
    """Holds everything that a training is asked for. The same job gives the same weights and figures.

    Example:
        Job("digits", find_recipe("default", "digits", (8, 8, 1)), baseline=True)

    Attributes:
        dataset: as `load_dataset` takes it.
        recipe: see `Recipe`.
        seed: of initial weights, data order, training's and the attacks' random numbers.
        limit: how many test images are attacked, drawn by the seed; None for all. At most 128 behind a purifier.
        restarts: of the PGD that evaluates; one behind a purifier.
        baseline: also train the same network without any defense and evaluate it on the same images.
        features: the detector's, "combined" (ER2) or "code" (ER1).
        compact: for a model that ships: save it without what only training needs (optimizers and critic), and with a
            detector whose densities are reduced to 50 centres a class. The card says what that costs.
        deterministic: run TensorFlow's deterministic operations, for the same bits on one machine.
        devices: of this machine, or of each worker, that share the recipe's batches; None for all.
        workers: processes that train together, each on devices of its own; more than one are those of TF_CONFIG.
        synchronized: take BatchNorm's statistics of training over the whole batch; else each device takes them over
            its part.
        command: the command that does this again, for the card.
    """

    dataset: str
    recipe: Recipe
    seed: int = 0
    limit: int | None = 1000
    restarts: int = 5
    baseline: bool = False
    features: str = "combined"
    compact: bool = False
    deterministic: bool = True
    devices: int | None = 1
    workers: int = 1
    synchronized: bool = False
    command: str = ""
