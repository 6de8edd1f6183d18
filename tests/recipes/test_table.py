import dataclasses

import numpy as np
import pytest

from erkeras.errors import InputError
from erkeras.recipes import DEFENSES, RECIPE_NAMES, TITLES, Recipe, find_recipe

SETS = {
    "digits": (8, 8, 1),
    "mnist": (28, 28, 1),
    "cifar10": (32, 32, 3),
    "stl10": (96, 96, 3),
    "tiny_imagenet:somewhere:10": (64, 64, 3),
}


@pytest.mark.parametrize(
    ("name", "dataset", "defense", "setting", "value"),
    [
        ("default", "mnist", "er-classifier-minus", "coefficient", 0.1),  # chosen on validation images
        ("paper", "mnist", "er-classifier-minus", "coefficient", 5e-4),
        ("default", "mnist", "rse", "noise", 0.4),
        ("default", "cifar10", "rse", "noise", 0.2),  # Liu et al.'s
        ("paper", "mnist", "trades", "beta", 1.0),  # Zhang et al.'s
        ("paper", "cifar10", "er-trades", "beta", 6.0),
    ],
)
def test_rows_have_what_was_chosen_for_them_or_their_papers_settings(name, dataset, defense, setting, value):
    assert getattr(find_recipe(name, dataset, SETS[dataset], defense), setting) == value


def test_recipes_are_chosen_by_the_kind_of_set():
    paper = {name: find_recipe("paper", name, shape) for name, shape in SETS.items() if name != "digits"}
    settings = ("code_size", "batch_size", "learning_rate", "coefficient", "epsilon", "augment")
    assert {name: tuple(getattr(recipe, setting) for setting in settings) for name, recipe in paper.items()} == {
        "mnist": (4, 100, 1e-4, 5e-4, 0.3, False),
        "cifar10": (16, 100, 5e-5, 0.1, 0.03, True),
        "stl10": (16, 64, 5e-5, 0.1, 0.03, True),
        "tiny_imagenet:somewhere:10": (64, 100, 5e-5, 0.1, 0.01, True),
    }
    steps = [(recipe.steps, recipe.epochs, recipe.step_ratio * recipe.epsilon) for recipe in paper.values()]
    np.testing.assert_allclose(steps, [(40, 30, 0.01), (20, 30, 0.01), (20, 30, 0.0078), (20, 30, 0.01 / 3)])
    for place in ("", ":somewhere", "::10"):
        name = f"tiny_imagenet{place}"
        assert find_recipe("default", name, (64, 64, 3)) == find_recipe("default", "tiny_imagenet", (64, 64, 3))
    assert find_recipe("default", "tiny_imagenet", (64, 64, 3)).epsilon == 0.01
    assert find_recipe("default", "folder:x", (64, 64, 3)) == find_recipe("default", "cifar10", (32, 32, 3))
    assert not find_recipe("default", "mnist", (28, 28, 1)).augment
    with pytest.raises(InputError, match="is for mnist, cifar10, stl10, tiny_imagenet, not for digits"):
        find_recipe("paper", "digits", (8, 8, 1))
    with pytest.raises(InputError, match="there is no recipe 'best'"):
        find_recipe("best", "digits", (8, 8, 1))


def differing(recipe, other):
    """The settings in which one recipe is not the other."""
    first, second = (dataclasses.asdict(part) for part in (recipe, other))
    return {name: value for name, value in first.items() if value != second[name]}


def test_our_own_recipes_are_those_whose_figures_docs_results_gives():
    least = Recipe("digits", 16, 60, 64, 0.15)
    digits, mnist, cifar10 = (find_recipe("default", name, SETS[name]) for name in ("digits", "mnist", "cifar10"))
    assert differing(digits, least) == {
        "training_ratio": 4 / 3,
        "learning_rate": 3e-3,
        "critic_units": (128, 128, 128, 128),
    }
    assert differing(mnist, Recipe("mnist", 16, 20, 128, 0.3)) == {
        "training_ratio": 7 / 6,
        "beta": 3.0,
        "coefficient": 0.3,
    }
    assert differing(cifar10, Recipe("colour", 16, 30, 128, 0.03)) == {
        "epsilon_warm_up": 0.1,
        "learning_rate": 1e-3,
        "augment": True,
    }
    assert differing(find_recipe("strong", "mnist", SETS["mnist"]), mnist) == {
        "network": "mnist-deep",
        "epochs": 40,
        "training_ratio": 4 / 3,
        "learning_rate": 1.5e-3,
        "bfloat16": True,
        "structured": 0.6,
        "averaging": 0.999,
    }
    strong = find_recipe("strong", "cifar10", SETS["cifar10"])
    assert strong.epsilon * strong.training_ratio == pytest.approx(8 / 255)
    assert strong.epsilon * strong.training_ratio * strong.step_ratio == pytest.approx(0.0118)
    assert strong.weight_decay == pytest.approx(5e-4 / (1 - strong.momentum))


