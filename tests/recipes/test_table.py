import numpy as np
import pytest

from erkeras.errors import InputError
from erkeras.recipes import find_recipe

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
