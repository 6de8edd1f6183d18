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
import importlib.util
import itertools
import json
import math
import multiprocessing
import os
import resource
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

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
BATCHES, WARM_UP_STEPS, LOGIT_TOLERANCE = 8, 3, 1e-4

Step = Callable[[], Any]


class Layer(NamedTuple):
    """A Keras layer as plain data, so that PyTorch's process needs no TensorFlow."""

    kind: str
    config: dict[str, Any]
    weights: list[np.ndarray]
    input_shape: tuple[int, ...]
    output_shape: tuple[int, ...]


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
    tf = _tensorflow(options.threads)
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
    layers = ([_plain(layer) for layer in network.layers] for network in (encoder, classifier, regularizer.critic))
    networks = Networks(*layers, model(images[0], training=False).numpy())
    model.make_train_function()
    batches = iter(tf.data.Dataset.from_tensor_slices((images, labels)).repeat())
    return partial(model.train_function, batches), networks


def product_step(options: argparse.Namespace) -> tuple[Step, None]:
    """One product of two float32 matrices, in a TensorFlow graph."""
    tf = _tensorflow(options.threads)
    left, right = (tf.random.stateless_uniform([PRODUCT_SIZE] * 2, [options.seed, side]) for side in range(2))
    return partial(tf.function(tf.linalg.matmul), left, right), None


def _tensorflow(threads: int) -> Any:
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads)
    return tf


def _plain(layer: Any) -> Layer:
    shapes = layer.input.shape[1:], layer.output.shape[1:]
    return Layer(type(layer).__name__, layer.get_config(), layer.get_weights(), *shapes)


