"""Finds signs in attacks' results that a robust accuracy is too high. `erkeras.attacks.checks` checks the model."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from erkeras.attacks import Attack
from erkeras.evaluation.examples import UNANSWERED, Examples

#: Accuracy that a black-box attack may take after gradient attacks before gradients count as masked.
_MASKED = 0.002


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
    unanswered = int(np.sum(examples.broken_by == UNANSWERED))
    if unanswered:
        sentences.append(
            f"The model gave what is no number for attacked versions of {unanswered} images: these are not robust."
        )
    return sentences
