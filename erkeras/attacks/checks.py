"""Finds, before an attack, what would make a robust accuracy doubtful, as AutoAttack's own checks do."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from erkeras.attacks.contract import Batch, Steps
from erkeras.attacks.tensors import gradient_of
from erkeras.attacks.victim import PROBABILITIES, SIGMOIDS, Victim
from erkeras.errors import InputError, RobustnessWarning

#: Two passes may differ by this fraction of the logits' length before a model counts as randomised.
_RANDOM = 1e-4


def check_model(
    victim: Victim, images: np.ndarray, labels: np.ndarray, attacks: Sequence[Steps], internal_batch: int
) -> list[str]:
    """Looks at a model on some images before it is attacked.

    Args:
        victim: the model; one call of `outputs_for` has been made.
        images, labels: one internal batch, of which these looks are made.
        attacks: those that will run.
        internal_batch: how many images the model sees at once.

    Returns:
        Sentences: a randomised model, probabilities, gradients that are zero, fewer classes than targets.
    """
    first, second = (victim.outputs_for(images, internal_batch=internal_batch) for _ in range(2))
    sentences = []
    if victim.outputs in (PROBABILITIES, SIGMOIDS):
        sentences.append(
            f"The model gives {victim.outputs}, not logits: where they saturate, gradients vanish and attacks are "
            "weaker. Attack a model that ends in logits where you can."
        )
    lengths = np.maximum(_length(first), 1e-10)
    change = float((_length(np.where(first == second, 0, first - second)) / lengths).max(initial=0))
    if change > _RANDOM:
        sentences.append(
            f"The model is randomised (two passes differ by {change:.1%}): only attacks that average over it "
            "(autoattack, version rand) see through that, and a verdict may change when it is verified."
        )
    vanished: dict[int, list[str]] = {}
    for attack in attacks:
        if attack.knowledge == "gradients" and len(images):
            sizes = _gradient_sizes(victim, images, labels, first, attack)
            vanished.setdefault(int((sizes == 0).sum()), []).append(attack.name)
    for count, names in vanished.items():
        if count:
            sentences.append(
                f"The gradient that {', '.join(names)} follows is zero at {count} of the first {len(images)} images: "
                "it sees nothing there, and the robust accuracy may be an illusion."
            )
    classes = first.shape[1] // attacks[0].outputs_per_class
    short = [attack.name for attack in attacks if getattr(attack, "targets", 0) > classes - 1]
    if short:
        sentences.append(
            f"{', '.join(short)} asks for more target classes than the {classes - 1} there are: the last is asked for "
            "again."
        )
    return sentences


def look_once(
    victim: Victim, images: np.ndarray, labels: np.ndarray, attacks: Sequence[Steps], internal_batch: int
) -> None:
    """Looks at a model before its first attack of a kind, and warns of it once; arguments as for `check_model`."""
    new = [attack for attack in attacks if attack not in victim.looked]
    victim.looked.update(new)
    for sentence in check_model(victim, images, labels, new, internal_batch) if new else ():
        if sentence not in victim.told:
            victim.told.append(sentence)
            warnings.warn(sentence, RobustnessWarning, stacklevel=4)


def check_labels(labels: np.ndarray, classes: int) -> None:
    """Raises InputError for labels that a model with so many classes does not have."""
    # A model that gives labels does not say how many there are.
    if labels.min() < 0 or 1 < classes <= labels.max():
        raise InputError(
            f"the labels run from {labels.min()} to {labels.max()}, and the model has {classes} outputs: "
            f"give labels from 0 to {classes - 1}."
        )


def unconfirmed_sentence(name: str, count: int) -> str:
    """Says how many images an attack broke that a plain pass has right again; see `Attacked.unconfirmed`."""
    return (
        f"{name} broke {count} images while it searched, and the model is right about them when it classifies them "
        "again (it is randomised, or rounds otherwise there): they count as standing."
    )


def _length(outputs: np.ndarray) -> np.ndarray:
    return np.linalg.norm(np.where(np.isfinite(outputs), outputs, 0), axis=1)


def _gradient_sizes(
    victim: Victim, images: np.ndarray, labels: np.ndarray, outputs: np.ndarray, attack: Steps
) -> np.ndarray:
    n = len(images)
    batch = Batch(*map(tf.constant, (images, labels, outputs, np.zeros((n, 2), np.int64), np.zeros(n, np.int32))))
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(batch.images)
        losses = attack.clean_loss(batch, victim.logits(batch.images))
    sizes: np.ndarray = tf.reduce_max(tf.abs(gradient_of(tape, losses, batch.images)), axis=[1, 2, 3]).numpy()
    return sizes
