"""Images per second of ERClassifier's training step, against a PyTorch loop that does the same work, on the CPU.

    python benchmarks/train_step.py --network mnist --json train_step.json

Both sides take the same network from the same weights through Algorithm 1: a clean forward pass for the log, PGD
(line 4), the critic (line 7), encoder and classifier (line 8), the encoder on codes computed again (line 9).
erkeras runs as `fit` runs it, by Keras' own `make_train_function`. PyTorch runs in eager mode; both of its memory
formats are measured and the better one counts. "bf16" is bfloat16 in the adversary's passes, on both sides.

Every contender has a process, and so libraries and a peak of memory, of its own. They run in turn, a few seconds
each, and ratios are taken within a round: a machine that slows down slows all. A matrix product in TensorFlow takes
its turns too; its rate is the ceiling that the steps are held against.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import math
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from networks import Layer, check_logits, plain_layers, torch_network
from workers import Worker, add_options, prepare, tensorflow_on, write

if TYPE_CHECKING:
    import torch

#: name -> (image shape, code size)
NETWORKS = {"mnist": ((28, 28, 1), 16), "mnist-large": ((28, 28, 1), 4), "digits": ((8, 8, 1), 16)}
#: The contenders. Name -> whether the adversary's passes are in bfloat16
KERAS = {"erkeras": False, "erkeras bf16": True}
#: Name -> the same, and whether images are in channels_last
TORCH = {
    "PyTorch contiguous": (False, False),
    "PyTorch channels_last": (False, True),
    "PyTorch bf16 contiguous": (True, False),
    "PyTorch bf16 channels_last": (True, True),
}
PRODUCT_SIZE = 2048
CLASSES, EPSILON, COEFFICIENT, CLIP, LEARNING_RATE = 10, 0.3, 0.1, 0.01, 1e-3
BATCHES, WARM_UP_STEPS = 8, 3

Step = Callable[[], Any]


class Networks(NamedTuple):
    """The three networks before training, and the logits they give for the first batch."""

    encoder: list[Layer]
    classifier: list[Layer]
    critic: list[Layer]
    logits: np.ndarray


def training_data(options: argparse.Namespace) -> tuple[np.ndarray, np.ndarray]:
    """Random images `[batches, n, height, width, channels]` in [0, 1] and labels `[batches, n]`."""
    random = np.random.default_rng(options.seed)
    size = (BATCHES, options.batch)
    return random.random((*size, *NETWORKS[options.network][0]), np.float32), random.integers(0, CLASSES, size)


def keras_step(options: argparse.Namespace, inner_bfloat16: bool) -> tuple[Step, Networks]:
    """One training step as `ERClassifier.fit` runs it, and the networks it starts from."""
    tf = tensorflow_on(options.threads)
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
    networks = Networks(*layers, model(images[0], training=False).numpy())
    model.make_train_function()
    batches = iter(tf.data.Dataset.from_tensor_slices((images, labels)).repeat())
    return partial(model.train_function, batches), networks


def product_step(options: argparse.Namespace) -> tuple[Step, None]:
    """One product of two float32 matrices, in a TensorFlow graph."""
    tf = tensorflow_on(options.threads)
    left, right = (tf.random.stateless_uniform([PRODUCT_SIZE] * 2, [options.seed, side]) for side in range(2))
    return partial(tf.function(tf.linalg.matmul), left, right), None


def torch_step(
    options: argparse.Namespace, inner_bfloat16: bool, channels_last: bool, networks: Networks
) -> tuple[Step, None]:
    """The same step in eager PyTorch.

    Gradients are taken with respect to what is updated, nothing else. autocast keeps the weights that it has cast for
    the length of its block: once for all PGD steps.
    """
    import torch
    from torch.nn.functional import cross_entropy

    set_torch(options)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    encoder, classifier, critic = (torch_network(layers, layout) for layers in networks[:3])
    images, labels = (torch.from_numpy(array) for array in training_data(options))
    images = [batch.permute(0, 3, 1, 2).contiguous(memory_format=layout) for batch in images]
    check_logits(networks.logits, classifier.eval()(encoder.eval()(images[0])).detach().numpy())

    def adam(*parts: torch.nn.Module) -> torch.optim.Adam:
        parameters = itertools.chain.from_iterable(part.parameters() for part in parts)
        return torch.optim.Adam(parameters, LEARNING_RATE, eps=1e-7, fused=True)  # foreach takes two to three times it

    optimizer, critic_optimizer, regularizer_optimizer = adam(encoder, classifier), adam(critic), adam(encoder)
    log = torch.zeros(4)  # sums of loss, clean accuracy, adversarial accuracy, divergence

    def descend(loss: torch.Tensor, optimizer: torch.optim.Optimizer) -> None:
        optimizer.zero_grad(set_to_none=True)
        # not autograd.grad, whose gradients may lie in memory otherwise than the weights: fused Adam then mixes them up
        loss.backward(inputs=optimizer.param_groups[0]["params"])
        optimizer.step()

    def step(images: torch.Tensor, labels: torch.Tensor) -> None:
        encoder.eval(), classifier.eval()
        with torch.autocast("cpu", torch.bfloat16, enabled=inner_bfloat16):
            with torch.no_grad():
                clean_logits = classifier(encoder(images))
            adversarial = torch_pgd(lambda images: classifier(encoder(images)), images, labels, options.steps)  # line 4
        encoder.train(), classifier.train()
        codes = encoder(adversarial)  # 5 and 6
        prior_samples = torch.randn_like(codes)

        divergence = critic(prior_samples).mean() - critic(codes.detach()).mean()  # 7
        descend(-COEFFICIENT * divergence, critic_optimizer)
        with torch.no_grad():
            for parameter in critic.parameters():
                parameter.clamp_(-CLIP, CLIP)

        logits = classifier(codes)  # 8
        loss = cross_entropy(logits, labels)
        descend(loss, optimizer)

        with statistics_kept(encoder):  # 9, where BatchNorm's statistics stay as line 6 has left them
            descend(-COEFFICIENT * critic(encoder(adversarial)).mean(), regularizer_optimizer)

        with torch.no_grad():
            accuracies = [(each.argmax(1) == labels).float().mean() for each in (clean_logits, logits)]
            log.add_(torch.stack([loss, *accuracies, divergence]))

    batches = itertools.cycle(zip(images, labels, strict=True))
    return lambda: step(*next(batches)), None


def set_torch(options: argparse.Namespace) -> None:
    import torch

    torch.set_num_threads(options.threads)
    torch.set_flush_denormal(True)  # as TensorFlow does
    torch.manual_seed(options.seed)


@contextlib.contextmanager
def statistics_kept(network: torch.nn.Module) -> Iterator[None]:
    """Leaves the moving statistics of BatchNorm as they are."""
    import torch

    norms = [module for module in network.modules() if isinstance(module, torch.nn.modules.batchnorm._BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    yield
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum


def torch_pgd(
    classify: Callable[[torch.Tensor], torch.Tensor], images: torch.Tensor, labels: torch.Tensor, steps: int
) -> torch.Tensor:
    """PGD in eager PyTorch, from a random start and with the step size that training takes."""
    import torch
    from torch.nn.functional import cross_entropy

    lower, upper = (images - EPSILON).clamp_(min=0), (images + EPSILON).clamp_(max=1)
    adversarial = torch.empty_like(images).uniform_(-EPSILON, EPSILON).add_(images).clamp_(0, 1)
    for _ in range(steps):
        adversarial.requires_grad_()
        loss = cross_entropy(classify(adversarial).float(), labels, reduction="sum")
        (gradient,) = torch.autograd.grad(loss, adversarial)
        adversarial = adversarial.detach().add_(gradient.sign_(), alpha=2.5 * EPSILON / steps).clamp_(lower, upper)
    return adversarial


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
    workers = {name: Contender(keras_step, options, bfloat16) for name, bfloat16 in KERAS.items()}
    networks = next(iter(workers.values())).message
    workers.update({name: Contender(torch_step, options, *how, networks) for name, how in TORCH.items()})
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
        rivals = [name for name, how in TORCH.items() if how[0] == bfloat16]
        below = max(rivals, key=lambda name: statistics.median(workers[name].rates))
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
    table = Table(title="{network}, batch {batch}, PGD-{steps}, {threads} threads".format(**results["options"]))
    table.add_column("training step", no_wrap=True)
    for column in ("images/s", "min", "max", "of product", "peak MiB"):
        table.add_column(column, justify="right")
    for name, result in results["contenders"].items():
        cells = [f"{result['images_per_second'][key]:,.0f}" for key in ("median", "min", "max")]
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
    add_options(parser, of_a_model=False)
    options = parser.parse_args()
    prepare("torch")
    results = measure(options)
    show(results)
    write(results, options.json)


if __name__ == "__main__":
    main()
