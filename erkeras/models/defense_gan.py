"""Defense-GAN (Samangouei et al. 2018): a classifier that sees the nearest image a generator can make.

The generator is trained as in Gulrajani et al. (2017), "Improved Training of Wasserstein GANs".
"""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from erkeras import randomness
from erkeras.errors import InputError

_serialize = keras.saving.serialize_keras_object
_deserialize = keras.saving.deserialize_keras_object
_PARTS = ("generator", "classifier")
_OPTIONS = ("steps", "restarts", "step_size", "momentum", "seed")
# Streams of random numbers within an update.
_LATENT, _MIXTURE, _STREAMS = 0, 1, 2


@keras.saving.register_keras_serializable("erkeras")
class DefenseGAN(keras.Model):
    """A purifier in front of a classifier: `model(images)` gives the classifier's logits of G(z*), where

        z* = argmin_z mean((G(z) - image)^2)

    is sought by gradient descent with momentum from several starts, of which the nearest counts. The starts are a
    function of (seed, number of the restart) and the same for all images, so that the logits are a function of the
    image alone.

    One look costs `steps x restarts` passes, forward and backward, through the generator: with the defaults 2,000.

    Backwards, the purifier counts as the identity: the logits' gradient at an image is the classifier's at G(z*).
    So every attack of ours on this model is the one that defeats it, backward pass differentiable approximation
    (Athalye et al. 2018, sections 4.1.2 and 5.4.2); the attack of the original paper, on the classifier alone, is
    one on `model.classifier`, judged by this model.

    Images are float `[n, height, width, channels]` in [0, 1].

    Args:
        generator: G, latent vectors `[n, latent_size]` -> images in [0, 1]. Sequential or Functional; this model keeps
            a copy of it as it is now.
        classifier: images -> logits `[n, classes]`. Built.
        steps: L of the paper, gradient steps.
        restarts: R of the paper.
        step_size: of the mean squared error over an image's pixels. The paper's is 10; with ours, 30 comes nearer.
        momentum: portion of the last step that the next one keeps.
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
        for name, number in (("steps", steps), ("restarts", restarts)):
            if number < 1:
                raise InputError(f"the purifier's {name} are {number}: give a whole number of 1 or more.")
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
        self.built = True

    def call(self, images: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        return self.classifier(self.purify(images), training=False)

    def purify(self, images: tf.Tensor) -> tf.Tensor:
        """G(z*), float32 like the images `[n, height, width, channels]`; its gradient is the identity."""
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
                errors = _mean_squared(self.generator(latent, training=False) - targets)
            velocity = self.momentum * velocity + tape.gradient(errors, latent)
            return latent - self.step_size * velocity, velocity

        latent, _ = tf.while_loop(
            lambda *_: True,
            step,
            (latent, tf.zeros_like(latent)),
            maximum_iterations=self.steps,
            parallel_iterations=1,  # more would only cost memory
        )
        made = self.generator(latent, training=False)
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


class WassersteinGAN(keras.Model):
    """A generator and the critic that trains it: WGAN-GP (Gulrajani et al. 2017, algorithm 1).

    `fit` on batches of `critic_updates x n` images (labels are ignored): each critic update sees n of them, then the
    generator makes one update of n images. All random numbers come from (seed, step of the generator). What is kept
    of it is the `generator`; the whole is saved as weights alone (`Checkpoint`).

    Example:
        gan = WassersteinGAN(build_generator(), build_image_critic())
        gan.compile(keras.optimizers.Adam(1e-4, 0.5, 0.9), critic_optimizer=keras.optimizers.Adam(1e-4, 0.5, 0.9))
        gan.fit(images[: len(images) // 320 * 320], batch_size=320, epochs=30)

    Args:
        generator: G, latent vectors `[n, latent_size]`, drawn from N(0, I) -> images. Built.
        critic: D, images -> scores `[n, 1]`. Built, without BatchNorm.
        penalty: weight of the gradient penalty.
        critic_updates: for each update of the generator.
        seed: of all random numbers.
    """

    def __init__(
        self,
        generator: keras.Model,
        critic: keras.Model,
        *,
        penalty: float = 10.0,
        critic_updates: int = 5,
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.generator = generator
        self.critic = critic
        self.penalty = penalty
        self.critic_updates = critic_updates
        self.seed = seed
        self._distance = keras.metrics.Mean(name="wasserstein_distance")
        self._penalty_mean = keras.metrics.Mean(name="gradient_penalty")
        self.built = True

    def compile(self, optimizer: Any = "adam", critic_optimizer: Any = "adam", **kwargs: Any) -> None:
        """Sets the optimizers of the generator and of the critic."""
        super().compile(optimizer=optimizer, **kwargs)
        self.critic_optimizer = keras.optimizers.get(critic_optimizer)
        # Built now: saved states find their place before the first step.
        self.optimizer.build(self.generator.trainable_variables)
        self.critic_optimizer.build(self.critic.trainable_variables)

    def train_step(self, data: Any) -> dict[str, Any]:
        """Critic updates, then one of the generator."""
        images, _, _ = keras.utils.unpack_x_y_sample_weight(data)
        step = tf.cast(self.optimizer.iterations, tf.int64)
        parts = self._parts(images)
        for number, real in enumerate(parts):
            latent, mixture = self.draws(step, number, tf.shape(real)[0])
            fake = self.generator(latent, training=True)
            between = mixture * real + (1 - mixture) * fake
            with tf.GradientTape() as tape:
                distance = tf.reduce_mean(self.critic(real, training=True)) - tf.reduce_mean(
                    self.critic(fake, training=True)
                )
                penalty = gradient_penalty(self.critic, between)
                descent = self.penalty * penalty - distance
            variables = self.critic.trainable_variables
            self.critic_optimizer.apply(tape.gradient(descent, variables), variables)
        latent, _ = self.draws(step, self.critic_updates, tf.shape(parts[0])[0])
        with tf.GradientTape() as tape:
            descent = -tf.reduce_mean(self.critic(self.generator(latent, training=True), training=True))
        variables = self.generator.trainable_variables
        self.optimizer.apply(tape.gradient(descent, variables), variables)
        # Of the last critic, the best of this step.
        self._distance.update_state(distance)
        self._penalty_mean.update_state(penalty)
        return {metric.name: metric.result() for metric in self.metrics}

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        return [self._distance, self._penalty_mean]  # there is no loss

    def draws(self, step: Any, update: int, count: Any) -> tuple[tf.Tensor, tf.Tensor]:
        """Latent vectors `[count, latent_size]`, and the portions of real images in a mixture `[count, 1, 1, 1]`.

        Args:
            step: updates of the generator so far.
            update: of the critic within this step; their number, for the generator's.
            count: of images.
        """
        key = tf.stack([tf.constant(self.seed, tf.int64), tf.cast(step, tf.int64)])
        latent_key, mixture_key = (
            tf.random.experimental.stateless_fold_in(key, update * _STREAMS + stream, alg="philox")
            for stream in (_LATENT, _MIXTURE)
        )
        latent_size = self.generator.input_shape[-1]
        return (
            tf.random.stateless_normal([count, latent_size], latent_key, alg="philox"),
            tf.random.stateless_uniform([count, 1, 1, 1], mixture_key, alg="philox"),
        )

    def _parts(self, images: tf.Tensor) -> list[tf.Tensor]:
        count = images.shape[0]
        if count is None or count % self.critic_updates:
            raise InputError(
                f"a batch has {count or 'an unknown number of'} images: give batches of one size, a multiple of the "
                f"{self.critic_updates} critic updates."
            )
        return tf.split(images, self.critic_updates)


def gradient_penalty(critic: Any, images: tf.Tensor) -> tf.Tensor:
    """The mean over images of (||gradient of the critic's score||_2 - 1)^2, a scalar.

    Args:
        critic: images `[n, height, width, channels]` -> scores `[n, 1]`.
        images: between real and generated ones.
    """
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(images)
        scores = critic(images, training=True)
    gradient = tape.gradient(scores, images)
    # A root has no slope at 0, where a critic is flat.
    lengths = tf.sqrt(tf.reduce_sum(gradient**2, axis=[1, 2, 3]) + 1e-12)
    return tf.reduce_mean((lengths - 1) ** 2)


def _mean_squared(differences: tf.Tensor) -> tf.Tensor:
    """`[n]`, over each image's pixels."""
    return tf.reduce_mean(differences**2, axis=list(range(1, differences.shape.rank)))


@tf.custom_gradient
def _identity_backwards(images: tf.Tensor, purified: tf.Tensor) -> Any:
    return tf.identity(purified), lambda upstream: (upstream, None)
