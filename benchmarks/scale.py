"""What workers cost: an evaluation by one process beside the same by workers of Ray, in one run.

    python benchmarks/scale.py --images 1024 --workers 2

Each side is `erkeras attack` with a record, as a user starts it, on the same number of threads. Rounds alternate the
sides. A side's time is that of its attacks: from the first part that begins to the last that ends, without the start of
TensorFlow, of Ray and of the workers, which is given apart. The records must have the same bytes.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import workers as processes

FILES = ("settings.json", "examples.jsonl", "images.npz")
PART = 128


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    processes.add_options(parser)
    parser.set_defaults(model=Path("saved_models/mnist-er-classifier-strong"))
    parser.add_argument("--images", type=int, default=1024)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("options", nargs="*", default=["--attack", "autoattack"], help="of erkeras attack, after --")
    options = parser.parse_args()
    processes.prepare("ray")
    with tempfile.TemporaryDirectory() as folder:
        results = compare(options, Path(folder))
    show(options, results)
    processes.write(results, options.json)


def compare(options: argparse.Namespace, folder: Path) -> dict[str, list[dict[str, float]]]:
    """Runs both sides, round after round."""
    sides = {"one process": [], "workers": ["--workers", str(options.workers)]}
    results: dict[str, list[dict[str, float]]] = {name: [] for name in sides}
    for number in range(options.rounds):
        records = []
        for name, more in sides.items():
            records.append(folder / f"{name} {number}".replace(" ", "-"))
            results[name].append(run(options, records[-1], more))
        for file in FILES:
            if (records[0] / file).read_bytes() != (records[1] / file).read_bytes():
                sys.exit(f"The records differ in {file}.")
    return results


def run(options: argparse.Namespace, record: Path, more: list[str]) -> dict[str, float]:
    """One evaluation: its seconds in all, those in attacks, summed over workers, and those of processors."""
    command = [sys.executable, "-m", "erkeras", "attack", str(options.model), "--limit", str(options.images)]
    command += [*options.options, "--record", str(record), *more]
    command += ["--dataset", options.dataset] if options.dataset else []
    if hasattr(os, "sched_setaffinity"):  # the threads of the side
        command = ["taskset", "-c", ",".join(map(str, sorted(os.sched_getaffinity(0))[: options.threads])), *command]
    started = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    seconds = time.perf_counter() - started
    attacked = json.loads((record / "result.json").read_text())["seconds"].values()
    return {"wall": seconds, "attacks": sum(attacked)}


def show(options: argparse.Namespace, results: dict[str, list[dict[str, float]]]) -> None:
    parts = math.ceil(options.images / PART)
    print(f"{options.images} images, {' '.join(options.options)}, {options.threads} threads, {parts} parts")
    for name, runs in results.items():
        for found in runs:
            print(f"{name:12} {found['wall']:8.1f} s in all, {found['attacks']:8.1f} s in attacks, summed over workers")
    alone, together = (statistics.median(found["wall"] for found in results[name]) for name in results)
    attacks = [statistics.median(found["attacks"] for found in results[name]) for name in results]
    # The workers' seconds of attacks run side by side.
    attacked = attacks[1] / options.workers
    print(f"ratio of images a second: {attacks[0] / attacked:.2f} in attacks, {alone / together:.2f} in all")
    print(f"seconds outside attacks: {alone - attacks[0]:.1f} and {together - attacked:.1f}")
    print(f"more than its attack for each part: {overhead(options):.3f} s")


def overhead(options: argparse.Namespace, parts: int = 16) -> float:
    """Seconds that a part of FGSM takes beside its attack: sent to the one worker, and sent back."""
    from erkeras import Evaluation, Progress
    from erkeras.cluster import Workers

    with Workers(1) as crew:
        made = Evaluation(options.model, "fgsm", dataset=options.dataset, limit=parts * PART)
        attacker = crew.hold(made.subject, False)
        attacker.begin(made.images, tuple(made.attacks), 0, PART, Progress())
        times, attacked = [time.perf_counter()], []
        for finished in attacker.attack(range(0, len(made.images), PART)):
            times.append(time.perf_counter())
            attacked.append(sum(finished.seconds))
        attacker.close()
    # The first part pays for what is compiled.
    between = [later - before for before, later in itertools.pairwise(times)]
    return statistics.mean(whole - attack for whole, attack in list(zip(between, attacked, strict=True))[1:])


if __name__ == "__main__":
    main()
