"""The base of every attack: settings in an immutable object, pure TensorFlow functions, one runner.

An attack is a frozen dataclass. The smallest one gives `perturb`: one shot at every image. One that iterates gives
`initial` and `step` instead, and the runner (`runner.py`) takes all images through them on one fixed batch, so that
a verdict does not depend on how many images there are, on their order, or on the worker.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import keras
import numpy as np
import tensorflow as tf

from erkeras.arguments import check_counts
from erkeras.attacks.contract import Attacked, Batch, Logits, State
from erkeras.attacks.losses import cross_entropy, is_answer, margin
from erkeras.attacks.runner import run
from erkeras.attacks.tensors import where
from erkeras.errors import InputError
from erkeras.pixels import as_images, as_labels
from erkeras.progress import Progress
from erkeras.threat import ThreatModel


@dataclass(frozen=True)
class Attack:
    """Serves as the base class of all attacks. Each attack is a frozen dataclass of settings.

    docs/attacks.md has an example of a new one.

    Args:
        threat: what the attack may do to an image.
    """

    threat: ThreatModel = ThreatModel()

    #: What it asks of the model: "gradients", "logits" or "labels".
    knowledge: ClassVar[str] = "gradients"
    #: How many of a model's outputs belong to a class.
    outputs_per_class: ClassVar[int] = 1
    #: Goes on after the first success, through every attempt, for the nearest adversarial image.
    minimises: ClassVar[bool] = False

    @property
    def parts(self) -> tuple[Attack, ...]:
        """Lists the attacks that it runs one after the other: itself alone, unless it is an ensemble."""
        return (self,)

    @property
    def name(self) -> str:
        """Tells it apart from the other attacks of an evaluation; most attacks have one as a class attribute."""
        raise NotImplementedError

    @property
    def passes(self) -> tuple[int, int]:
        """Gives the numbers of forward and backward passes of one step."""
        return (1, 1)

    @property
    def attempts(self) -> int:
        """Counts how often each image is tried, at most (restarts, targets), each time in its own way."""
        return 1

    @property
    def length(self) -> int:
        """Gives the largest number of steps of one attempt."""
        return 1

    @property
    def work(self) -> int:
        """Counts the units of progress for each image: all steps of all attempts."""
        return self.attempts * self.length

    def perturb(
        self, logits: Logits, images: tf.Tensor, labels: tf.Tensor, seeds: tf.Tensor, scale: Any = 1.0
    ) -> tf.Tensor:
        """Takes one shot at every image, as a pure function of its arguments; what training calls.

        Args:
            logits: images `[n, height, width, channels]` -> logits `[n, classes]`.
            images: float, within the pixel bounds.
            labels: int `[n]`.
            seeds: int `[2]` for the whole batch or `[n, 2]`, one for each image.
            scale: scalar in [0, 1]; the attack acts with `scale * epsilon` (epsilon warm-up while training).

        Returns:
            Images like `images`, within the threat model.
        """
        raise NotImplementedError

    def initial(self, batch: Batch) -> State:
        """Gives what an attempt knows before its first step; no pass through the model is made here."""
        return {}

    def step(self, logits: Logits, batch: Batch, state: State) -> State:
        """Takes one step of every slot, each a pure function of its own row: `passes` through the model.

        The state holds, beside what `initial` gave,

            step: int32 `[n]`, steps done before this one;
            found: images `[n, ...]`, the best so far; first the images as they came;
            loss: float32 `[n]`, how good `found` is: the highest wins; first -infinity;
            success: bool `[n]`, whether `found` is what the attacker wants;
            finished: bool `[n]`, set when the attempt need not go on (the runner does so after `length` steps);
            answered: bool `[n]`, whether the model has given numbers for all that was tried; first true.

        A slot that is finished keeps these six whatever `step` gives.
        """
        found = self.perturb(logits, batch.images, batch.labels, batch.seeds)
        outputs = logits(found)
        return {**state, **self.observe(batch, state, found, outputs, cross_entropy(batch.labels, outputs))}

    def observe(self, batch: Batch, state: State, candidates: tf.Tensor, outputs: tf.Tensor, loss: tf.Tensor) -> State:
        """Gives the state's entries once candidates inside the ball were classified; a success ends an attempt."""
        answered = is_answer(outputs)
        success = self.broken(batch.labels, outputs)
        better = answered & (success | (loss > state["loss"]))
        return {
            "found": where(better, candidates, state["found"]),
            "loss": tf.where(better, tf.cast(loss, tf.float32), state["loss"]),
            "success": success,
            "finished": success,
            "answered": state["answered"] & answered,
        }

    def broken(self, labels: tf.Tensor, outputs: tf.Tensor) -> tf.Tensor:
        """Tells, bool `[n]`, whether the outputs are what the attacker wants: any label but the true one.

        What is no number is not what anybody wants.
        """
        return (self.predictions(outputs) != labels) & is_answer(outputs)

    def clean_loss(self, batch: Batch, outputs: tf.Tensor) -> tf.Tensor:
        """Gives, `[n]`, what its first gradient at the images is of: zero gradients of it see nothing."""
        return margin(batch.labels, outputs)

    def predictions(self, outputs: tf.Tensor) -> tf.Tensor:
        """Gives the labels, int32 `[n]`, of outputs `[n, classes]`, or of `[n, 1]` that are labels already."""
        if outputs.shape[1] == 1:
            return tf.cast(outputs[:, 0], tf.int32)
        return tf.argmax(outputs, axis=1, output_type=tf.int32)

    def check(self, classes: int, image_shape: tuple[int, ...]) -> None:
        """Raises InputError where the attack cannot run on such a model."""

    def __call__(
        self,
        model: Any,
        images: Any,
        labels: Any,
        *,
        seed: int = 0,
        indices: Any = None,
        internal_batch: int | None = None,
        progress: Progress | None = None,
    ) -> Attacked:
        """Attacks every image.

        Args:
            model: a `keras.Model`, a loaded SavedModel, a function from images to logits (to labels, for an attack
                that asks for no more), or a `Victim`.
            images: `[n, height, width, channels]` within the pixel bounds of the threat model.
            labels: int `[n]`.
            seed: random numbers come from (seed, attempt, index of the image) alone.
            indices: int `[n]`, the images' original indices; their positions by default.
            internal_batch: how many images the model sees at once, whatever n is; by default what suits the device,
                128 on a CPU (`devices.fitting_batch`). Another number can change a borderline verdict, by rounding.
            progress: hears of the units of work that are done; they sum to n x `work`.

        Raises:
            InputError: for images or labels that do not fit each other, the bounds or the model.
        """
        if internal_batch is not None:
            check_counts(self.name, internal_batch=internal_batch)
        images, labels, indices = check_images(self.threat, images, labels, indices)
        return run(self, model, images, labels, indices, seed, internal_batch, progress or Progress())

    def get_config(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        return cls(**{**config, "threat": ThreatModel(**config["threat"])})


def check_images(
    threat: ThreatModel, images: Any, labels: Any, indices: Any
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Checks what is to be attacked.

    Args:
        threat: whose bounds pixels have.
        images: as for `erkeras.pixels.as_images`: floats that overshoot a little are clipped.
        labels: whole numbers, `[n]` or `[n, 1]`.
        indices: as for `Attack`.

    Returns:
        Images float32, labels int32 and indices int64, by default the positions.

    Raises:
        InputError: for images or labels that do not fit each other or the bounds.
    """
    images = as_images(images, "the images", threat.lower, threat.upper)
    labels = as_labels(labels)
    indices = np.arange(len(images)) if indices is None else np.asarray(indices)
    if not len(images) == len(labels) == len(indices):
        raise InputError(
            f"there are {len(images)} images, {len(labels)} labels and {len(indices)} indices: "
            "give one label, and one index, for each image."
        )
    return images, labels, indices.astype(np.int64)


def serializable(cls: type) -> type:
    """Registers a class with Keras as `erkeras>NAME`, so that a saved model can name it."""
    return keras.saving.register_keras_serializable("erkeras")(cls)
