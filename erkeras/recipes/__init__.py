"""Settings of training as data: one row for each data set and recipe. Nothing here computes."""

from erkeras.recipes.effect import check_effect
from erkeras.recipes.job import Job
from erkeras.recipes.network import NETWORK_NAMES, network_kind
from erkeras.recipes.place import Place, find_place
from erkeras.recipes.recipe import Recipe
from erkeras.recipes.table import DEFENSES, RECIPE_NAMES, REGULARIZERS, TITLES, find_recipe

__all__ = [
    "DEFENSES",
    "NETWORK_NAMES",
    "RECIPE_NAMES",
    "REGULARIZERS",
    "TITLES",
    "Job",
    "Place",
    "Recipe",
    "check_effect",
    "find_place",
    "find_recipe",
    "network_kind",
]
