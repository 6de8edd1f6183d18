"""Images per second of ERClassifier's training step, against a PyTorch loop that does the same work, on the CPU.

    python benchmarks/train_step.py --network mnist --json train_step.json

Both sides train the same network, from the same weights, by Algorithm 1 of the paper: a clean forward pass for the log,
PGD (line 4), the critic's Adam update and clipping (line 7), encoder and classifier (line 8), the encoder alone on
codes computed again (line 9). erkeras runs as `fit` runs it, through Keras' own `train_function(iterator)`. PyTorch
runs in eager mode; both memory formats and both fast implementations of Adam are measured, and the best one counts.

Every contender has a process of its own, so that its libraries and its peak memory are its own. The contenders run
in turn, a few seconds each, and ratios are taken within a round: a machine that slows down slows all of them.
A matrix product in TensorFlow takes part as well: its rate is the ceiling against which the steps are judged.
"""

from __future__ import annotations

import argparse
import functools
import importlib.util
import itertools
import json
import math
import multiprocessing
import os
import platform
import resource
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import torch

#: name -> (image shape, code size)
NETWORKS = {"mnist": ((28, 28, 1), 16), "mnist-large": ((28, 28, 1), 4), "digits": ((8, 8, 1), 16)}
CLASSES, EPSILON, COEFFICIENT, CLIP, LEARNING_RATE = 10, 0.3, 0.1, 0.01, 1e-3
BATCHES, WARM_UP_STEPS, PRODUCT_SIZE = 8, 3, 2048

Step = Callable[[], Any]


@dataclass(frozen=True)
class Settings:
    """What all contenders have in common."""

    network: str
    batch: int
    steps: int
    threads: int
    seed: int


@dataclass(frozen=True)
class Contender:
    """One way to run the step; `library` is "erkeras" or "PyTorch"."""

    name: str
    library: str
    inner_bfloat16: bool = False
    channels_last: bool = False


@dataclass(frozen=True)
class Layer:
    """A Keras layer as plain data, so that PyTorch's process needs no TensorFlow."""

    kind: str
    config: dict[str, Any]
    weights: list[np.ndarray]
    input_shape: tuple[int, ...]
    output_shape: tuple[int, ...]


@dataclass(frozen=True)
class Networks:
    """Encoder, classifier and critic before training, and the logits that they give for the first batch."""

    encoder: list[Layer]
    classifier: list[Layer]
    critic: list[Layer]
    logits: np.ndarray


CONTENDERS = (
    Contender("erkeras", "erkeras"),
    Contender("PyTorch, contiguous", "PyTorch"),
    Contender("PyTorch, channels_last", "PyTorch", channels_last=True),
    Contender("erkeras, inner_bfloat16", "erkeras", inner_bfloat16=True),
    Contender("PyTorch, contiguous, bf16 PGD", "PyTorch", inner_bfloat16=True),
    Contender("PyTorch, channels_last, bf16 PGD", "PyTorch", inner_bfloat16=True, channels_last=True),
)


def training_data(settings: Settings) -> tuple[np.ndarray, np.ndarray]:
    """Random images `[batches, n, height, width, channels]` in [0, 1] and labels `[batches, n]`."""
    random = np.random.default_rng(settings.seed)
    size = (BATCHES, settings.batch)
    images = random.random((*size, *NETWORKS[settings.network][0]), np.float32)
    return images, random.integers(0, CLASSES, size)


# ---------------------------------------------------------------------------------------------- TensorFlow


def erkeras_step(settings: Settings, contender: Contender) -> tuple[Step, Networks]:
    """A training step as `ERClassifier.fit` runs it, and its networks before the first one."""
    tf = _tensorflow(settings.threads)
    import keras

    from erkeras.attacks import PGD
    from erkeras.models import ERClassifier, WassersteinCritic
    from erkeras.models.networks import build_networks
    from erkeras.threat import ThreatModel

    keras.utils.set_random_seed(settings.seed)
    image_shape, code_size = NETWORKS[settings.network]
    encoder, classifier = build_networks(settings.network, image_shape, code_size, CLASSES)
    model = ERClassifier(
        encoder,
        classifier,
        regularizer=WassersteinCritic(COEFFICIENT, clip=CLIP),
        adversary=PGD(ThreatModel("l_inf", EPSILON), steps=settings.steps),
        inner_bfloat16=contender.inner_bfloat16,
        seed=settings.seed,
    )
    model.compile(*(keras.optimizers.Adam(LEARNING_RATE) for _ in range(3)))
    images, labels = training_data(settings)
    networks = [[_as_layer(layer) for layer in part.layers] for part in (encoder, classifier, model.regularizer.critic)]
    logits = model(images[0], training=False).numpy()

    model.make_train_function()
    iterator = iter(tf.data.Dataset.from_tensor_slices((images, labels)).repeat())
    return functools.partial(model.train_function, iterator), Networks(*networks, logits)


