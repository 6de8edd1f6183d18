"""What a recipe's training costs on this machine: a few steps of each on generated images, taken to the whole.

    python benchmarks/recipes.py --recipe paper

A pass is one image through encoder and classifier, forward or backward. A step's time is linear in its PGD steps, so
that those of a long PGD are not all run: 1 and 5 are timed, and taken to the recipe's.
"""

from __future__ import annotations

import argparse
import dataclasses
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

from rich.console import Console
from rich.table import Table
from workers import Worker, add_options, prepare, tensorflow_on, write

#: data set -> image shape, classes, training images
DATASETS = {
    "digits": ((8, 8, 1), 10, 1_149),
    "mnist": ((28, 28, 1), 10, 55_000),
    "cifar10": ((32, 32, 3), 10, 45_000),
    "stl10": ((96, 96, 3), 10, 4_500),
    "tiny_imagenet": ((64, 64, 3), 200, 90_000),
}

#: PGD steps that are timed where the recipe has more than the second
FEW, SEVERAL = 1, 5


def training(options: argparse.Namespace, dataset: str) -> tuple[Callable[[int], dict[str, Any]], None]:
    """In a process of its own: what measures so many steps of a recipe's training."""
    tf = tensorflow_on(options.threads)
    from erkeras.recipes import find_recipe
    from erkeras.training import build_model

    shape, classes, images = DATASETS[dataset]
    recipe = find_recipe(options.recipe, dataset, shape)
    steps_per_epoch = images // recipe.batch_size
    size = recipe.batch_size
    batch = (
        tf.random.stateless_uniform([size, *shape], [0, 1]),
        tf.random.stateless_uniform([size], [0, 2], 0, classes, tf.int32),
    )

    def seconds(pgd_steps: int, steps: int) -> float:
        model = build_model(dataclasses.replace(recipe, steps=pgd_steps), shape, classes, steps_per_epoch, seed=0)
        model.make_train_function()
        batches = iter(tf.data.Dataset.from_tensors(batch).repeat())
        model.train_function(batches)  # traces
        times = []
        for _ in range(steps):
            started = time.perf_counter()
            model.train_function(batches)
            times.append(time.perf_counter() - started)
        return statistics.median(times)

    def measure(steps: int) -> dict[str, Any]:
        if recipe.steps <= SEVERAL:
            step = seconds(recipe.steps, steps)
        else:
            few, several = seconds(FEW, steps), seconds(SEVERAL, steps)
            step = few + (several - few) * (recipe.steps - FEW) / (SEVERAL - FEW)
        line_9 = recipe.coupling == "separate"  # of the encoder alone, counted as a whole pass
        forward = 1 + recipe.steps + 1 + line_9  # for the log, line 4, lines 6 to 8, line 9
        backward = recipe.steps + 1 + line_9
        return {
            "recipe": dataclasses.asdict(recipe),
            "step_seconds": step,
            "hours": step * recipe.epochs * steps_per_epoch / 3600,
            "million_passes": recipe.epochs * steps_per_epoch * size * (forward + backward) / 1e6,
        }

    return measure, None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_options(parser, of_a_model=False)
    parser.add_argument("--recipe", default="paper", help="default, strong or paper")
    parser.add_argument(
        "--dataset", action="append", choices=list(DATASETS), help="all that have the recipe by default"
    )
    parser.add_argument("--steps", type=int, default=3, help="that are timed")
    options = parser.parse_args()
    prepare()
    from erkeras.errors import InputError
    from erkeras.recipes import find_recipe

    results = {}
    for dataset, (shape, _, _) in DATASETS.items():
        if options.dataset and dataset not in options.dataset:
            continue
        try:
            find_recipe(options.recipe, dataset, shape)
        except InputError:
            continue
        print(f"timing {dataset}", file=sys.stderr)
        worker = Worker(training, options, dataset)
        results[dataset] = {**worker.ask(options.steps), "peak_mib": worker.peak_mib}
        worker.close()
    columns = ["data set", "network", "epochs", "batch", "seconds a step", "hours in all", "million passes", "peak MiB"]
    table = Table(*columns, title=f"Training by the recipe {options.recipe}, {options.threads} threads")
    for dataset, found in results.items():
        table.add_row(
            dataset,
            *(str(found["recipe"][name]) for name in ("network", "epochs", "batch_size")),
            f"{found['step_seconds']:.2f}",
            f"{found['hours']:.1f}",
            f"{found['million_passes']:,.0f}",
            f"{found['peak_mib']:,.0f}",
        )
    Console(width=130).print(table)
    write(results, options.json)


if __name__ == "__main__":
    main()
