"""Attacks on a model together with its detector: misclassified, and taken for natural, at once.

Carlini and Wagner (2017), "Adversarial Examples Are Not Easily Detected: Bypassing Ten Detection Methods": an attack
that knows the detector descends its score too. The model under attack gives, beside its logits, the detector's score
for each class that an image could be taken for (`ERDetector.outputs`).
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from erkeras.attacks.apgd import APGD
from erkeras.attacks.attack import Attack, serializable
from erkeras.attacks.contract import Batch, Logits, State
from erkeras.attacks.losses import LOSSES, margin
from erkeras.attacks.pgd import PGD
from erkeras.errors import InputError

#: Weights of the detector's term. With 0 the attack does not know the detector, and meets it by luck.
WEIGHTS = (0.0, 0.03, 0.3, 3.0)
#: How far beyond both boundaries a term of the objective still counts.
_SURPLUS = 0.1


class _AimedAtDetector(Attack):
    """What PGD and APGD do otherwise when there is a detector.

    The outputs are `[n, 2 classes]`: logits z, then excess scores s, positive where an image of that class would be
    found adversarial. An image is broken where the highest logit is of another class c than the label, and s_c <= 0.
    With weight 0 the objective is the plain attack's, with weight w > 0

        min(z_c - max_{i != c} z_i, surplus) - w max(s_c, -surplus)

    for the class c that the attack is heading for: its target, or the highest other logit.
    """

    weights: tuple[float, ...]
    outputs_per_class = 2

    @property
    def attempts(self) -> int:
        return len(self.weights) * super().attempts

    @property
    def name(self) -> str:
        return f"{super().name}-detector"

    def initial(self, batch: Batch) -> State:
        return super().initial(_of_classes(batch))

    def step(self, logits: Logits, batch: Batch, state: State) -> State:
        return super().step(logits, _of_classes(batch), state)

    def predictions(self, outputs: tf.Tensor) -> tf.Tensor:
        return super().predictions(_split(outputs)[0])

    def broken(self, labels: tf.Tensor, outputs: tf.Tensor) -> tf.Tensor:
        predictions = self.predictions(outputs)
        return (predictions != labels) & (tf.gather(_split(outputs)[1], predictions, batch_dims=1) <= 0)

    def objective(self, batch: Batch, outputs: tf.Tensor, targets: tf.Tensor | None) -> tf.Tensor:
        logits, excess = _split(outputs)
        plain = LOSSES[self.loss](batch.labels, logits, targets)  # type: ignore[attr-defined]
        weight = tf.gather(tf.constant(self.weights, tf.float32), batch.attempt // super().attempts)
        heading = targets
        if heading is None:
            own = tf.one_hot(batch.labels, tf.shape(logits)[1], on_value=float("inf"), off_value=0.0)
            heading = tf.argmax(logits - own, axis=1, output_type=tf.int32)
        # The margin of the class it is heading for over all others is minus the one of "any other" over it.
        wrong = tf.minimum(-margin(heading, logits), _SURPLUS)
        found = tf.maximum(tf.gather(excess, heading, batch_dims=1), -_SURPLUS)
        return tf.where(weight > 0, wrong - weight * found, plain)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "weights": list(self.weights)}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Any:
        return super().from_config({**config, "weights": tuple(config["weights"])})


@serializable
@dataclass(frozen=True)
class DetectorPGD(_AimedAtDetector, PGD):
    """PGD against a model and its detector.

    Args:
        weights: of the detector's term, each tried in all of PGD's attempts; the first success counts.
        others: as for `PGD`.
    """

    weights: tuple[float, ...] = WEIGHTS

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_weights(self.weights)


@serializable
@dataclass(frozen=True)
class DetectorAPGD(_AimedAtDetector, APGD):
    """APGD against a model and its detector.

    Args:
        weights: of the detector's term, each tried in all of APGD's attempts; the first success counts.
        others: as for `APGD`.
    """

    weights: tuple[float, ...] = WEIGHTS

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_weights(self.weights)


def aim_at_detector(attack: PGD | APGD, weights: tuple[float, ...] = WEIGHTS) -> DetectorPGD | DetectorAPGD:
    """The attack of the same settings against a model and its detector.

    Raises:
        InputError: for an attack that is neither PGD nor APGD.
    """
    aimed = {PGD: DetectorPGD, APGD: DetectorAPGD}.get(type(attack))
    if aimed is None:
        raise InputError(f"{attack.name} cannot be aimed at a detector: give PGD or APGD.")
    settings = {field.name: getattr(attack, field.name) for field in dataclasses.fields(attack)}
    return aimed(**settings, weights=weights)


def _split(outputs: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    logits, excess = tf.split(outputs, 2, axis=1)
    return logits, excess


def _of_classes(batch: Batch) -> Batch:
    return batch._replace(clean_logits=_split(batch.clean_logits)[0])


def _check_weights(weights: tuple[float, ...]) -> None:
    if not weights or not all(0 <= weight < float("inf") for weight in weights):
        raise InputError(f"the weights of the detector's term are {weights}: give numbers of 0 or more.")
