"""The kinds of warnings that cards and records carry: what each means, and what to do. docs/warnings.md lists them."""

from __future__ import annotations

import re
from dataclasses import dataclass

from erkeras.report.sources import Reported
from erkeras.report.words import heading


@dataclass(frozen=True)
class Kind:
    """Describes a kind of warning.

    Attributes:
        heading: its name, and the heading of its part of docs/warnings.md.
        pattern: finds its sentences.
        meaning: what it means for the figures.
        advice: what to do.
    """

    heading: str
    pattern: str
    meaning: str
    advice: str


KINDS = (
    Kind(
        "Masked gradients",
        r"broke .* of the images after the gradient attacks had given up",
        "An attack without gradients broke images that the attacks with gradients could not. The gradients of this "
        "model may lead nowhere, so that attacks which follow them look weak. The robust accuracy may be too high.",
        "Run Square or RayS with more queries, and the gradient attacks with more restarts. Trust the lowest figure.",
    ),
    Kind(
        "Zero gradients",
        r"The gradient that .* follows is zero at",
        "At some images the gradient is exactly zero. An attack that follows it does not move there, and the image "
        "counts as robust without a test.",
        "Attack logits and not probabilities. Add an attack without gradients: Square or RayS.",
    ),
    Kind(
        "Probabilities in place of logits",
        r"The model gives (probabilities|sigmoids), not logits",
        "The attacks saw probabilities. Where these are rounded to 0 or 1, their gradients vanish, and attacks are "
        "weaker than they could be.",
        "Give a model that ends in logits, and evaluate again.",
    ),
    Kind(
        "Randomised model",
        r"The model is randomised",
        "The same image gets different outputs. An attack that does not average over them is weaker, and a verdict may "
        "change when it is verified.",
        "Evaluate by AutoAttack's version rand, which averages: erkeras attack MODEL --attack autoattack --version "
        "rand.",
    ),
    Kind(
        "Broken in passing",
        r"broke \d+ images while it searched, and the model is right about them",
        "An attack saw the model fail at these images, and a second look found it right again. The image lies at a "
        "boundary, or the model is randomised. They count as robust.",
        "Read the robust accuracy as lower by up to so many images. Evaluate a randomised model by version rand.",
    ),
    Kind(
        "Outputs that are no numbers",
        r"gave what is no number for attacked versions",
        "For some attacked images the model's outputs were not numbers. They count as not robust.",
        "Find the layer that overflows, as a division or an exponential, and train in float32.",
    ),
    Kind(
        "Fewer classes than targets",
        r"asks for more target classes than",
        "A targeted attack tries several wrong classes, and the model has fewer. The last one is tried again. The "
        "figures are right, and some of the work was for nothing.",
        "Nothing has to be done.",
    ),
    Kind(
        "Images made for another model",
        r"were made for another model than the one that classifies them",
        "The attacked images were made against another model and then shown to this one. An attack on this model "
        "itself breaks more images.",
        "Attack this model directly. Read the figure as what an attacker reaches who does not know the model.",
    ),
    Kind(
        "Overfitted to a cheap attack",
        r"the accuracy under attack fell to less than half",
        "During training the robustness on validation images collapsed after an epoch. The model learned to withstand "
        "the cheap attack of its training, and no other.",
        "Train again with more --steps, or with --keep-best, which keeps the best epoch.",
    ),
    Kind(
        "Start from other pixels",
        r"of the validation images before training: where it takes pixels",
        "The network that training started from was hardly right on any image. It probably takes pixels from 0 to 255, "
        "and got pixels from 0 to 1.",
        "Put keras.layers.Rescaling(255.0) in front of the network, and train again.",
    ),
    Kind(
        "No detector",
        r"^No detector could be fitted",
        "Training could not fit a detector, and the model was saved without one.",
        "Read the reason after the colon. Most often the classifier was right on too few images: train longer.",
    ),
)
_UNKNOWN = Kind(
    "Another warning", "", "This version of erkeras does not know this kind of warning.", "Read it closely."
)


@dataclass(frozen=True)
class Doubt:
    """Holds a warning of a card or a record: where it stands, its sentence, and its kind."""

    where: str
    sentence: str
    kind: Kind


def kind_of(sentence: str) -> Kind:
    """Finds the kind of a warning."""
    return next((kind for kind in KINDS if re.search(kind.pattern, sentence, re.DOTALL)), _UNKNOWN)


def doubts_of(model: Reported) -> list[Doubt]:
    """Lists the warnings of a model's training and evaluations."""
    card = model.card
    found = [("training", sentence) for sentence in (card.training.warnings if card.training else ())]
    for measured in model.measured:
        found += [(heading(measured), sentence) for sentence in measured.summary.warnings]
    if card.evaluation and card.evaluation.baseline:
        found += [("the same network without defense", words) for words in card.evaluation.baseline.warnings]
    return [Doubt(where, sentence, kind_of(sentence)) for where, sentence in dict.fromkeys(found)]
