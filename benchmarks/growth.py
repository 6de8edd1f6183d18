"""How cost grows with work: attacks by images, densities by centres, a served model by the size of a request.

    python benchmarks/growth.py --model saved_models/mnist-er-classifier-strong

Each size has a process of its own, which does its work once before it is timed. So seconds have no tracing in them,
and peaks of memory are of that size alone. Of each kind a line is fitted, seconds = start + rate x size, by least
squares of the relative errors. `beyond` says by how much the largest size is above the line through the others: what
grows faster than the work would show there.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from workers import Worker, add_options, model_and_images, prepare, tensorflow_on, write

IMAGES = (64, 256, 1024, 4096)
CENTRES = (10**3, 10**4, 10**5, 10**6)
BATCHES = (1, 8, 64, 512)
#: Codes that are scored, and their size.
_CODES, _CODE_SIZE = 512, 64
#: Seconds that a request is repeated for.
_SECONDS = 2.0


def attack(options: argparse.Namespace, size: int) -> tuple[Callable[[], float], None]:
    """Seconds of an attack on so many test images."""
    tensorflow_on(options.threads, 1)
    from erkeras import attacks
    from erkeras.attacks.named import AttackSettings
    from erkeras.threat import ThreatModel

    model, split = model_and_images(options, size, 0)
    (attack,) = AttackSettings((options.attack,), iterations=options.iterations).make(ThreatModel("l_inf", 0.3))
    victim = attacks.as_victim(model)
    attack(victim, split.images[:1], split.labels[:1])

    def run() -> float:
        start = time.perf_counter()
        attack(victim, split.images, split.labels, indices=split.indices)
        return time.perf_counter() - start

    return run, None


def density(options: argparse.Namespace, size: int) -> tuple[Callable[[], float], None]:
    """Seconds of log densities under so many centres."""
    tf = tensorflow_on(options.threads)
    from erkeras.detection import ClassDensities

    random = np.random.RandomState(0)
    centres, codes = (random.normal(size=(n, _CODE_SIZE)).astype(np.float32) for n in (size, _CODES))
    densities = ClassDensities(centres, [size], 1.0)
    log_density = tf.function(densities.log_density, autograph=False)
    log_density(tf.constant(codes))

    def run() -> float:
        start = time.perf_counter()
        log_density(tf.constant(codes)).numpy()
        return time.perf_counter() - start

    return run, None


def request(options: argparse.Namespace, size: int) -> tuple[Callable[[], float], None]:
    """Seconds of the signature `detect` on so many images."""
    tf = tensorflow_on(options.threads)
    from erkeras.saved import newest_version

    _, split = model_and_images(options, size, 0)
    loaded = tf.saved_model.load(str(options.model / str(newest_version(options.model))))
    detect, images = loaded.signatures["detect"], tf.constant(split.images)
    detect(images=images)

    def run() -> float:
        seconds = []
        end = time.perf_counter() + _SECONDS
        while time.perf_counter() < end or len(seconds) < 3:
            start = time.perf_counter()
            detect(images=images)
            seconds.append(time.perf_counter() - start)
        return float(np.median(seconds))

    return run, None


KINDS = {"attack": (attack, IMAGES), "density": (density, CENTRES), "request": (request, BATCHES)}


def measure(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Each kind by size; what `show` prints, ready for JSON."""
    results = []
    for kind in options.kinds:
        side, sizes = KINDS[kind]
        rows = []
        for size in sizes:
            worker = Worker(side, options, size)
            rows.append({"size": size, "seconds": worker.ask(), "mib": worker.peak_mib})
            worker.close()
        results.append({"kind": kind, "rows": rows, **line(rows)})
    return results


def line(rows: list[dict[str, Any]]) -> dict[str, float]:
    """The start and the rate of a line, and how far the largest size lies above the line through the others."""
    size, seconds = (np.array([row[name] for row in rows], float) for name in ("size", "seconds"))

    def fit(some: slice) -> Any:
        columns = np.stack([np.ones_like(size[some]), size[some]], axis=1)
        return np.linalg.lstsq(columns / seconds[some, np.newaxis], np.ones(len(size[some])), rcond=None)[0]

    start, rate = fit(slice(None))
    before = fit(slice(-1))
    return {"start": start, "rate": rate, "beyond": seconds[-1] / (before @ [1.0, size[-1]]) - 1}


def show(results: list[dict[str, Any]]) -> None:
    """Prints the tables."""
    from rich.console import Console
    from rich.table import Table

    for found in results:
        table = Table(
            title=f"{found['kind']}: {found['start']:.4f} s and {1000 * found['rate']:.4f} ms each, the largest "
            f"{100 * found['beyond']:+.0f}% beyond the line through the others"
        )
        for column in ("size", "seconds", "ms each", "peak MiB"):
            table.add_column(column, justify="right")
        for row in found["rows"]:
            each = f"{1000 * row['seconds'] / row['size']:.4f}"
            table.add_row(f"{row['size']:,}", f"{row['seconds']:.4f}", each, f"{row['mib']:,.0f}")
        Console(highlight=False).print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--attack", default="apgd-ce", help="named as for erkeras attack")
    parser.add_argument("--iterations", type=int, help="of the attack")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    add_options(parser)
    options = parser.parse_args()
    prepare()
    results = measure(options)
    show(results)
    write(results, options.json)


if __name__ == "__main__":
    main()
