"""Settings that have no effect with the others: refused, so that nobody believes in them."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from erkeras.errors import InputError
from erkeras.recipes.network import network_kind
from erkeras.recipes.recipe import Recipe


def _attacked(recipe: Recipe) -> bool:
    return recipe.epsilon * recipe.training_ratio > 0


def _regularized(recipe: Recipe) -> bool:
    return recipe.coefficient > 0


#: Setting -> whether it does anything, and what it needs.
_NEEDS: dict[str, tuple[Callable[[Recipe], bool], str]] = {
    "beta": (lambda recipe: recipe.objective == "trades", "the defense trades or er-trades"),
    "clean_fraction": (_attacked, "training on attacked images"),
    "bfloat16": (
        lambda recipe: _attacked(recipe) and not recipe.mixed_precision,
        "training on attacked images, and in float32: mixed precision has bfloat16 in all passes",
    ),
    "structured": (_attacked, "training on attacked images"),
    "steps": (_attacked, "training on attacked images"),
    "weight_decay": (lambda recipe: recipe.optimizer != "adam", "the optimizer adamw or sgd"),
    "mixed_precision": (
        lambda recipe: network_kind(recipe.network) != "file",
        "another network than FILE.keras, whose layers have a precision of their own",
    ),
    "momentum": (lambda recipe: recipe.optimizer == "sgd", "the optimizer sgd"),
    "regularizer": (_regularized, "a coefficient above 0"),
    "coupling": (
        lambda recipe: _regularized(recipe) and recipe.regularizer != "gaussian-kl",
        "a coefficient above 0 and another regularizer than gaussian-kl",
    ),
    "code_layer": (lambda recipe: network_kind(recipe.network) != "name", "the network MODULE:FUNCTION or FILE.keras"),
    "code_size": (
        lambda recipe: recipe.bottleneck and network_kind(recipe.network) != "file",
        "a defense with a code, and another network than FILE.keras, which has a code size of its own",
    ),
}


def check_effect(recipe: Recipe, given: Iterable[str]) -> None:
    """Checks that each setting does something in a recipe.

    Args:
        recipe: with the settings in it.
        given: names of the settings that were asked for.

    Raises:
        InputError: for the first that does nothing.
    """
    for name in given:
        works, needs = _NEEDS.get(name, (lambda recipe: True, ""))
        if getattr(recipe, name) and not works(recipe):
            raise InputError(
                f"{name.replace('_', ' ')} was given, and has no effect with the defense {recipe.defense} and its "
                f"other settings: it needs {needs}."
            )
