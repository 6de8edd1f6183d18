"""erkeras' attacks against the original AutoAttack in PyTorch, on the same network and images, on the CPU.

    git clone https://github.com/fra31/auto-attack
    python benchmarks/autoattack.py --original auto-attack --model saved_models/mnist-er-classifier

The weights of a Keras model are carried over to PyTorch, and both give the same logits to 1e-4. For each attack both
sides have a process of their own, which attacks the same test images once for each seed, in turn. "Standing" are
images that are classified correctly, clean and attacked: fewer is a stronger attack. Seconds are the median over
seeds, so without erkeras' tracing, which is part of its first run; those of the processors tell more where others use
the machine. Passes are millions of images times passes that count for a result: what idle slots of erkeras' internal
batch make is not in them. PyTorch runs in the faster of its memory formats. "Passes alone" is what the model would
take without any attack around it: the least that these passes can cost.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from networks import Layer, check_logits, plain_layers, torch_network
from workers import Worker, add_options, model_and_images, prepare, tensorflow_on, write

#: Name -> class in erkeras.attacks, and its settings. The names are the original's, but for the whole ensemble.
ATTACKS: dict[str, tuple[str, dict[str, Any]]] = {
    "apgd-ce": ("APGD", {}),
    "apgd-dlr": ("APGD", {"loss": "dlr"}),
    "apgd-t": ("APGD", {"loss": "dlr", "targets": 9}),
    "fab-t": ("FAB", {"targets": 9}),
    "square": ("Square", {}),
    "standard": ("AutoAttack", {"version": "standard"}),
}
DEFAULT_ATTACKS = "apgd-ce,apgd-t,fab-t,square,standard"
GROWTH = (64, 256, 1024)
ORIGINAL_BATCH = 250  # its default
SAMPLE_SEED, WARM_UP_PASSES, INTERNAL_BATCH = 0, 20, 128

Result = dict[str, Any]
Attack = Callable[[int, int], Result]


class Task(NamedTuple):
    """What the erkeras side hands over to the other."""

    layers: list[Layer]
    images: np.ndarray
    labels: np.ndarray
    logits: np.ndarray
    pass_seconds: tuple[float, float]


class Clocks:
    """On the wall and of the processors, from now on."""

    def __init__(self) -> None:
        self.start = time.perf_counter(), time.process_time()

    def seconds(self) -> dict[str, float]:
        wall, processors = self.start
        return {"seconds": time.perf_counter() - wall, "processor_seconds": time.process_time() - processors}


def erkeras_side(options: argparse.Namespace, name: str) -> tuple[Attack | None, Task | None]:
    """The attack of erkeras on the first `count` images by a seed; None where erkeras has no such attack."""
    tensorflow_on(options.threads, intra_op=1)  # as erkeras attack: two batches at once
    from erkeras import ThreatModel, attacks
    from erkeras.attacks import Victim

    class_name, settings = ATTACKS[name]
    if not hasattr(attacks, class_name):
        return None, None
    model, split = model_and_images(options, most_images(options), SAMPLE_SEED)
    victim = Victim(model)
    logits = victim.outputs_for(split.images)
    task = Task(plain_layers(model), split.images, split.labels, logits, seconds_of_passes(victim, split.images))
    attack = getattr(attacks, class_name)(ThreatModel(options.norm, options.epsilon), **settings)

    def run(count: int, seed: int) -> Result:
        part = split.take(np.arange(count))
        clocks = Clocks()
        attacked = attack(victim, part.images, part.labels, seed=seed, indices=part.indices)
        return {
            **clocks.seconds(),
            "standing": int(np.sum(~attacked.success)),
            "forward": int(attacked.queries.sum()),
            "backward": int(attacked.gradients.sum()),
        }

    return run, task


def seconds_of_passes(victim: Any, images: np.ndarray) -> tuple[float, float]:
    """What a forward pass, and one with its backward pass, of the model alone cost one processor for one image."""
    import tensorflow as tf

    batch = tf.constant(np.resize(images, (INTERNAL_BATCH, *images.shape[1:])))

    def forward(points: tf.Tensor) -> tf.Tensor:
        return tf.reduce_sum(victim.logits(points), axis=1)[:, tf.newaxis, tf.newaxis, tf.newaxis]

    def backward(points: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            tape.watch(points)
            outputs = forward(points)
        return tape.gradient(outputs, points)

    def seconds(one_pass: Any) -> float:
        @tf.function(autograph=False)
        def repeat(points: tf.Tensor) -> tf.Tensor:
            # Each pass waits for the one before it.
            return tf.while_loop(
                lambda number, _: number < WARM_UP_PASSES,
                lambda number, points: (number + 1, points + 1e-9 * one_pass(points)),
                (0, points),
                parallel_iterations=1,
            )[1]

        repeat(batch)
        rounds = []
        for _ in range(WARM_UP_PASSES):
            start = time.process_time()
            repeat(batch)
            rounds.append(time.process_time() - start)
        return statistics.median(rounds) / WARM_UP_PASSES / INTERNAL_BATCH

    return seconds(forward), seconds(backward)


def original_side(options: argparse.Namespace, name: str, task: Task) -> tuple[Attack, None]:
    """The same of the original."""
    sys.path.insert(0, str(options.original))  # before this folder, whose script has the package's name
    import torch
    from autoattack import AutoAttack

    torch.set_num_threads(options.threads)
    torch.set_flush_denormal(True)  # as TensorFlow does
    images = torch.from_numpy(np.ascontiguousarray(task.images.transpose(0, 3, 1, 2)))
    labels = torch.from_numpy(task.labels.astype(np.int64))
    passes = {"forward": 0, "backward": 0}

    class Counted(torch.nn.Module):
        def __init__(self, layout: torch.memory_format) -> None:
            super().__init__()
            self.network = torch_network(task.layers, layout).requires_grad_(False).eval()

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            passes["forward"] += len(images)
            logits = self.network(images)
            if logits.requires_grad:
                logits.register_hook(self.count_backward)
            return logits

        def count_backward(self, gradient: torch.Tensor) -> None:
            passes["backward"] += len(gradient)

        def seconds(self) -> float:
            """Of some forward and backward passes."""
            batch = images[:ORIGINAL_BATCH].clone().requires_grad_()
            start = time.perf_counter()
            for _ in range(WARM_UP_PASSES):
                torch.autograd.grad(self(batch).sum(), batch)
            return time.perf_counter() - start

    model = min((Counted(layout) for layout in (torch.contiguous_format, torch.channels_last)), key=Counted.seconds)
    with torch.no_grad():
        check_logits(task.logits, model(images).numpy())
    norm = {"l_inf": "Linf", "l2": "L2"}[options.norm]
    adversary = AutoAttack(model, norm, options.epsilon, verbose=False, version="standard", device="cpu")
    if name != "standard":
        adversary.attacks_to_run = [name]

    def run(count: int, seed: int) -> Result:
        passes.update(forward=0, backward=0)
        adversary.seed = seed
        clocks = Clocks()
        with contextlib.redirect_stdout(sys.stderr):  # its warnings
            found = adversary.run_standard_evaluation(images[:count], labels[:count], bs=ORIGINAL_BATCH)
        result = {**clocks.seconds(), **passes}
        distances = torch.linalg.vector_norm((found - images[:count]).flatten(1), float(norm[1:]), dim=1)
        if distances.max() > options.epsilon * (1 + 1e-5) + 1e-6:
            raise AssertionError(f"The original's images are {distances.max()} away.")
        with torch.no_grad():
            standing = int((model(found).argmax(1) == labels[:count]).sum())
        return {**result, "standing": standing}

    return run, None


def most_images(options: argparse.Namespace) -> int:
    return max(options.images, *GROWTH) if options.growth else options.images


def measure(options: argparse.Namespace, report: Callable[[str], None]) -> dict[str, Any]:
    """All attacks, one after the other; what `show` prints, ready for JSON."""
    results: dict[str, Any] = {}
    growth: dict[str, Any] = {}
    for name in options.attacks:
        ours = Worker(erkeras_side, options, name)
        if ours.message is None:
            report(f"{name} is left out: this erkeras has no {ATTACKS[name][0]}.")
            ours.close()
            continue
        workers = {"erkeras": ours, "original": Worker(original_side, options, name, ours.message)}
        runs = ask_all(workers, [(options.images, seed) for seed in range(options.seeds)], report, name)
        results[name] = {
            side: {
                "standing": statistics.fmean(run["standing"] for run in runs[side]),
                **{key: statistics.median(run[key] for run in runs[side]) for key in ("seconds", "processor_seconds")},
                "peak_memory_mib": worker.peak_mib,
                **{key: statistics.fmean(run[key] for run in runs[side]) for key in ("forward", "backward")},
                "runs": runs[side],
            }
            for side, worker in workers.items()
        }
        forward, both = ours.message.pass_seconds
        found = results[name]["erkeras"]
        found["pass_seconds"] = {"forward": forward, "with backward": both}
        found["passes_alone"] = (found["forward"] - found["backward"]) * forward + found["backward"] * both
        if options.growth and name == options.attacks[-1]:
            growth = {"attack": name, **ask_all(workers, [(count, 0) for count in GROWTH], report, name)}
        for worker in workers.values():
            worker.close()
    return {
        "options": vars(options),
        "versions": {name: version(name) for name in ("tensorflow", "keras", "torch")},
        "attacks": results,
        "growth": growth,
    }


def ask_all(
    workers: dict[str, Worker], questions: list[tuple[int, int]], report: Callable[[str], None], name: str
) -> dict[str, list[Result]]:
    """Each side's answers to (images, seed): in turn, and the one that is first changes."""
    answers: dict[str, list[Result]] = {side: [] for side in workers}
    for number, (count, seed) in enumerate(questions):
        for side in list(workers)[:: -1 if number % 2 else 1]:
            answer = {"images": count, "seed": seed, **workers[side].ask(count, seed)}
            answers[side].append(answer)
            report(f"{name}, {count} images, seed {seed}, {side}: {answer['standing']} in {answer['seconds']:.1f} s")
    return answers


