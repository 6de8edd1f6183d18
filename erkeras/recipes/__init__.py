"""Settings of training as data: one row for each data set and recipe. Nothing here computes."""

from erkeras.recipes.recipe import Recipe
from erkeras.recipes.table import RECIPE_NAMES, find_recipe

__all__ = ["RECIPE_NAMES", "Recipe", "find_recipe"]