def test_the_papers_recipes_have_the_learning_rates_of_the_authors_and_no_schedule():
    settings = ("learning_rate", "critic_learning_rate", "regularizer_learning_rate", "one_cycle", "epsilon_warm_up",
                "coupling")  # fmt: skip
    found = {name: find_recipe("paper", name, SETS[name]) for name in ("mnist", "cifar10", "stl10")}
    assert {name: tuple(getattr(recipe, setting) for setting in settings) for name, recipe in found.items()} == {
        "mnist": (1e-4, 5e-5, 1e-4, False, 0.0, "separate"),
        "cifar10": (5e-5, 2.5e-5, 5e-5, False, 0.0, "separate"),
        "stl10": (5e-5, 2.5e-5, 5e-5, False, 0.0, "separate"),
    }
    assert {name: recipe.network for name, recipe in found.items()} == {
        "mnist": "mnist-large",
        "cifar10": "vgg19",
        "stl10": "stl10",
    }


@pytest.mark.parametrize(
    ("defense", "changes"),
    [
        ("er-classifier", {}),
        ("er-classifier-minus", {"training_ratio": 0.0}),
        ("er-trades", {"objective": "trades"}),
        ("madry", {"coefficient": 0.0}),
        ("trades", {"coefficient": 0.0, "objective": "trades"}),
        ("e-cla", {"coefficient": 0.0, "training_ratio": 0.0}),
        ("vae-cla", {"regularizer": "gaussian-kl", "coefficient": 0.1, "training_ratio": 0.0}),
        ("rse", {"coefficient": 0.0, "training_ratio": 0.0, "noise": 0.2, "passes": 50}),
        ("none", {"coefficient": 0.0, "training_ratio": 0.0, "bottleneck": False}),
        (
            "defense-gan",
            {"coefficient": 0.0, "training_ratio": 0.0, "bottleneck": False, "generator_updates": 2500},
        ),
    ],
)
def test_a_row_changes_what_the_paper_changes_and_no_more(defense, changes):
    recipe = find_recipe("paper", "mnist", SETS["mnist"])
    row = find_recipe("paper", "mnist", SETS["mnist"], defense)
    assert row.defense == defense
    expected = {name: value for name, value in changes.items() if value != getattr(recipe, name)}
    assert {name: value for name, value in differing(row, recipe).items() if name != "defense"} == expected


def test_every_row_is_in_the_test_above_and_has_a_title():
    assert len(DEFENSES) == 10
    assert set(TITLES) == set(DEFENSES)
    with pytest.raises(InputError, match="there is no defense 'best': give one of er-classifier, "):
        find_recipe("default", "digits", (8, 8, 1), "best")
    assert RECIPE_NAMES == ("default", "strong", "paper")
    sets = "mnist, cifar10, stl10, tiny_imagenet"
    with pytest.raises(InputError, match=f"the recipe 'strong' is for {sets}, not for digits: give the recipe default"):
        find_recipe("strong", "digits", (8, 8, 1))


@pytest.mark.parametrize(
    ("shape", "like"),
    [((8, 8, 1), "digits"), ((16, 16, 3), "digits"), ((17, 8, 1), "mnist"), ((28, 28, 1), "mnist"),
     ((17, 17, 3), "cifar10"), ((64, 64, 3), "cifar10")],
)  # fmt: skip
def test_a_set_of_ones_own_takes_the_recipe_of_the_set_most_like_it(shape, like):
    for name in ("npz:mine.npz", "folder:mine", "tfds:mine/small"):
        assert find_recipe("default", name, shape) == find_recipe("default", like, SETS[like])
