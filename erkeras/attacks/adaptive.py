"""The adaptive attacker: misclassified, and taken for natural by a detector, at once.

Carlini and Wagner (2017), "Adversarial Examples Are Not Easily Detected: Bypassing Ten Detection Methods": an attack
that knows the detector descends its score too. The model under attack gives, beside its logits, the detector's score
for each class that an image could be taken for (`ERDetector.outputs`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import keras
import tensorflow as tf

from erkeras.attacks.apgd import APGD
from erkeras.attacks.attack import Attack, serializable
from erkeras.attacks.contract import Batch, Logits, State
from erkeras.attacks.losses import is_answer, margin
from erkeras.attacks.pgd import PGD
from erkeras.errors import InputError
from erkeras.threat import ThreatModel

#: Weights of the detector's term. With 0 the attack does not know the detector, and meets it by luck.
WEIGHTS = (0.0, 0.03, 0.3, 3.0)
#: How far beyond both boundaries a term of the objective still counts.
_SURPLUS = 0.1


@serializable
@dataclass(frozen=True)
class AdaptiveAttack(Attack):
    """Aims PGD or APGD at a model and its detector.

    The outputs are `[n, 2 classes]`: logits z, then excess scores s, positive where an image of that class would be
    found adversarial. An image is broken where the highest logit is of another class c than the label, and s_c <= 0.
    With weight 0 the objective is the plain attack's, with weight w > 0

        min(z_c - max_{i != c} z_i, surplus) - w max(s_c, -surplus)

    for the class c that the attack is heading for: its target, or the highest other logit.

    Example:
        AdaptiveAttack(PGD(threat, restarts=5))(detector.outputs, images, labels).robust_accuracy

    Args:
        attack: PGD or APGD.
        weights: of the detector's term, each tried in all of the attack's attempts; the first success counts.

    Raises:
        InputError: for another attack, or weights that are none.
    """

    threat: ThreatModel = field(init=False)  # the attack's
    attack: PGD | APGD
    weights: tuple[float, ...] = WEIGHTS

    outputs_per_class = 2

    def __post_init__(self) -> None:
        if not isinstance(self.attack, (PGD, APGD)):
            name = getattr(self.attack, "name", type(self.attack).__name__)
            raise InputError(f"{name} cannot be aimed at a detector: give PGD or APGD.")
        object.__setattr__(self, "weights", tuple(self.weights))
        if not self.weights or not all(0 <= weight < float("inf") for weight in self.weights):
            raise InputError(f"the weights of the detector's term are {self.weights}: give numbers of 0 or more.")
        object.__setattr__(self, "threat", self.attack.threat)

    @property
    def name(self) -> str:
        return f"{self.attack.name}-detector"

    @property
    def passes(self) -> tuple[int, int]:
        return self.attack.passes

    @property
    def attempts(self) -> int:
        return len(self.weights) * self.attack.attempts

    @property
    def length(self) -> int:
        return self.attack.length

    def check(self, classes: int, image_shape: tuple[int, ...]) -> None:
        self.attack.check(classes, image_shape)

    def initial(self, batch: Batch) -> State:
        return self.attack.initial(_of_classes(batch))

    def step(self, logits: Logits, batch: Batch, state: State) -> State:
        return self.attack.step_towards(self, logits, _of_classes(batch), state)

    def predictions(self, outputs: tf.Tensor) -> tf.Tensor:
        return self.attack.predictions(_split(outputs)[0])

    def broken(self, labels: tf.Tensor, outputs: tf.Tensor) -> tf.Tensor:
        predictions = self.predictions(outputs)
        taken_for_natural = tf.gather(_split(outputs)[1], predictions, batch_dims=1) <= 0
        return (predictions != labels) & taken_for_natural & is_answer(outputs)

    def clean_loss(self, batch: Batch, outputs: tf.Tensor) -> tf.Tensor:
        return self.attack.clean_loss(_of_classes(batch), _split(outputs)[0])

    def objective(self, batch: Batch, outputs: tf.Tensor, targets: tf.Tensor | None) -> tf.Tensor:
        """Gives what it ascends, `[n]`."""
        logits, excess = _split(outputs)
        plain = self.attack.objective(batch, logits, targets)
        weight = tf.gather(tf.constant(self.weights, tf.float32), batch.attempt // self.attack.attempts)
        heading = targets
        if heading is None:
            own = tf.one_hot(batch.labels, tf.shape(logits)[1], on_value=float("inf"), off_value=0.0)
            heading = tf.argmax(logits - own, axis=1, output_type=tf.int32)
        # The margin of the class it is heading for over all others is minus the one of "any other" over it.
        wrong = tf.minimum(-margin(heading, logits), _SURPLUS)
        found = tf.maximum(tf.gather(excess, heading, batch_dims=1), -_SURPLUS)
        return tf.where(weight > 0, wrong - weight * found, plain)

    def get_config(self) -> dict[str, Any]:
        return {"attack": keras.saving.serialize_keras_object(self.attack), "weights": list(self.weights)}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> AdaptiveAttack:
        return cls(keras.saving.deserialize_keras_object(config["attack"]), tuple(config["weights"]))


def _split(outputs: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    logits, excess = tf.split(outputs, 2, axis=1)
    return logits, excess


def _of_classes(batch: Batch) -> Batch:
    return batch._replace(clean_logits=_split(batch.clean_logits)[0])
