"""What makes a robust accuracy doubtful, as AutoAttack's own checks ask: said loudly, and kept with the result."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from erkeras.attacks import Attack, Victim
from erkeras.attacks.losses import margin
from erkeras.attacks.tensors import gradient_of
from erkeras.evaluation.examples import Examples

#: Two passes may differ by this fraction of the logits' length before a model counts as randomised.
_RANDOM = 1e-4
#: Accuracy that a black-box attack may take after gradient attacks before gradients count as masked.
_MASKED = 0.002


def check_model(victim: Victim, images: np.ndarray, labels: np.ndarray, attacks: Sequence[Attack]) -> list[str]:
    """Looks at a model on some images before it is attacked.

    Args:
        victim: the model; one call of `outputs_for` has been made.
        images, labels: one internal batch, of which these looks are made.
        attacks: those that will run.

    Returns:
        Sentences: a randomised model, probabilities, gradients that are zero, fewer classes than targets.
    """
    first, second = (victim.outputs_for(images) for _ in range(2))
    sentences = []
    if victim.outputs == "probabilities":
        sentences.append(
            "The model gives probabilities, not logits: where its softmax saturates, gradients vanish and attacks on "
            "it are weaker. Attack a model that ends in logits where you can."
        )
    change = np.linalg.norm(first - second, axis=1) / np.maximum(np.linalg.norm(first, axis=1), 1e-10)
    if change.max() > _RANDOM:
        sentences.append(
            f"The model is randomised (two passes differ by {change.max():.1%}): only attacks that average over it "
            "(autoattack, version rand) see through that, and a verdict may change when it is verified."
        )
    if any(attack.knowledge == "gradients" for attack in attacks):
        vanished = int((_gradient_sizes(victim, images, labels) == 0).sum())
        if vanished:
            sentences.append(
                f"The gradient is zero at {vanished} of the first {len(images)} images: gradient attacks see nothing "
                "there, and the robust accuracy may be an illusion."
            )
    classes = first.shape[1] // attacks[0].outputs_per_class
    short = [attack.name for attack in attacks if getattr(attack, "targets", 0) > classes - 1]
    if short:
        sentences.append(
            f"{', '.join(short)} asks for more target classes than the {classes - 1} there are: the last is asked for "
            "again."
        )
    return sentences


def check_result(examples: Examples, attacks: Sequence[Attack]) -> list[str]:
    """Looks at what the attacks left standing: a black-box attack that finds clearly more than gradients did."""
    sentences = []
    for number, attack in enumerate(attacks):
        if attack.knowledge == "gradients" or not any(a.knowledge == "gradients" for a in attacks[:number]):
            continue
        more = float(np.mean(examples.broken_by == number))
        if more > _MASKED:
            sentences.append(
                f"{attack.name} broke {more:.1%} of the images after the gradient attacks had given up: the gradients "
                "may be masked. Run it with more queries, and gradient attacks with more restarts."
            )
    return sentences


def _gradient_sizes(victim: Victim, images: np.ndarray, labels: np.ndarray) -> np.ndarray:
    points = tf.constant(images)
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(points)
        # Unlike the cross-entropy's, its gradient does not fade with confidence.
        losses = margin(tf.constant(labels), victim.logits(points))
    gradient = gradient_of(tape, losses, points)
    return tf.reduce_max(tf.abs(gradient), axis=[1, 2, 3]).numpy()
