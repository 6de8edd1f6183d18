"""RayS of erkeras against the original in PyTorch, on the same network and images, on the CPU.

    git clone https://github.com/uclaml/RayS
    python benchmarks/rays.py --original RayS --model saved_models/mnist-er-classifier

The weights of a Keras model are carried over to PyTorch, and both give the same logits to 1e-4. Each side has a
process of its own and attacks the same test images, those that are classified correctly. The average decision
boundary distance (ADBD) is the mean l_inf distance to the nearest adversarial image found, in pixels' units: less is
a stronger attack. The original's RayS.py runs as it is; its calls of `.cuda()` and its progress bar are made to do
nothing. It ends the bisection that it is in when its queries are spent, and so makes up to some twenty more.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
import time
import types
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from networks import Layer, check_logits, plain_layers, torch_network
from workers import Worker, add_options, model_and_images, prepare, tensorflow_on, write

SAMPLE_SEED = 0

Result = dict[str, Any]
Attack = Callable[[], Result]


class Task(NamedTuple):
    """What the erkeras side hands over to the other: the network, and images that it classifies correctly."""

    layers: list[Layer]
    images: np.ndarray
    labels: np.ndarray
    logits: np.ndarray


def erkeras_side(options: argparse.Namespace) -> tuple[Attack, Task]:
    tensorflow_on(options.threads)
    from erkeras import ThreatModel
    from erkeras.attacks import RayS, Victim

    model, split = model_and_images(options, options.images, SAMPLE_SEED)
    victim = Victim(model)
    logits = victim.outputs_for(split.images)
    right = logits.argmax(axis=1) == split.labels
    task = Task(plain_layers(model), split.images[right], split.labels[right], logits[right])
    attack = RayS(ThreatModel("l_inf", options.epsilon), queries=options.queries)

    def run() -> Result:
        start = time.perf_counter()
        attacked = attack(victim, task.images, task.labels)
        seconds = time.perf_counter() - start
        # Where nothing was found the image came back as it was; the farthest that a pixel can go is 1.
        distances = np.where(attacked.predictions == task.labels, 1.0, attacked.distance)
        return {"seconds": seconds, "distances": distances.tolist(), "queries": (attacked.queries - 1).tolist()}

    return run, task


def original_side(options: argparse.Namespace, task: Task) -> tuple[Attack, None]:
    import torch

    torch.set_num_threads(options.threads)
    torch.set_flush_denormal(True)  # as TensorFlow does
    torch.Tensor.cuda = lambda tensor, *_, **__: tensor
    bar = types.ModuleType("pgbar")
    bar.progress_bar = lambda *_: None  # type: ignore[attr-defined]
    sys.modules["pgbar"] = bar
    spec = importlib.util.spec_from_file_location("original_rays", options.original / "RayS.py")
    assert spec is not None
    assert spec.loader is not None
    original = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(original)

    images = torch.from_numpy(np.ascontiguousarray(task.images.transpose(0, 3, 1, 2)))
    labels = torch.from_numpy(task.labels.astype(np.int64))
    network = torch_network(task.layers, torch.contiguous_format).requires_grad_(False).eval()
    check_logits(task.logits, network(images).numpy())

    class Model:
        """What RayS.py asks of a model."""

        def predict_label(self, images: torch.Tensor) -> torch.Tensor:
            return network(images).argmax(1)

    def run() -> Result:
        attack = original.RayS(Model(), epsilon=options.epsilon)
        start = time.perf_counter()
        with torch.no_grad():
            found, _, distances, _ = attack(images, labels, query_limit=options.queries)
            seconds = time.perf_counter() - start
            wrong = network(found).argmax(1) != labels
        distances = torch.where(wrong, distances, 1.0)
        return {"seconds": seconds, "distances": distances.tolist(), "queries": attack.queries.tolist()}

    return run, None


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Both sides, one after the other; what `show` prints, ready for JSON."""
    ours = Worker(erkeras_side, options)
    theirs = Worker(original_side, options, ours.message)
    sides = {}
    for name, worker in {"erkeras": ours, "original": theirs}.items():
        run = worker.ask()
        distances = np.array(run["distances"])
        sides[name] = {
            "adbd": float(distances.mean()),
            "robust_accuracy": float((distances > options.epsilon).sum() / options.images),
            "seconds": run["seconds"],
            "peak_memory_mib": worker.peak_mib,
            "queries": float(np.mean(run["queries"])),
            "run": run,
        }
        worker.close()
    return {
        "options": vars(options),
        "versions": {name: version(name) for name in ("tensorflow", "keras", "torch")},
        "attacked": len(ours.message.images),
        "sides": sides,
        "ratio": sides["erkeras"]["adbd"] / sides["original"]["adbd"],
    }


def show(results: dict[str, Any]) -> None:
    """Prints the table."""
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    title = "RayS, {queries:,} queries, {images} images, epsilon {epsilon:g}, {threads} threads"
    table = Table(title=title.format(**results["options"]))
    table.add_column("by", no_wrap=True)
    for column in ("ADBD", "robust accuracy", "queries an image", "seconds", "MiB"):
        table.add_column(column, justify="right")
    for name, side in results["sides"].items():
        table.add_row(
            name,
            f"{side['adbd']:.5f}",
            f"{side['robust_accuracy']:.1%}",
            f"{side['queries']:,.0f}",
            f"{side['seconds']:.1f}",
            f"{side['peak_memory_mib']:,.0f}",
        )
    console.print(table)
    differences = np.abs(np.subtract(*(side["run"]["distances"] for side in results["sides"].values())))
    console.print(
        f"ADBD of erkeras / original on {results['attacked']} images: {results['ratio']:.4f}; "
        f"distances differ by {differences.mean():.5f} in the mean, {differences.max():.5f} at most"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--original", type=Path, required=True, metavar="FOLDER", help="a checkout of RayS")
    parser.add_argument("--epsilon", type=float, default=0.3)
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--queries", type=int, default=2000)
    add_options(parser)
    options = parser.parse_args()
    if not (options.original / "RayS.py").is_file():
        parser.error(f"{options.original} has no RayS.py: give a checkout of uclaml/RayS")
    prepare("torch")
    results = measure(options)
    show(results)
    write(results, options.json)


if __name__ == "__main__":
    main()