def show(results: dict[str, Any]) -> None:
    """Prints the tables."""
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    options = results["options"]
    title = "{images} images, {norm} {epsilon:g}, {seeds} seeds, {threads} threads".format(**options)
    table = Table(title=title, padding=0)
    table.add_column("attack", no_wrap=True)
    table.add_column("by", no_wrap=True)
    for column in ("standing", "seconds", "ratio", "CPU s", "ratio", "fwd M", "bwd M", "MiB"):
        table.add_column(column, justify="right")
    for name, sides in results["attacks"].items():
        for side, result in sides.items():
            table.add_row(
                name,
                side,
                f"{result['standing']:.1f}",
                *(
                    cell
                    for key in ("seconds", "processor_seconds")
                    for cell in (f"{result[key]:.1f}", f"{result[key] / sides['erkeras'][key]:.2f}")
                ),
                *(f"{result[key] / 1e6:.3f}" for key in ("forward", "backward")),
                f"{result['peak_memory_mib']:,.0f}",
            )
        table.add_section()
    console.print(table)
    for name, sides in results["attacks"].items():
        ours = sides["erkeras"]
        forward, both = (1e6 * value for value in ours["pass_seconds"].values())
        console.print(
            f"{name}: erkeras' passes alone take {ours['passes_alone']:.1f} of its {ours['processor_seconds']:.1f} "
            f"processor seconds ({forward:.1f} microseconds an image, {both:.1f} with the backward pass)"
        )
    if growth := results["growth"]:
        table = Table(title=f"{growth['attack']} on more images")
        for column in ("images", "by", "standing", "seconds", "ms an image", "ratio"):
            table.add_column(column, justify="right")
        for runs in zip(growth["erkeras"], growth["original"], strict=True):
            for side, run in zip(("erkeras", "original"), runs, strict=True):
                table.add_row(
                    f"{run['images']:,}",
                    side,
                    f"{run['standing']}",
                    f"{run['seconds']:.1f}",
                    f"{1000 * run['seconds'] / run['images']:.0f}",
                    f"{run['seconds'] / runs[0]['seconds']:.2f}",
                )
            table.add_section()
        console.print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--original", type=Path, required=True, metavar="FOLDER", help="a checkout of auto-attack")
    parser.add_argument("--norm", choices=("l_inf", "l2"), default="l_inf")
    parser.add_argument("--epsilon", type=float, default=0.3)
    parser.add_argument("--images", type=int, default=256)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument(
        "--attacks", default=DEFAULT_ATTACKS, help=f"some of {','.join(ATTACKS)}; by default {DEFAULT_ATTACKS}"
    )
    parser.add_argument("--growth", action="store_true", help="also the last attack on 64 to 1,024 images")
    add_options(parser)
    options = parser.parse_args()
    options.attacks = options.attacks.split(",")
    if unknown := set(options.attacks) - set(ATTACKS):
        parser.error(f"no attack {', '.join(sorted(unknown))}: give some of {', '.join(ATTACKS)}")
    if not (options.original / "autoattack" / "__init__.py").is_file():
        parser.error(f"{options.original} has no package autoattack: give a checkout of fra31/auto-attack")
    prepare("torch")
    results = measure(options, lambda line: print(line, file=sys.stderr, flush=True))
    show(results)
    write(results, options.json)


if __name__ == "__main__":
    main()
