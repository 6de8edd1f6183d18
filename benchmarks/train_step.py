"""Images per second of ERClassifier's training step, against a PyTorch loop that does the same work.

    python benchmarks/train_step.py --network mnist --json train_step.json

Both sides take the same network from the same weights through Algorithm 1: a clean forward pass for the log, PGD
(line 4), the critic (line 7), encoder and classifier (line 8), the encoder on codes computed again (line 9).
Both give the same logits before training, or the program ends. erkeras runs as `fit` runs it, by Keras' own
`make_train_function`. PyTorch runs in eager mode, with `--compile` also through torch.compile; both of its memory
formats are measured and the best counts. "bf16" is bfloat16 in the adversary's passes, on both sides.

Every contender has a process, and so libraries and a peak of memory, of its own. They run in turn, a few seconds
each, and ratios are taken within a round: a machine that slows down slows all. A matrix product in TensorFlow takes
its turns too; its rate is the ceiling that the steps are held against.
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from importlib.metadata import version
from typing import Any

from networks import Layer, plain_layers
from step_setting import CLASSES, CLIP, COEFFICIENT, EPSILON, LEARNING_RATE, NETWORKS, Networks, training_data
from torch_step import How, torch_step
from workers import Worker, add_options, prepare, tensorflow_on, write

#: The contenders. Name -> whether the adversary's passes are in bfloat16
KERAS = {"erkeras": False, "erkeras bf16": True}
TORCH = {
    "PyTorch contiguous": How(bfloat16=False, channels_last=False),
    "PyTorch channels_last": How(bfloat16=False, channels_last=True),
    "PyTorch bf16 contiguous": How(bfloat16=True, channels_last=False),
    "PyTorch bf16 channels_last": How(bfloat16=True, channels_last=True),
}
#: What `--compile` adds
COMPILED = {name.replace("PyTorch", "compiled"): how._replace(compiled=True) for name, how in TORCH.items()}
PRODUCT_SIZE = 2048
WARM_UP_STEPS = 3

#: Gives its numbers, so that a GPU is done with it.
Step = Callable[[], Any]


def keras_step(options: argparse.Namespace, inner_bfloat16: bool) -> tuple[Step, Networks]:
    """One training step as `ERClassifier.fit` runs it, and the networks it starts from."""
    tf = tensorflow_for(options)
    import keras

    from erkeras.attacks import PGD
    from erkeras.models import ERClassifier, WassersteinCritic
    from erkeras.models.networks import build_networks
    from erkeras.threat import ThreatModel

    keras.utils.set_random_seed(options.seed)
    encoder, classifier = build_networks(options.network, *NETWORKS[options.network], CLASSES)
    regularizer = WassersteinCritic(COEFFICIENT, clip=CLIP)
    adversary = PGD(ThreatModel("l_inf", EPSILON), steps=options.steps)
    parts = {"regularizer": regularizer, "adversary": adversary}
    model = ERClassifier(encoder, classifier, **parts, inner_bfloat16=inner_bfloat16, seed=options.seed)
    model.compile(*(keras.optimizers.Adam(LEARNING_RATE) for _ in range(3)))
    images, labels = training_data(options)
    layers = map(plain_layers, (encoder, classifier, regularizer.critic))
    tf.config.experimental.enable_tensor_float_32_execution(False)  # a GPU's, which has other digits
    networks = Networks(*layers, model(images[0], training=False).numpy())
    tf.config.experimental.enable_tensor_float_32_execution(True)
    model.make_train_function()
    batches = iter(tf.data.Dataset.from_tensor_slices((images, labels)).repeat())
    return lambda: {name: float(value) for name, value in model.train_function(batches).items()}, networks


def tensorflow_for(options: argparse.Namespace) -> Any:
    """TensorFlow on the device of the options, where it takes no more memory than it needs."""
    tf = tensorflow_on(options.threads)
    if options.device == "cpu":
        tf.config.set_visible_devices([], "GPU")
    elif not tf.config.get_visible_devices("GPU"):
        sys.exit("TensorFlow finds no GPU: leave --device out.")
    for gpu in tf.config.get_visible_devices("GPU"):
        tf.config.experimental.set_memory_growth(gpu, True)
    return tf


def product_step(options: argparse.Namespace) -> tuple[Step, None]:
    """One product of two float32 matrices, in a TensorFlow graph."""
    tf = tensorflow_for(options)
    left, right = (tf.random.stateless_uniform([PRODUCT_SIZE] * 2, [options.seed, side]) for side in range(2))
    multiply = tf.function(tf.linalg.matmul)
    return lambda: float(multiply(left, right)[0, 0]), None


def step_flops(networks: Networks, steps: int) -> dict[str, int]:
    """Floating point operations of one training step on one image, by line of Algorithm 1.

    A multiplication and an addition are two; convolutions (padding included) and dense layers are counted. Backward
    to the inputs costs what forward costs, and so does backward to the weights. The first layer of a network whose
    inputs need no gradient is spared the former.
    """

    def forward(layer: Layer) -> int:
        places = math.prod(layer.output_shape[:-1])  # of a convolution's output; 1 for a dense layer
        return 2 * places * layer.weights[0].size

    counts = [[forward(layer) for layer in part if layer.kind in ("Conv2D", "Dense")] for part in networks[:3]]
    encoder, classifier, critic = map(sum, counts)
    encoder_first, _, critic_first = (count[0] for count in counts)
    flops = {
        "clean pass": encoder + classifier,
        "4": steps * 2 * (encoder + classifier),  # forward, backward to the images
        "6": encoder,
        "7": 2 * (3 * critic - critic_first),  # of codes and of prior samples
        "8": classifier + 2 * (encoder + classifier) - encoder_first,
        "9": 3 * encoder - encoder_first + 2 * critic,  # the critic backward to its inputs alone
    }
    return {**flops, "total": sum(flops.values())}


def run_for(seconds: float, step: Step) -> float:
    """Runs whole steps for about that long, at least one; steps per second."""
    start, count, elapsed = time.perf_counter(), 0, 0.0
    while elapsed < seconds or not count:
        step()
        count, elapsed = count + 1, time.perf_counter() - start
    return count / elapsed


def contender(make_step: Callable[..., tuple[Step, Any]], *arguments: Any) -> tuple[Callable[[float], float], Any]:
    """For a worker: what gives the rate of a step, once warm."""
    step, message = make_step(*arguments)
    for _ in range(WARM_UP_STEPS):
        step()
    return partial(run_for, step=step), message


class Contender(Worker):
    """A worker that runs a step, and the rates at which it did."""

    def __init__(self, make_step: Callable[..., tuple[Step, Any]], *arguments: Any) -> None:
        super().__init__(contender, make_step, *arguments)
        self.rates: list[float] = []

    def run(self, seconds: float, units: float) -> None:
        """Adds a rate, in units (that many a step) per second."""
        self.rates.append(self.ask(seconds) * units)


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """All contenders in turn; what `show` prints, ready for JSON."""
    rivals = {**TORCH, **(COMPILED if options.compile else {})}
    workers = {name: Contender(keras_step, options, bfloat16) for name, bfloat16 in KERAS.items()}
    networks = next(iter(workers.values())).message
    workers.update({name: Contender(torch_step, options, how, networks) for name, how in rivals.items()})
    product = Contender(product_step, options)
    for number in range(options.rounds):
        product.run(options.seconds / 2, 2 * PRODUCT_SIZE**3 / 1e9)
        for worker in list(workers.values())[:: -1 if number % 2 else 1]:
            worker.run(options.seconds, options.batch)

    flops = step_flops(networks, options.steps)
    contenders = {
        name: {
            "images_per_second": _summary(worker.rates),
            "fraction_of_matrix_product": _summary(_ratios(worker.rates, product.rates, flops["total"] / 1e9)),
            "peak_memory_mib": worker.peak_mib,
        }
        for name, worker in workers.items()
    }
    ratios = []
    for above, bfloat16 in KERAS.items():
        same = [name for name, how in rivals.items() if how.bfloat16 == bfloat16]
        below = max(same, key=lambda name: statistics.median(workers[name].rates))
        ratios.append({"of": above, "over": below, **_summary(_ratios(workers[above].rates, workers[below].rates))})
    return {
        "options": {name: value for name, value in vars(options).items() if name != "json"},
        "versions": {name: version(name) for name in ("tensorflow", "keras", "torch")},
        "flops_per_image": flops,
        "matrix_product_gflops": _summary(product.rates),
        "contenders": contenders,
        "ratios": ratios,
    }


def _ratios(above: Sequence[float], below: Sequence[float], factor: float = 1.0) -> list[float]:
    return [factor * one / other for one, other in zip(above, below, strict=True)]


def _summary(values: Sequence[float]) -> dict[str, Any]:
    return {"median": statistics.median(values), "min": min(values), "max": max(values), "rounds": values}


def show(results: dict[str, Any]) -> None:
    """Prints the table."""
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    table = Table(
        title="{network}, batch {batch}, PGD-{steps}, {threads} threads, {device}".format(**results["options"])
    )
    table.add_column("training step", no_wrap=True)
    for column in ("images/s", "min", "max", "of product", "peak MiB"):
        table.add_column(column, justify="right")
    for name, result in results["contenders"].items():
        rates = [result["images_per_second"][key] for key in ("median", "min", "max")]
        cells = [f"{rate:,.0f}" if rate >= 100 else f"{rate:.1f}" for rate in rates]
        fraction = result["fraction_of_matrix_product"]["median"]
        table.add_row(name, *cells, f"{fraction:.0%}", f"{result['peak_memory_mib']:,.0f}")
    console.print(table)
    for ratio in results["ratios"]:
        console.print("{of} / {over}: {median:.2f} ({min:.2f} to {max:.2f})".format(**ratio))
    console.print(
        f"{results['flops_per_image']['total'] / 1e6:.1f} MFLOP an image; "
        "float32 matrix product: {median:.0f} GFLOP/s ({min:.0f} to {max:.0f})".format(
            **results["matrix_product_gflops"]
        )
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--network", choices=NETWORKS, default="mnist")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--steps", type=int, default=7, help="of PGD")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4.0, help="of a contender in a round")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", choices=("cpu", "gpu"), default="cpu", help="of both sides")
    parser.add_argument("--compile", action="store_true", help="measure torch.compile too, which takes minutes first")
    add_options(parser, of_a_model=False)
    options = parser.parse_args()
    prepare("torch")
    results = measure(options)
    show(results)
    write(results, options.json)


if __name__ == "__main__":
    main()
