"""The recipes, one row for each data set."""

from __future__ import annotations

from collections.abc import Sequence

from erkeras.errors import InputError
from erkeras.recipes.recipe import Recipe

#: What works here on two cores: see docs/results.md for the figures and how each choice was made.
_DEFAULT = {
    "digits": Recipe(
        network="digits",
        code_size=16,
        epochs=60,
        batch_size=64,
        epsilon=0.15,
        training_ratio=4 / 3,
        learning_rate=3e-3,
        critic_units=(128, 128, 128, 128),
    ),
    "mnist": Recipe(
        network="mnist", code_size=16, epochs=20, batch_size=128, epsilon=0.3, training_ratio=7 / 6, learning_rate=2e-3
    ),
    "cifar10": Recipe(
        network="colour", code_size=16, epochs=30, batch_size=128, epsilon=0.03, epsilon_warm_up=0.1, learning_rate=1e-3
    ),
}

#: The authors' settings (with Algorithm 1 as the paper prints it, and a linear critic). Their classifier learns at
#: a twentieth of the encoder's rate, which one optimizer for both, as in line 8, cannot say.
_PAPER = {
    "mnist": Recipe(
        network="mnist-large",
        code_size=4,
        epochs=30,
        batch_size=100,
        epsilon=0.3,
        steps=40,
        step_ratio=0.01 / 0.3,
        epsilon_warm_up=0.0,
        learning_rate=1e-4,
        one_cycle=False,
        coefficient=5e-4,
        coupling="separate",
        critic_learning_rate=5e-5,
        regularizer_learning_rate=1e-4,
    ),
}

_TABLE = {"default": _DEFAULT, "paper": _PAPER}
RECIPE_NAMES = tuple(_TABLE)


def find_recipe(name: str, dataset: str, image_shape: Sequence[int]) -> Recipe:
    """The recipe of a name for a data set. A user's own set takes the default one of the set most like it.

    Args:
        name: in `RECIPE_NAMES`.
        dataset: as `load_dataset` takes it.
        image_shape: (height, width, channels).

    Raises:
        InputError: where there is none.
    """
    if name not in _TABLE:
        raise InputError(f"there is no recipe {name!r}: give one of {', '.join(RECIPE_NAMES)}.")
    rows = _TABLE[name]
    if dataset in rows:
        return rows[dataset]
    if name == "default":
        height, width, channels = image_shape
        like = "digits" if max(height, width) <= 16 else "mnist" if channels == 1 else "cifar10"
        return rows[like]
    raise InputError(f"the recipe {name!r} is for {', '.join(rows)}, not for {dataset}: give the recipe default.")
