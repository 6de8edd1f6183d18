"""Settings that do nothing are refused; where they do something, they are taken."""

import dataclasses

import pytest

from erkeras.errors import InputError
from erkeras.recipes import DEFENSES, Recipe, check_effect, find_recipe

PLAIN = find_recipe("default", "digits", (8, 8, 1))
UNATTACKED = {"training_ratio": 0.0}
UNREGULARIZED = {"coefficient": 0.0}
ATTACKED_IMAGES = "training on attacked images"

#: Setting, its value, the recipe where it does nothing, what it needs.
REFUSED = [
    ("beta", 3.0, {}, "the defense trades or er-trades"),
    *(
        (name, value, recipe, ATTACKED_IMAGES)
        for name, value in (("clean_fraction", 0.5), ("structured", 0.6), ("steps", 3))
        for recipe in (UNATTACKED, {"epsilon": 0.0})
    ),
    *(
        ("bfloat16", True, recipe, "in float32: mixed precision has bfloat16 in all passes")
        for recipe in (UNATTACKED, {"epsilon": 0.0}, {"mixed_precision": True})
    ),
    ("regularizer", "mmd", UNREGULARIZED, "a coefficient above 0"),
    ("coupling", "joint", UNREGULARIZED, "a coefficient above 0 and another regularizer than gaussian-kl"),
    ("weight_decay", 1e-3, {}, "the optimizer adamw or sgd"),
    ("momentum", 0.8, {}, "the optimizer sgd"),
    ("momentum", 0.8, {"optimizer": "adamw"}, "the optimizer sgd"),
    ("coupling", "separate", {"regularizer": "gaussian-kl"}, "another regularizer than gaussian-kl"),
    (
        "mixed_precision",
        True,
        {"network": "mine.keras"},
        "another network than FILE.keras, whose layers have a precision of their own",
    ),
    ("code_layer", "pool", {}, "the network MODULE:FUNCTION or FILE.keras"),
    ("code_size", 8, {"network": "mine.keras"}, "another network than FILE.keras, which has a code size of its own"),
    ("code_size", 8, {"bottleneck": False, "coefficient": 0.0}, "which has a code size of its own"),
]
#: Setting, its value, a recipe where it does something.
TAKEN = [
    ("beta", 3.0, {"objective": "trades"}),
    ("clean_fraction", 0.5, {}),
    ("bfloat16", True, {}),
    ("structured", 0.6, {}),
    ("steps", 3, {}),
    ("steps", 3, UNREGULARIZED),
    ("regularizer", "mmd", {}),
    ("regularizer", "gaussian-kl", UNATTACKED),
    ("coupling", "separate", {}),
    ("coupling", "joint", {"regularizer": "mmd"}),
    ("momentum", 0.8, {"optimizer": "sgd"}),
    ("weight_decay", 1e-3, {"optimizer": "sgd"}),
    ("weight_decay", 1e-3, {"optimizer": "adamw"}),
    ("code_layer", "pool", {"network": "mine.keras"}),
    ("mixed_precision", True, {}),
    ("mixed_precision", True, {"network": "nets:build"}),
    ("code_layer", "pool", {"network": "nets:build"}),
    ("code_size", 8, {}),
    ("code_size", 8, {"network": "nets:build"}),
]


def recipe_with(name, value, changes):
    return dataclasses.replace(PLAIN, **{**changes, name: value})


@pytest.mark.parametrize(("name", "value", "changes", "needs"), REFUSED, ids=str)
def test_a_setting_without_effect_is_refused_with_what_it_needs(name, value, changes, needs):
    recipe = recipe_with(name, value, changes)
    with pytest.raises(InputError) as caught:
        check_effect(recipe, [name])
    message = str(caught.value)
    words = name.replace("_", " ")
    assert message.startswith(f"{words} was given, and has no effect with the defense er-classifier and its other")
    assert message.endswith(f"{needs}.")


@pytest.mark.parametrize(("name", "value", "changes"), TAKEN, ids=str)
def test_a_setting_with_effect_is_taken(name, value, changes):
    check_effect(recipe_with(name, value, changes), [name])


@pytest.mark.parametrize(("name", "value", "changes", "needs"), REFUSED, ids=str)
def test_what_nobody_gave_is_nobodys_fault(name, value, changes, needs):
    """A row of the tables may hold a setting that its other ones take the effect from."""
    check_effect(recipe_with(name, value, changes), [])
    check_effect(recipe_with(name, value, changes), ["epochs"])


@pytest.mark.parametrize(("name", "value"), [("bfloat16", False), ("clean_fraction", 0.0), ("structured", 0.0)])
def test_nothing_asked_for_is_nothing_without_effect(name, value):
    check_effect(recipe_with(name, value, UNATTACKED), [name])


@pytest.mark.parametrize("name", [field.name for field in dataclasses.fields(Recipe)])
def test_every_setting_does_something_for_an_er_trades_with_all_of_them(name):
    check_effect(dataclasses.replace(PLAIN, objective="trades", bfloat16=True, structured=0.5, optimizer="sgd"), [name])


def test_the_first_of_several_is_named():
    recipe = dataclasses.replace(PLAIN, training_ratio=0.0, steps=3, structured=0.5)
    with pytest.raises(InputError, match=r"^structured was given"):
        check_effect(recipe, ["epochs", "structured", "steps"])
    with pytest.raises(InputError, match=r"^steps was given"):
        check_effect(recipe, ["steps", "structured"])


@pytest.mark.parametrize("defense", DEFENSES)
def test_each_row_takes_the_settings_that_make_it(defense):
    """What a row says of itself has an effect in it, where it is no zero."""
    recipe = find_recipe("default", "digits", (8, 8, 1), defense)
    check_effect(recipe, [name for name, value in DEFENSES[defense].items() if value])
