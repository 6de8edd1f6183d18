"""Defense-GAN (Samangouei et al. 2018): a classifier that sees the nearest image a generator can make."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from erkeras import randomness
from erkeras.arguments import check_counts
from erkeras.errors import InputError
from erkeras.models.image_model import ImageModel
from erkeras.models.networks.checks import check_axes
from erkeras.models.precision import at_least_float32

_serialize = keras.saving.serialize_keras_object
_deserialize = keras.saving.deserialize_keras_object
_PARTS = ("generator", "classifier")
_OPTIONS = ("steps", "restarts", "step_size", "momentum", "seed")


@keras.saving.register_keras_serializable("erkeras")
class DefenseGAN(ImageModel):
    """Puts a purifier in front of a classifier. `model(images)` gives the classifier's logits of G(z*), where

        z* = argmin_z mean((G(z) - image)^2)

    Gradient descent with momentum searches z* from several starts, and the nearest result counts. The starts are a
    function of (seed, number of the restart) and the same for all images. So the logits are a function of the image
    alone.

    One look costs `steps x restarts` passes, forward and backward, through the generator: with the defaults 2,000.

    Backwards, the purifier counts as the identity: the logits' gradient at an image is the classifier's at G(z*).
    So every attack of ours on this model is the one that defeats it, backward pass differentiable approximation
    (Athalye et al. 2018, sections 4.1.2 and 5.4.2); the attack of the original paper, on the classifier alone, is
    one on `model.classifier`, classified by this model.

    Images are float `[n, height, width, channels]` in [0, 1].

    Example:
        purified = DefenseGAN(generator, plain, steps=20, restarts=2)
        purified(images)  # logits

    Args:
        generator: G, latent vectors `[n, latent_size]` -> images in [0, 1]. Sequential or Functional; this model keeps
            a copy of it as it is now.
        classifier: images -> logits `[n, classes]`. Built.
        steps: L of the paper, gradient steps.
        restarts: R of the paper.
        step_size: of the mean squared error over an image's pixels. The paper's is 10; with ours, 30 comes nearer.
        momentum: fraction of the last step that the next one keeps.
        seed: of the starts.

    Raises:
        InputError: for steps or restarts below 1, a step size that is not positive, a momentum outside [0, 1), or a
            generator whose images the classifier does not take.
    """

    def __init__(
        self,
        generator: keras.Model,
        classifier: keras.Model,
        *,
        steps: int = 200,
        restarts: int = 10,
        step_size: float = 30.0,
        momentum: float = 0.7,
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        check_counts("the purifier", steps=steps, restarts=restarts)
        if not (step_size > 0 and 0 <= momentum < 1):
            raise InputError(
                f"the purifier's step size is {step_size} and its momentum {momentum}: give a positive step size and "
                "a momentum from 0 up to, not including, 1."
            )
        self._image_shape = generator.output_shape[1:]
        taken = getattr(classifier, "input_shape", None)
        if taken and tuple(taken[1:]) != tuple(self._image_shape):
            raise InputError(
                f"the generator makes images of shape {self._image_shape} and the classifier takes {taken[1:]}: make "
                "them fit."
            )
        check_axes("classifier", classifier)
        # A frozen copy, so that a tape which watches all variables does not follow every step of the search.
        self.generator = keras.models.clone_model(generator)
        self.generator.set_weights(generator.get_weights())
        self.generator.trainable = False
        self.classifier = classifier
        self.steps = steps
        self.restarts = restarts
        self.step_size = step_size
        self.momentum = momentum
        self.seed = seed
        self._search = tf.function(
            self._nearest, input_signature=[tf.TensorSpec((None, *self._image_shape))], autograph=False
        )
        self.build((None, *self._image_shape))

    def call(self, images: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        return at_least_float32(self.classifier(self.purify(images), training=False))

    def purify(self, images: tf.Tensor) -> tf.Tensor:
        """Computes G(z*), float32 like the images `[n, height, width, channels]`. Its gradient is the identity."""
        images = tf.cast(images, tf.float32)
        return _identity_backwards(images, tf.stop_gradient(self._search(tf.stop_gradient(images))))

    def _nearest(self, images: tf.Tensor) -> tf.Tensor:
        count = tf.shape(images)[0]
        numbers = tf.range(self.restarts, dtype=tf.int64)
        keys = randomness.row_keys(tf.stack([tf.fill([self.restarts], tf.constant(self.seed, tf.int64)), numbers], 1))
        # One row for each image and restart.
        latent = tf.tile(randomness.normal(keys, self.generator.input_shape[1:]), [count, 1])
        targets = tf.repeat(images, self.restarts, axis=0)

        def step(latent: tf.Tensor, velocity: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                tape.watch(latent)
                errors = _mean_squared(at_least_float32(self.generator(latent, training=False)) - targets)
            velocity = self.momentum * velocity + tape.gradient(errors, latent)
            return latent - self.step_size * velocity, velocity

        latent, _ = tf.while_loop(
            lambda *_: True,
            step,
            (latent, tf.zeros_like(latent)),
            maximum_iterations=self.steps,
            parallel_iterations=1,  # more would only cost memory
        )
        made = at_least_float32(self.generator(latent, training=False))
        errors = tf.reshape(_mean_squared(made - targets), [count, self.restarts])
        nearest = tf.argmin(errors, axis=1, output_type=tf.int32)
        return tf.gather(made, tf.range(count) * self.restarts + nearest)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            **{part: _serialize(getattr(self, part)) for part in _PARTS},
            **{option: getattr(self, option) for option in _OPTIONS},
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: dict | None = None) -> DefenseGAN:
        return cls(**{**config, **{part: _deserialize(config[part], custom_objects) for part in _PARTS}})


def _mean_squared(differences: tf.Tensor) -> tf.Tensor:
    """`[n]`, over each image's pixels."""
    return tf.reduce_mean(differences**2, axis=list(range(1, differences.shape.rank)))


@tf.custom_gradient
def _identity_backwards(images: tf.Tensor, purified: tf.Tensor) -> Any:
    return tf.identity(purified), lambda upstream: (upstream, None)