def torch_step(
    options: argparse.Namespace, inner_bfloat16: bool, channels_last: bool, networks: Networks
) -> tuple[Step, None]:
    """The same step in eager PyTorch.

    Gradients are taken with respect to what is updated, nothing else. autocast keeps the weights that it has cast for
    the length of its block: once for all PGD steps.
    """
    import torch
    from torch.nn.functional import cross_entropy

    torch.set_num_threads(options.threads)
    torch.set_flush_denormal(True)  # as TensorFlow does
    torch.manual_seed(options.seed)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    encoder, classifier, critic = (_torch_network(layers, layout) for layers in networks[:3])
    images, labels = (torch.from_numpy(array) for array in training_data(options))
    images = [batch.permute(0, 3, 1, 2).contiguous(memory_format=layout) for batch in images]
    logits = classifier.eval()(encoder.eval()(images[0])).detach().numpy()
    if (difference := np.abs(logits - networks.logits).max()) > LOGIT_TOLERANCE:
        raise AssertionError(f"PyTorch's logits are off by {difference:.1e}: these are not the same networks.")

    def adam(*parts: torch.nn.Module) -> torch.optim.Adam:
        parameters = itertools.chain.from_iterable(part.parameters() for part in parts)
        return torch.optim.Adam(parameters, LEARNING_RATE, eps=1e-7, fused=True)  # foreach takes two to three times it

    optimizer, critic_optimizer, regularizer_optimizer = adam(encoder, classifier), adam(critic), adam(encoder)
    norms = [module for module in encoder.modules() if isinstance(module, torch.nn.modules.batchnorm._BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    log = torch.zeros(4)  # sums of loss, clean accuracy, adversarial accuracy, divergence

    def perturb(images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        lower, upper = (images - EPSILON).clamp_(min=0), (images + EPSILON).clamp_(max=1)
        adversarial = torch.empty_like(images).uniform_(-EPSILON, EPSILON).add_(images).clamp_(0, 1)
        for _ in range(options.steps):
            adversarial.requires_grad_()
            loss = cross_entropy(classifier(encoder(adversarial)).float(), labels, reduction="sum")
            (gradient,) = torch.autograd.grad(loss, adversarial)
            step_size = 2.5 * EPSILON / options.steps
            adversarial = adversarial.detach().add_(gradient.sign_(), alpha=step_size).clamp_(lower, upper)
        return adversarial

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
            adversarial = perturb(images, labels)  # line 4
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

        for norm in norms:  # 9, where BatchNorm's statistics stay as line 6 has left them
            norm.momentum = 0.0
        descend(-COEFFICIENT * critic(encoder(adversarial)).mean(), regularizer_optimizer)
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum

        with torch.no_grad():
            accuracies = [(each.argmax(1) == labels).float().mean() for each in (clean_logits, logits)]
            log.add_(torch.stack([loss, *accuracies, divergence]))

    batches = itertools.cycle(zip(images, labels, strict=True))
    return lambda: step(*next(batches)), None


def _torch_network(layers: Sequence[Layer], layout: torch.memory_format) -> torch.nn.Sequential:
    """The same layers with the same weights, for images in NCHW."""
    import torch
    from torch import nn

    class Apply(nn.Module):
        def __init__(self, function: Callable[[torch.Tensor], torch.Tensor]) -> None:
            super().__init__()
            self.forward = function

    modules: list[nn.Module] = []
    rows: Any = slice(None)  # of the Dense kernel after a Flatten, in the order in which PyTorch flattens
    for kind, config, weights, input_shape, output_shape in layers:
        values = list(weights)  # in the order of the module's parameters and buffers
        if kind == "Rescaling":
            modules.append(Apply(partial(torch.add, torch.tensor(config["offset"]), alpha=config["scale"])))
        elif kind == "Conv2D":
            size, strides = config["kernel_size"], config["strides"]
            pads = [max((output_shape[i] - 1) * strides[i] + size[i] - input_shape[i], 0) for i in (0, 1)]
            padding = [pad // 2 for pad in pads]
            if any(pad % 2 for pad in pads):  # Keras' "same" puts the odd pixel to the bottom and the right
                (top, left), padding = padding, [0, 0]
                modules.append(nn.ZeroPad2d((left, pads[1] - left, top, pads[0] - top)))
            arguments = (input_shape[-1], config["filters"], size, strides, padding)
            modules.append(nn.Conv2d(*arguments, bias=config["use_bias"]))
            values[0] = values[0].transpose(3, 2, 0, 1)
        elif kind == "BatchNormalization":
            norm = nn.BatchNorm2d if len(input_shape) == 3 else nn.BatchNorm1d
            modules.append(norm(input_shape[-1], config["epsilon"], 1 - config["momentum"]))
        elif kind == "Flatten" and layout is torch.channels_last:  # a view, in Keras' order
            modules.append(Apply(lambda images: images.permute(0, 2, 3, 1).flatten(1)))
        elif kind == "Flatten":
            modules.append(nn.Flatten())
            rows = np.arange(math.prod(input_shape)).reshape(input_shape).transpose(2, 0, 1).ravel()
        elif kind == "Dense":
            modules.append(nn.Linear(*input_shape, config["units"], config["use_bias"]))
            values[0], rows = values[0][rows].T, slice(None)
        elif kind == "ReLU":
            modules.append(nn.ReLU(inplace=True))
        else:
            raise NotImplementedError(f"a {kind} layer: say here what it is in PyTorch.")
        state = [tensor for tensor in modules[-1].state_dict().values() if tensor.is_floating_point()]
        for tensor, value in zip(state, values, strict=True):
            tensor.copy_(torch.from_numpy(np.ascontiguousarray(value)))
        if config.get("activation") == "relu":
            modules.append(nn.ReLU(inplace=True))
    return nn.Sequential(*modules).to(memory_format=layout)


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


def serve(pipe: Any, make_step: Callable[..., tuple[Step, Any]], *arguments: Any) -> None:
    """A worker: makes a step, sends what came with it, and for each number of seconds its rate and peak memory."""
    step, message = make_step(*arguments)
    for _ in range(WARM_UP_STEPS):
        step()
    pipe.send(message)
    unit = 1 if sys.platform == "darwin" else 1024
    with contextlib.suppress(EOFError):  # the parent has what it wanted
        while True:
            rate = run_for(pipe.recv(), step)
            pipe.send((rate, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20))


class Worker:
    """The parent's end of a process that runs `serve`."""

    def __init__(self, make_step: Callable[..., tuple[Step, Any]], *arguments: Any) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, end = context.Pipe()
        context.Process(target=serve, args=(end, make_step, *arguments), daemon=True).start()
        end.close()
        self.message = self._receive()  # and so the worker is ready
        self.rates: list[float] = []
        self.peak_mib = 0.0

    def run(self, seconds: float, units: float) -> None:
        """Adds a rate, in units (that many a step) per second."""
        self._pipe.send(seconds)
        steps_per_second, self.peak_mib = self._receive()
        self.rates.append(steps_per_second * units)

    def _receive(self) -> Any:
        try:
            return self._pipe.recv()
        except EOFError:
            sys.exit("A worker has ended too early: its own message is above.")


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """All contenders in turn; what `show` prints, ready for JSON."""
    workers = {name: Worker(keras_step, options, bfloat16) for name, bfloat16 in KERAS.items()}
    networks = next(iter(workers.values())).message
    workers.update({name: Worker(torch_step, options, *how, networks) for name, how in TORCH.items()})
    product = Worker(product_step, options)
    for number in range(options.rounds):
        product.run(options.seconds / 2, 2 * PRODUCT_SIZE**3 / 1e9)
        for worker in list(workers.values())[:: -1 if number % 2 else 1]:
            worker.run(options.seconds, options.batch)

    flops = step_flops(networks, options.steps)
    contenders = {
        name: {
            "images_per_second": _summary(worker.rates),
            "portion_of_matrix_product": _summary(_ratios(worker.rates, product.rates, flops["total"] / 1e9)),
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
        portion = result["portion_of_matrix_product"]["median"]
        table.add_row(name, *cells, f"{portion:.0%}", f"{result['peak_memory_mib']:,.0f}")
    console.print(table)
    for ratio in results["ratios"]:
        console.print("{of} / {over}: {median:.2f} ({min:.2f} to {max:.2f})".format(**ratio))
    console.print(
        f"{results['flops_per_image']['total'] / 1e6:.1f} MFLOP an image; "
        "float32 matrix product: {median:.0f} GFLOP/s ({min:.0f} to {max:.0f})".format(
            **results["matrix_product_gflops"]
        )
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--network", choices=NETWORKS, default="mnist")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--steps", type=int, default=7, help="of PGD")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4.0, help="of a contender in a round")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every number to this file")
    options = parser.parse_args()
    if importlib.util.find_spec("torch") is None:
        print("This measures against PyTorch, which is not installed: pip install 'erkeras[bench]'", file=sys.stderr)
        return 2
    # Read when the workers load their libraries. By default PyTorch's idle threads spin, on cores that others need.
    os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    results = measure(options)
    show(results)
    if options.json:
        options.json.write_text(json.dumps(results, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
