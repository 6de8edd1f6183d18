"""Class densities of erkeras against scikit-learn's KernelDensity, the same codes and centres, on the CPU.

    python benchmarks/detector.py --json detector.json

Random codes about ten means, one Gaussian kernel density on all the centres, as a detector has for a class. Each side
has a process of its own. scikit-learn runs twice: as it comes (`rtol=0`, a tree with leaves of 40 points), whose bounds
lose digits, and with a single leaf, which is exact. It scores the first `--queries-of-scikit-learn` codes alone, and
its seconds are taken to all: it scores one code after another. Values are compared on those codes.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import numpy as np
from workers import Worker, add_options, prepare, tensorflow_on, write

CODE_SIZES = (16, 500)
TOLERANCE = 1e-6
#: What ours has to be, than scikit-learn as it comes.
TIMES_FASTER = 50


def codes_of(size: int, options: argparse.Namespace) -> tuple[np.ndarray, np.ndarray, float]:
    """Centres, codes and a bandwidth like those that cross-validation finds: a tenth of the usual distance."""
    random = np.random.RandomState(options.seed)
    means = 2 * random.normal(size=(10, size))
    centres, codes = (
        (means[np.arange(count) % 10] + random.normal(size=(count, size))).astype(np.float32)
        for count in (options.centres, options.codes)
    )
    return centres, codes, 0.1 * float(np.sqrt(2 * size))


def ours(options: argparse.Namespace) -> tuple[Callable[[int], dict[str, Any]], None]:
    tf = tensorflow_on(options.threads)
    from erkeras.detection import ClassDensities

    def score(size: int) -> dict[str, Any]:
        centres, codes, bandwidth = codes_of(size, options)
        densities = ClassDensities(centres, [len(centres)], bandwidth)
        log_density = tf.function(densities.log_density, autograph=False, reduce_retracing=True)
        log_density(tf.constant(codes[:600]))  # traces
        start = time.perf_counter()
        found = log_density(tf.constant(codes)).numpy()[:, 0]
        return {"seconds": time.perf_counter() - start, "found": found}

    return score, None


def theirs(options: argparse.Namespace, leaf_size: int) -> tuple[Callable[[int], dict[str, Any]], None]:
    from sklearn.neighbors import KernelDensity

    def score(size: int) -> dict[str, Any]:
        centres, codes, bandwidth = codes_of(size, options)
        count = min(options.queries_of_scikit_learn, len(codes))
        density = KernelDensity(bandwidth=bandwidth, rtol=0, leaf_size=leaf_size).fit(centres.astype(np.float64))
        start = time.perf_counter()
        found = density.score_samples(codes[:count].astype(np.float64))
        return {"seconds": (time.perf_counter() - start) * len(codes) / count, "found": found}

    return score, None


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Both sides, one after the other; what `show` prints, ready for JSON."""
    sides = {
        "erkeras": (ours, options),
        "scikit-learn": (theirs, options, 40),
        "one leaf": (theirs, options, options.centres + 1),
    }
    rows = []
    for size in CODE_SIZES:
        row: dict[str, Any] = {"code_size": size, "seconds": {}, "MiB": {}, "relative difference from one leaf": {}}
        found = {}
        for name, side in sides.items():
            worker = Worker(*side)
            result = worker.ask(size)
            row["seconds"][name], row["MiB"][name] = result["seconds"], worker.peak_mib
            found[name] = result["found"]
            worker.close()
        exact = found["one leaf"]
        for name in ("erkeras", "scikit-learn"):
            difference = np.abs(found[name][: len(exact)] - exact) / np.abs(exact)
            row["relative difference from one leaf"][name] = float(difference.max())
        rows.append(row)
    versions = {name: version(name) for name in ("tensorflow", "scikit-learn", "numpy")}
    return {"options": vars(options), "versions": versions, "rows": rows}


def show(results: dict[str, Any]) -> None:
    """Prints the table."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title="{codes:,} codes against {centres:,} centres, {threads} threads".format(**results["options"]))
    table.add_column("code size", justify="right")
    table.add_column("by", no_wrap=True)
    for column in ("seconds", "times ours", "MiB", "relative difference"):
        table.add_column(column, justify="right")
    for row in results["rows"]:
        for name, seconds in row["seconds"].items():
            difference = row["relative difference from one leaf"].get(name)
            table.add_row(
                str(row["code_size"]),
                name,
                f"{seconds:.2f}",
                f"{seconds / row['seconds']['erkeras']:.1f}",
                f"{row['MiB'][name]:,.0f}",
                "" if difference is None else f"{difference:.1e}",
            )
    Console(highlight=False).print(table)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--codes", type=int, default=10_000)
    parser.add_argument("--centres", type=int, default=60_000)
    parser.add_argument("--queries-of-scikit-learn", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    add_options(parser, of_a_model=False)
    options = parser.parse_args()
    prepare("sklearn")
    results = measure(options)
    show(results)
    write(results, options.json)
    return int(
        any(
            row["relative difference from one leaf"]["erkeras"] > TOLERANCE
            or row["seconds"]["scikit-learn"] < TIMES_FASTER * row["seconds"]["erkeras"]
            for row in results["rows"]
        )
    )


if __name__ == "__main__":
    sys.exit(main())
