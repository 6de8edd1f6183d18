"""A served model as attacks see it: a function of images, asked over the network."""

from __future__ import annotations

import threading
from collections import OrderedDict

import numpy as np
import tensorflow as tf

from erkeras.errors import InputError
from erkeras.serving.client import Client

#: Answers that are kept, so that an image which is asked for again (a clean one, a slot that repeats its neighbour)
#: does not go to the server a second time. More than the slots of all internal batches, twice.
_KEPT = 1024
#: The most names of signatures in a message.
_MOST_NAMES = 10


class Served:
    """Asks a served model for logits or labels. `Square` and `RayS` take it as their model.

    Example:
        served = Served(Client("grpc://localhost:8500/digits"), "labels")
        attacked = RayS(ThreatModel("l_inf", 0.15), queries=1000)(served, images, labels)

    It has no gradient. An answer is taken for good, so that a served model is randomised goes unnoticed.

    Args:
        client: of the model.
        knowledge: "logits", or "labels" for the label alone.

    Attributes:
        asked: how many images have gone to the server.
        failure: the client's last error, which TensorFlow wraps into one of its own; None without one.

    Raises:
        InputError: for other knowledge, or a model without that signature.
    """

    def __init__(self, client: Client, knowledge: str) -> None:
        signatures = {"logits": "logits", "labels": "serving_default"}
        if knowledge not in signatures:
            raise InputError(f"the knowledge of a served model is {knowledge!r}: give logits or labels.")
        if signatures[knowledge] not in client.signatures:
            names = [*client.signatures][:_MOST_NAMES]
            raise InputError(
                f"{client.url} has the signatures {', '.join(names) or 'of nothing'}: an attack by {knowledge} asks "
                f"for {signatures[knowledge]}."
            )
        self.client, self.knowledge = client, knowledge
        self.asked = 0
        self.failure: InputError | None = None
        self._known: OrderedDict[bytes, np.ndarray] = OrderedDict()
        self._lock = threading.Lock()
        self._shape: tuple[int, ...] | None = None
        first = self._answer(np.zeros((1, *client.image_shape), np.float32))
        self._dtype, self._shape = tf.as_dtype(first.dtype), first.shape[1:]

    def __call__(self, images: tf.Tensor) -> tf.Tensor:
        """Gives, for float32 `[n, height, width, channels]`, logits float32 `[n, classes]` or labels int32 `[n]`."""
        answers = tf.numpy_function(self._answers, [images], self._dtype)
        return tf.ensure_shape(answers, (images.shape[0], *(self._shape or ())))

    def _answers(self, images: np.ndarray) -> np.ndarray:
        try:
            return self._answer(images)
        except InputError as error:
            self.failure = error
            raise

    def _answer(self, images: np.ndarray) -> np.ndarray:
        keys = [image.tobytes() for image in images]
        with self._lock:
            answers = {key: self._known[key] for key in keys if key in self._known}
        rows = {key: row for row, key in enumerate(keys) if key not in answers}
        if rows:
            new = images[list(rows.values())]
            found = self.client.logits(new) if self.knowledge == "logits" else self.client.classify(new)["label"]
            if self._shape is not None and found.shape[1:] != self._shape:
                raise InputError(
                    f"{self.client.url} changed its model while it was asked: begin again, or ask for one version."
                )
            answers |= dict(zip(rows, found, strict=True))
        with self._lock:
            self.asked += len(rows)
            for key in keys:
                self._known[key] = answers[key]
                self._known.move_to_end(key)
            while len(self._known) > _KEPT:
                self._known.popitem(last=False)
        return np.stack([answers[key] for key in keys])