def matrix_product_step(settings: Settings) -> tuple[Step, None]:
    """One product of two float32 matrices, in a graph."""
    tf = _tensorflow(settings.threads)
    size = [PRODUCT_SIZE, PRODUCT_SIZE]
    left, right = (tf.Variable(tf.random.stateless_uniform(size, [settings.seed, side])) for side in range(2))
    return tf.function(lambda: tf.linalg.matmul(left, right), autograph=False), None


def _tensorflow(threads: int) -> Any:
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads)
    return tf


def _as_layer(layer: Any) -> Layer:
    shapes = layer.input.shape[1:], layer.output.shape[1:]
    return Layer(type(layer).__name__, layer.get_config(), layer.get_weights(), *shapes)


# ------------------------------------------------------------------------------------------------- PyTorch


def torch_step(settings: Settings, contender: Contender, networks: Networks) -> tuple[Step, dict[str, Any]]:
    """The same step in eager PyTorch, and what was chosen for it.

    Gradients are taken with respect to what is updated, and nothing else; each step makes new ones, so that there is
    nothing to set to zero. In bfloat16 the weights are cast once a step: autocast keeps them for all PGD steps.
    """
    import torch

    torch.set_num_threads(settings.threads)
    torch.set_flush_denormal(True)  # as TensorFlow does
    torch.manual_seed(settings.seed)
    layout = torch.channels_last if contender.channels_last else torch.contiguous_format
    encoder, classifier, critic = (
        _torch_network(layers, layout) for layers in (networks.encoder, networks.classifier, networks.critic)
    )
    images, labels = (torch.from_numpy(array) for array in training_data(settings))
    batches = [(x.permute(0, 3, 1, 2).contiguous(memory_format=layout), y) for x, y in zip(images, labels, strict=True)]
    _check_logits(classifier.eval()(encoder.eval()(batches[0][0])), networks.logits)

    adam = _faster_adam([*encoder.parameters(), *critic.parameters()])
    optimizer, critic_optimizer, encoder_optimizer = (
        torch.optim.Adam(itertools.chain(*(part.parameters() for part in parts)), LEARNING_RATE, eps=1e-7, **adam)
        for parts in ((encoder, classifier), (critic,), (encoder,))
    )
    cross_entropy = torch.nn.functional.cross_entropy
    normalizations = [
        module for module in encoder.modules() if isinstance(module, torch.nn.modules.batchnorm._BatchNorm)
    ]
    momenta = [normalization.momentum for normalization in normalizations]
    log = torch.zeros(4)  # sums of loss, clean and adversarial accuracy, divergence

    def perturb(images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        lower, upper = (images - EPSILON).clamp_(min=0), (images + EPSILON).clamp_(max=1)
        adversarial = torch.empty_like(images).uniform_(-EPSILON, EPSILON).add_(images).clamp_(0, 1)
        for _ in range(settings.steps):
            adversarial.requires_grad_()
            loss = cross_entropy(classifier(encoder(adversarial)).float(), labels, reduction="sum")
            (gradient,) = torch.autograd.grad(loss, adversarial)
            adversarial = adversarial.detach().add_(gradient.sign_(), alpha=2.5 * EPSILON / settings.steps)
            adversarial = torch.clamp_(adversarial, lower, upper)
        return adversarial

    def descend(loss: torch.Tensor, optimizer: torch.optim.Optimizer) -> None:
        parameters = optimizer.param_groups[0]["params"]
        for parameter, gradient in zip(parameters, torch.autograd.grad(loss, parameters), strict=True):
            parameter.grad = gradient
        optimizer.step()

    def keep_statistics(keep: bool) -> None:
        for normalization, momentum in zip(normalizations, momenta, strict=True):
            normalization.momentum = 0.0 if keep else momentum

    def step(images: torch.Tensor, labels: torch.Tensor) -> None:
        # for the log, and line 4
        encoder.eval(), classifier.eval()
        with torch.autocast("cpu", torch.bfloat16, enabled=contender.inner_bfloat16):
            with torch.no_grad():
                clean_logits = classifier(encoder(images))
            adversarial = perturb(images, labels)
        encoder.train(), classifier.train()

        # 5 and 6
        codes = encoder(adversarial)
        prior_samples = torch.randn_like(codes)

        # 7
        divergence = critic(prior_samples).mean() - critic(codes.detach()).mean()
        descend(-COEFFICIENT * divergence, critic_optimizer)
        with torch.no_grad():
            for parameter in critic.parameters():
                parameter.clamp_(-CLIP, CLIP)

        # 8
        logits = classifier(codes)
        loss = cross_entropy(logits, labels)
        descend(loss, optimizer)

        # 9
        keep_statistics(True)
        descend(-COEFFICIENT * critic(encoder(adversarial)).mean(), encoder_optimizer)
        keep_statistics(False)

        with torch.no_grad():
            accuracies = [(each.argmax(1) == labels).float().mean() for each in (clean_logits, logits)]
            log.add_(torch.stack([loss, *accuracies, divergence]))

    source = itertools.cycle(batches)
    return lambda: step(*next(source)), adam


def _torch_network(layers: Sequence[Layer], layout: torch.memory_format) -> torch.nn.Sequential:
    """The same layers with the same weights, for images in NCHW."""
    import torch
    from torch import nn

    class Apply(nn.Module):
        def __init__(self, function: Callable[[torch.Tensor], torch.Tensor]) -> None:
            super().__init__()
            self.function = function

        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            return self.function(inputs)

    modules: list[nn.Module] = []
    rows: np.ndarray | slice = slice(None)  # of the Dense kernel after a Flatten, in PyTorch's order of pixels
    for layer in layers:
        config = layer.config
        values = list(layer.weights)  # in the order of the module's parameters and buffers
        if layer.kind == "Rescaling":
            offset = torch.tensor(config["offset"])
            modules.append(Apply(functools.partial(torch.add, offset, alpha=config["scale"])))
        elif layer.kind == "Conv2D":
            left, right, top, bottom = pads = _same_pads(layer)
            symmetric = left == right and top == bottom
            if not symmetric:
                modules.append(nn.ZeroPad2d(pads))
            modules.append(
                nn.Conv2d(
                    layer.input_shape[-1],
                    config["filters"],
                    config["kernel_size"],
                    config["strides"],
                    (top, left) if symmetric else 0,
                    bias=config["use_bias"],
                )
            )
            values[0] = values[0].transpose(3, 2, 0, 1)
        elif layer.kind == "BatchNormalization":
            normalization = nn.BatchNorm2d if len(layer.input_shape) == 3 else nn.BatchNorm1d
            modules.append(normalization(layer.input_shape[-1], config["epsilon"], 1 - config["momentum"]))
        elif layer.kind == "Flatten":
            if layout is torch.channels_last:  # Keras' own order, without a copy
                modules.append(Apply(lambda images: images.permute(0, 2, 3, 1).flatten(1)))
            else:
                modules.append(nn.Flatten())
                rows = np.arange(math.prod(layer.input_shape)).reshape(layer.input_shape).transpose(2, 0, 1).ravel()
        elif layer.kind == "Dense":
            modules.append(nn.Linear(layer.input_shape[-1], config["units"], config["use_bias"]))
            values[0] = values[0][rows].T
            rows = slice(None)
        elif layer.kind == "ReLU":
            modules.append(nn.ReLU(inplace=True))
        else:
            raise NotImplementedError(f"a {layer.kind} layer has no counterpart here: add it to _torch_network.")
        state = [tensor for tensor in modules[-1].state_dict().values() if tensor.is_floating_point()]
        for tensor, value in zip(state, values, strict=True):
            tensor.copy_(torch.from_numpy(np.ascontiguousarray(value)))
        if config.get("activation") == "relu":
            modules.append(nn.ReLU(inplace=True))
    return nn.Sequential(*modules).to(memory_format=layout)


def _same_pads(layer: Layer) -> tuple[int, int, int, int]:
    """Keras' padding "same" as (left, right, top, bottom): the odd pixel goes to the right and the bottom."""
    pads: list[int] = []
    for axis in (1, 0):
        size, stride = layer.config["kernel_size"][axis], layer.config["strides"][axis]
        total = max((layer.output_shape[axis] - 1) * stride + size - layer.input_shape[axis], 0)
        pads += [total // 2, total - total // 2]
    return tuple(pads)


def _check_logits(logits: torch.Tensor, expected: np.ndarray) -> None:
    difference = np.abs(logits.detach().numpy() - expected).max()
    if difference > 1e-4:
        raise AssertionError(f"PyTorch's logits differ from Keras' by {difference:.1e}: the networks are not the same.")


def _faster_adam(parameters: Sequence[torch.Tensor]) -> dict[str, bool]:
    """The faster of PyTorch's two Adams for parameters of these shapes."""
    import torch

    def seconds(options: dict[str, bool]) -> float:
        copies = [torch.rand_like(parameter).requires_grad_() for parameter in parameters]
        for copy in copies:
            copy.grad = torch.rand_like(copy)
        optimizer = torch.optim.Adam(copies, **options)
        return 1 / run_for(0.5, optimizer.step)

    return min(({"fused": True}, {"foreach": True}), key=seconds)


# ------------------------------------------------------------------------------------- Floating point operations


def step_flops(networks: Networks, steps: int) -> dict[str, int]:
    """Floating point operations of one training step on one image, by line of Algorithm 1.

    A multiplication and an addition are two. Only convolutions (at every place of the kernel, padding included) and
    dense layers are counted. A backward pass costs the forward pass's number again for the inputs and again for the
    weights; the first layer of a network whose inputs need no gradient is spared the former.
    """
    encoder, classifier, critic = (
        [_forward_flops(layer) for layer in layers if layer.kind in ("Conv2D", "Dense")]
        for layers in (networks.encoder, networks.classifier, networks.critic)
    )
    network = encoder + classifier
    flops = {
        "clean pass for the log": sum(network),
        # each PGD step: forward, and backward to the images
        "4: adversarial examples": steps * 2 * sum(network),
        "6: codes": sum(encoder),
        # on codes and on prior samples: forward, backward to the weights, backward to the inputs
        "7: critic": 2 * (3 * sum(critic) - critic[0]),
        # the classifier forward, then both networks backward
        "8: encoder and classifier": sum(classifier) + 2 * sum(network) - encoder[0],
        # encoder and critic forward, the critic backward to its inputs, the encoder backward
        "9: encoder": sum(encoder) + 2 * sum(critic) + 2 * sum(encoder) - encoder[0],
    }
    return {**flops, "total": sum(flops.values())}


def _forward_flops(layer: Layer) -> int:
    places = math.prod(layer.output_shape[:-1])  # 1 for a dense layer
    return 2 * places * layer.weights[0].size


# ----------------------------------------------------------------------------------------- Workers and the parent


def run_for(seconds: float, step: Step) -> float:
    """Steps per second, over whole steps of about that many seconds."""
    start, count, elapsed = time.perf_counter(), 0, 0.0
    while elapsed < seconds:
        step()
        count += 1
        elapsed = time.perf_counter() - start
    return count / elapsed


def serve(pipe: Connection, make_step: Callable[..., tuple[Step, Any]], *arguments: Any) -> None:
    """A worker: makes a step, says what came with it, then runs bursts of as many seconds as it is told."""
    step, message = make_step(*arguments)
    for _ in range(WARM_UP_STEPS):
        step()
    pipe.send(message)
    while (seconds := pipe.recv()) is not None:
        rate = run_for(seconds, step)
        unit = 1 if sys.platform == "darwin" else 1024
        pipe.send((rate, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20))


class Worker:
    """The parent's end of a process that runs `serve`; made when the worker is ready."""

    def __init__(self, name: str, make_step: Callable[..., tuple[Step, Any]], *arguments: Any) -> None:
        context = multiprocessing.get_context("spawn")
        self.name = name
        self._pipe, end = context.Pipe()
        context.Process(target=serve, args=(end, make_step, *arguments), daemon=True).start()
        end.close()
        self.message = self._receive()

    def run(self, seconds: float) -> tuple[float, float]:
        """Steps per second, and the peak memory of the process so far in MiB."""
        self._pipe.send(seconds)
        return self._receive()

    def _receive(self) -> Any:
        try:
            return self._pipe.recv()
        except EOFError:
            sys.exit(f"{self.name}: the worker has ended; its own message is above.")


def measure(settings: Settings, rounds: int, seconds: float, say: Callable[[str], None]) -> dict[str, Any]:
    """Runs all contenders in turn and returns what `show` prints, as JSON takes it."""
    workers, networks = {}, None
    for contender in CONTENDERS:
        say(f"starting {contender.name}")
        if contender.library == "erkeras":
            worker = Worker(contender.name, erkeras_step, settings, contender)
            networks = networks or worker.message
        else:
            worker = Worker(contender.name, torch_step, settings, contender, networks)
        workers[contender] = worker
    product = Worker("matrix product", matrix_product_step, settings)

    ceiling: list[float] = []  # FLOP/s, one number a round
    rates: dict[Contender, list[float]] = {contender: [] for contender in CONTENDERS}
    memory = dict.fromkeys(CONTENDERS, 0.0)
    for number in range(rounds):
        say(f"round {number + 1} of {rounds}")
        ceiling.append(product.run(seconds / 2)[0] * 2 * PRODUCT_SIZE**3)
        for contender, worker in list(workers.items())[:: -1 if number % 2 else 1]:
            steps_per_second, memory[contender] = worker.run(seconds)
            rates[contender].append(steps_per_second * settings.batch)

    flops = step_flops(networks, settings.steps)
    return {
        "settings": {**asdict(settings), "rounds": rounds, "seconds": seconds},
        "machine": {"processor": platform.machine(), "cores": os.cpu_count(), **_versions()},
        "flops_per_image": flops,
        "matrix_product_gflops": _summary([rate / 1e9 for rate in ceiling]),
        "contenders": {
            contender.name: {
                "images_per_second": _summary(rates[contender]),
                "portion_of_matrix_product": _summary(_ratios(rates[contender], ceiling, flops["total"])),
                "peak_memory_mib": memory[contender],
                **({"adam": workers[contender].message} if contender.library == "PyTorch" else {}),
            }
            for contender in CONTENDERS
        },
        "ratios": [_compare(rates, inner_bfloat16) for inner_bfloat16 in (False, True)],
    }


def _compare(rates: dict[Contender, list[float]], inner_bfloat16: bool) -> dict[str, Any]:
    """erkeras over the better of PyTorch's memory formats, round by round."""
    best = {
        library: max(
            (each for each in rates if (each.library, each.inner_bfloat16) == (library, inner_bfloat16)),
            key=lambda each: statistics.median(rates[each]),
        )
        for library in ("erkeras", "PyTorch")
    }
    ratios = _ratios(rates[best["erkeras"]], rates[best["PyTorch"]])
    return {"of": best["erkeras"].name, "over": best["PyTorch"].name, **_summary(ratios)}


def _ratios(above: Sequence[float], below: Sequence[float], factor: float = 1) -> list[float]:
    return [factor * one / other for one, other in zip(above, below, strict=True)]


def _summary(values: Sequence[float]) -> dict[str, Any]:
    return {"median": statistics.median(values), "min": min(values), "max": max(values), "rounds": list(values)}


def _versions() -> dict[str, str]:
    from importlib.metadata import version

    return {"python": platform.python_version(), **{name: version(name) for name in ("tensorflow", "keras", "torch")}}


def show(results: dict[str, Any]) -> None:
    """Prints the results as a table."""
    from rich.console import Console
    from rich.table import Table

    settings, flops, ceiling = (results[key] for key in ("settings", "flops_per_image", "matrix_product_gflops"))
    table = Table(
        title="Training step of {network}: batch {batch}, PGD-{steps}, {threads} threads".format(**settings),
        caption=f"{flops['total'] / 1e6:.1f} MFLOP an image; matrix product, float32: {ceiling['median']:.0f} GFLOP/s "
        f"({ceiling['min']:.0f} to {ceiling['max']:.0f}). Medians of {settings['rounds']} rounds.",
    )
    table.add_column("contender", no_wrap=True)
    for column in ("images/s", "min", "max", "of matrix product", "peak MiB"):
        table.add_column(column, justify="right")
    for name, result in results["contenders"].items():
        rate, portion = result["images_per_second"], result["portion_of_matrix_product"]["median"]
        cells = [f"{rate[key]:,.0f}" for key in ("median", "min", "max")]
        table.add_row(name, *cells, f"{portion:.0%}", f"{result['peak_memory_mib']:,.0f}")
    console = Console()
    console.print(table)
    for ratio in results["ratios"]:
        console.print("{of} / {over}: {median:.2f} ({min:.2f} to {max:.2f})".format(**ratio), highlight=False)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--network", choices=NETWORKS, default="mnist")
    parser.add_argument("--batch", type=int, default=128, help="images in a step (default 128)")
    parser.add_argument("--steps", type=int, default=7, help="PGD steps (default 7)")
    parser.add_argument("--threads", type=int, default=2, help="threads of each library (default 2)")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each contender (default 5)")
    parser.add_argument("--seconds", type=float, default=4, help="length of a turn (default 4)")
    parser.add_argument("--seed", type=int, default=0, help="of data, weights and draws (default 0)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all numbers to this file")
    arguments = parser.parse_args()
    if importlib.util.find_spec("torch") is None:
        print("PyTorch, which erkeras is measured against, is missing: pip install 'erkeras[bench]'", file=sys.stderr)
        return 2
    # Both are read when a library is loaded. Without PASSIVE, idle threads of PyTorch spin on cores that others need.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    settings = Settings(arguments.network, arguments.batch, arguments.steps, arguments.threads, arguments.seed)
    results = measure(
        settings, arguments.rounds, arguments.seconds, lambda text: print(text, file=sys.stderr, flush=True)
    )
    show(results)
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
