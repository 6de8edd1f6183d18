"""PyTorch's side of train_step.py: Algorithm 1 as a PyTorch user writes it, in eager mode or compiled."""

from __future__ import annotations

import argparse
import contextlib
import itertools
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, NamedTuple

from networks import check_logits, torch_network
from step_setting import CLIP, COEFFICIENT, EPSILON, LEARNING_RATE, Networks, training_data

if TYPE_CHECKING:
    import torch


class How(NamedTuple):
    """How PyTorch runs: the adversary in bfloat16, images in channels_last, encoder and classifier compiled."""

    bfloat16: bool
    channels_last: bool
    compiled: bool = False


def torch_step(options: argparse.Namespace, how: How, networks: Networks) -> tuple[Callable[[], list[float]], None]:
    """The same step in PyTorch.

    Gradients are taken with respect to what is updated, nothing else. autocast keeps the weights that it has cast for
    the length of its block: once for all PGD steps. Compiled networks give the gradients of all weights that want one,
    whoever asks, so in PGD none wants one.
    """
    import torch
    from torch.nn.functional import cross_entropy

    device = set_torch(options)
    layout = torch.channels_last if how.channels_last else torch.contiguous_format
    encoder, classifier, critic = (torch_network(layers, layout) for layers in networks[:3])
    images, labels = (torch.from_numpy(array) for array in training_data(options))
    images = [batch.permute(0, 3, 1, 2).contiguous(memory_format=layout) for batch in images]
    check_logits(networks.logits, classifier.eval()(encoder.eval()(images[0])).detach().numpy())
    check_sizes(networks, encoder, classifier, critic)
    for network in (encoder, classifier, critic):
        network.to(device)
    images, labels = [batch.to(device) for batch in images], labels.to(device)
    encode, classify = (compiled(part) if how.compiled else part for part in (encoder, classifier))

    def adam(*parts: torch.nn.Module) -> torch.optim.Adam:
        parameters = itertools.chain.from_iterable(part.parameters() for part in parts)
        return torch.optim.Adam(parameters, LEARNING_RATE, eps=1e-7, fused=True)  # foreach takes two to three times it

    optimizer, critic_optimizer, regularizer_optimizer = adam(encoder, classifier), adam(critic), adam(encoder)
    log = torch.zeros(4, device=device)  # sums of loss, clean accuracy, adversarial accuracy, divergence

    def descend(loss: torch.Tensor, optimizer: torch.optim.Optimizer) -> None:
        optimizer.zero_grad(set_to_none=True)
        # not autograd.grad, whose gradients may lie in memory otherwise than the weights: fused Adam then mixes them up
        loss.backward(inputs=optimizer.param_groups[0]["params"])
        optimizer.step()

    def step(images: torch.Tensor, labels: torch.Tensor) -> list[float]:
        encoder.eval(), classifier.eval()
        for network in (encoder, classifier):
            network.requires_grad_(not how.compiled)
        with torch.autocast(device.type, torch.bfloat16, enabled=how.bfloat16):
            with torch.no_grad():
                clean_logits = classify(encode(images))
            adversarial = torch_pgd(lambda images: classify(encode(images)), images, labels, options.steps)  # line 4
        for network in (encoder, classifier):
            network.train().requires_grad_()
        codes = encode(adversarial)  # 5 and 6
        prior_samples = torch.randn_like(codes)

        divergence = critic(prior_samples).mean() - critic(codes.detach()).mean()  # 7
        descend(-COEFFICIENT * divergence, critic_optimizer)
        with torch.no_grad():
            for parameter in critic.parameters():
                parameter.clamp_(-CLIP, CLIP)

        logits = classify(codes)  # 8
        loss = cross_entropy(logits, labels)
        descend(loss, optimizer)

        with statistics_kept(encoder):  # 9, where BatchNorm's statistics stay as line 6 has left them
            descend(-COEFFICIENT * critic(encode(adversarial)).mean(), regularizer_optimizer)

        with torch.no_grad():
            accuracies = [(each.argmax(1) == labels).float().mean() for each in (clean_logits, logits)]
            return log.add_(torch.stack([loss, *accuracies, divergence])).tolist()

    batches = itertools.cycle(zip(images, labels, strict=True))
    return lambda: step(*next(batches)), None


def set_torch(options: argparse.Namespace) -> torch.device:
    """Sets what TensorFlow sets too; gives the device to run on."""
    import torch

    torch.set_num_threads(options.threads)
    torch.set_flush_denormal(True)  # as TensorFlow does
    torch.backends.cuda.matmul.allow_tf32 = True
    torch.manual_seed(options.seed)
    return torch.device("cuda" if options.device == "gpu" else "cpu")


def compiled(network: torch.nn.Module) -> Callable[[torch.Tensor], torch.Tensor]:
    """Compiles a network as one graph for each mode it is called in; raises an error where it cannot."""
    import torch

    def call(inputs: torch.Tensor) -> torch.Tensor:  # of a Sequential itself, only the lambdas inside are compiled
        return network(inputs)

    torch._dynamo.config.recompile_limit = 32
    return torch.compile(call, fullgraph=True, dynamic=False)


def check_sizes(networks: Networks, *modules: torch.nn.Module) -> None:
    """Raises AssertionError where a network has another number of weights in PyTorch, BatchNorm's statistics too."""
    for layers, module in zip(networks[:3], modules, strict=True):
        ours = sum(weight.size for layer in layers for weight in layer.weights)
        torchs = sum(tensor.numel() for tensor in module.state_dict().values() if tensor.is_floating_point())
        if ours != torchs:
            raise AssertionError(f"a network has {ours:,} weights in Keras and {torchs:,} in PyTorch.")


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
    """PGD in PyTorch, from a random start and with the step size that training takes."""
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
