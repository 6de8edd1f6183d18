"""Carlini and Wagner's l2 attack against foolbox's, on the same weights and images with the same settings.

    pip install foolbox
    python benchmarks/carlini_wagner.py --model saved_models/mnist-er-classifier --images 128 --json cw.json

The model, a folder that `erkeras train` wrote or a .keras file of an ERClassifier, is carried over to PyTorch for
foolbox's L2CarliniWagnerAttack. Mean l2 is over the images that were classified correctly and that both attacks
broke. Seconds are of one run of each, one after the other; ours with its tracing.
"""

from __future__ import annotations

import argparse
import sys
import time
from importlib.metadata import version
from typing import Any

import numpy as np
from workers import add_options, model_and_images, prepare, tensorflow_on, write

MOST_ABOVE = 1.02


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Both attacks; what `show` prints, ready for JSON."""
    tensorflow_on(options.threads)
    import torch
    from networks import check_logits, plain_layers, torch_network

    from erkeras.attacks import CarliniWagner
    from erkeras.threat import ThreatModel

    torch.set_num_threads(options.threads)
    model, sample = model_and_images(options, options.images, options.seed)

    network = torch_network(plain_layers(model), torch.contiguous_format).eval().requires_grad_(False)
    images = torch.from_numpy(sample.images.transpose(0, 3, 1, 2).copy())
    logits = model(sample.images, training=False).numpy()
    check_logits(logits, network(images).numpy())
    right = logits.argmax(axis=1) == sample.labels

    attack = CarliniWagner(
        ThreatModel("l2", options.epsilon), iterations=options.iterations, binary_search_steps=options.searches
    )
    start = time.perf_counter()
    ours = attack(model, sample.images, sample.labels, seed=options.seed, indices=sample.indices)
    seconds = {"erkeras": time.perf_counter() - start}
    start = time.perf_counter()
    theirs = foolbox_images(network, images, sample.labels, options)
    seconds["foolbox"] = time.perf_counter() - start

    found = {"erkeras": ours.images, "foolbox": theirs.transpose(0, 2, 3, 1)}
    # foolbox gives a black image where it has found none.
    broken = {
        name: right
        & found_images.any(axis=(1, 2, 3))
        & (model(found_images, training=False).numpy().argmax(axis=1) != sample.labels)
        for name, found_images in found.items()
    }
    distances = {
        name: np.linalg.norm((found_images - sample.images).reshape(options.images, -1), axis=1)
        for name, found_images in found.items()
    }
    return {
        "options": vars(options),
        "versions": {name: version(name) for name in ("tensorflow", "keras", "torch", "foolbox")},
        "correct": int(right.sum()),
        **compared(broken, distances, seconds, options.epsilon),
        "passes of ours, mean": {
            "forward": float(ours.queries[right].mean()),
            "backward": float(ours.gradients[right].mean()),
        },
    }


def compared(
    broken: dict[str, np.ndarray], distances: dict[str, np.ndarray], seconds: dict[str, float], epsilon: float
) -> dict[str, Any]:
    """The part of the figures in which both attacks meet: distances are of the images that both have broken."""
    both = broken["erkeras"] & broken["foolbox"]
    return {
        "broken by both": int(both.sum()),
        "attacks": {
            name: {
                "broken": int(broken[name].sum()),
                "within epsilon": int((broken[name] & (distances[name] <= epsilon)).sum()),
                "mean l2": float(distances[name][both].mean()),
                "seconds": seconds[name],
            }
            for name in broken
        },
        "mean l2, ours / theirs": float(distances["erkeras"][both].mean() / distances["foolbox"][both].mean()),
        "l2 of each image, ours / theirs": np.quantile(
            distances["erkeras"][both] / distances["foolbox"][both], [0, 0.1, 0.5, 0.9, 1]
        ).tolist(),
    }


def foolbox_images(network: Any, images: Any, labels: np.ndarray, options: argparse.Namespace) -> np.ndarray:
    import foolbox
    import torch

    attack = foolbox.attacks.L2CarliniWagnerAttack(
        binary_search_steps=options.searches, steps=options.iterations, stepsize=0.01, initial_const=1e-3
    )
    victim = foolbox.PyTorchModel(network, bounds=(0, 1), device="cpu")
    return attack.run(victim, images, torch.from_numpy(np.asarray(labels, np.int64))).numpy()


def show(results: dict[str, Any]) -> None:
    """Prints the table."""
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    table = Table(title="{images} images, {searches} x {iterations} iterations".format(**results["options"]))
    table.add_column("l2 attack of Carlini and Wagner")
    for column in ("broken", "within epsilon", "mean l2", "seconds"):
        table.add_column(column, justify="right")
    for name, row in results["attacks"].items():
        table.add_row(
            name, str(row["broken"]), str(row["within epsilon"]), f"{row['mean l2']:.4f}", f"{row['seconds']:.1f}"
        )
    console.print(table)
    low, tenth, median, most, high = results["l2 of each image, ours / theirs"]
    console.print(
        f"mean l2, ours / theirs: {results['mean l2, ours / theirs']:.4f} on {results['broken by both']} images that "
        f"both broke; image by image {low:.3f}, {tenth:.3f}, {median:.3f}, {most:.3f}, {high:.3f} (least, 10%, median, "
        "90%, most)"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--images", type=int, default=128)
    parser.add_argument("--epsilon", type=float, default=1.5, help="of the count within it")
    parser.add_argument("--searches", type=int, default=9, help="binary search steps")
    parser.add_argument("--iterations", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    add_options(parser)
    options = parser.parse_args()
    prepare("torch", "foolbox")
    results = measure(options)
    show(results)
    write(results, options.json)
    broken = [row["broken"] for row in results["attacks"].values()]
    return int(broken[0] < broken[1] or results["mean l2, ours / theirs"] > MOST_ABOVE)


if __name__ == "__main__":
    sys.exit(main())
