"""Class densities of erkeras against scikit-learn's KernelDensity, the same codes and centres, on the CPU.

    python benchmarks/detector.py --json detector.json

Random codes of ten classes, one Gaussian kernel density for all their centres, as a detector has for a class. Each side
has a process of its own. scikit-learn scores so many codes that a run takes a while and no day, the first of ours
(`--queries-of-scikit-learn`), and its seconds are taken to all of them: its time is that of one code after another.
Values are compared on those that both scored.
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
#: What ours has to be.
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


def theirs(options: argparse.Namespace) -> tuple[Callable[[int], dict[str, Any]], None]:
    from sklearn.neighbors import KernelDensity

    def score(size: int) -> dict[str, Any]:
        centres, codes, bandwidth = codes_of(size, options)
        count = min(options.queries_of_scikit_learn, len(codes))
        density = KernelDensity(bandwidth=bandwidth, rtol=0).fit(centres.astype(np.float64))
        start = time.perf_counter()
        found = density.score_samples(codes[:count].astype(np.float64))
        return {"seconds": (time.perf_counter() - start) * len(codes) / count, "found": found}

    return score, None


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Both sides, one after the other; what `show` prints, ready for JSON."""
    rows = []
    for size in CODE_SIZES:
        row: dict[str, Any] = {"code_size": size}
        found = []
        for name, side in (("erkeras", ours), ("scikit-learn", theirs)):
            worker = Worker(side, options)
            result = worker.ask(size)
            row[f"seconds of {name}"] = result["seconds"]
            row[f"MiB of {name}"] = worker.peak_mib
            found.append(result["found"])
            worker.close()
        shared = found[0][: len(found[1])]
        row["times faster"] = row["seconds of scikit-learn"] / row["seconds of erkeras"]
        row["relative difference"] = float(np.max(np.abs(shared - found[1]) / np.abs(found[1])))
        rows.append(row)
    versions = {name: version(name) for name in ("tensorflow", "scikit-learn", "numpy")}
    return {"options": vars(options), "versions": versions, "rows": rows}


def show(results: dict[str, Any]) -> None:
    """Prints the table."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title="{codes:,} codes against {centres:,} centres, {threads} threads".format(**results["options"]))
    columns = ("code size", "erkeras, s", "scikit-learn, s", "times faster", "erkeras, MiB", "relative difference")
    for column in columns:
        table.add_column(column, justify="right")
    for row in results["rows"]:
        table.add_row(
            str(row["code_size"]),
            f"{row['seconds of erkeras']:.2f}",
            f"{row['seconds of scikit-learn']:.1f}",
            f"{row['times faster']:.0f}",
            f"{row['MiB of erkeras']:,.0f}",
            f"{row['relative difference']:.1e}",
        )
    Console(highlight=False).print(table)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--codes", type=int, default=10_000)
    parser.add_argument("--centres", type=int, default=60_000)
    parser.add_argument("--queries-of-scikit-learn", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    add_options(parser, of_a_model=False)
    options = parser.parse_args()
    prepare("sklearn")
    results = measure(options)
    show(results)
    write(results, options.json)
    slow = any(row["times faster"] < TIMES_FASTER for row in results["rows"])
    return int(slow or any(row["relative difference"] > TOLERANCE for row in results["rows"]))


if __name__ == "__main__":
    sys.exit(main())
