"""The generator of Defense-GAN, trained as in Gulrajani et al. (2017), "Improved Training of Wasserstein GANs"."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from erkeras.errors import InputError
from erkeras.models.optimizers import batches_seen, build_for, ready_optimizers
from erkeras.models.precision import at_least_float32
from erkeras.randomness import GeneratorStream, draw_rows


class WassersteinGAN(keras.Model):
    """Trains a generator with a critic by WGAN-GP (Gulrajani et al. 2017, algorithm 1).

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
        """Sets the optimizers of the generator and of the critic; under mixed_float16 each scales its own loss."""
        optimizer, self.critic_optimizer = ready_optimizers(
            self, kwargs.get("auto_scale_loss", True), optimizer=optimizer, critic_optimizer=critic_optimizer
        )
        build_for(optimizer, self.generator.trainable_variables)
        build_for(self.critic_optimizer, self.critic.trainable_variables)
        super().compile(optimizer=optimizer, **kwargs)

    def train_step(self, data: Any) -> dict[str, Any]:
        """Makes the critic's updates, then one of the generator."""
        images, _, _ = keras.utils.unpack_x_y_sample_weight(data)
        step = tf.cast(batches_seen(self.optimizer), tf.int64)
        parts, replicas = self._parts(images), tf.distribute.get_strategy().num_replicas_in_sync
        for number, real in enumerate(parts):
            latent, mixture = self.draws(step, number, tf.shape(real)[0])
            fake = at_least_float32(self.generator(latent, training=True))
            between = mixture * real + (1 - mixture) * fake
            with tf.GradientTape() as tape:
                distance = self._mean_score(real) - self._mean_score(fake)
                penalty = gradient_penalty(self.critic, between)
                descent = self.critic_optimizer.scale_loss((self.penalty * penalty - distance) / replicas)
            variables = self.critic.trainable_variables
            self.critic_optimizer.apply(tape.gradient(descent, variables), variables)
        latent, _ = self.draws(step, self.critic_updates, tf.shape(parts[0])[0])
        with tf.GradientTape() as tape:
            descent = -self._mean_score(self.generator(latent, training=True)) / replicas
            descent = self.optimizer.scale_loss(descent)
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
        """Draws latent vectors `[count, latent_size]`, and the share of real images in mixtures, `[count, 1, 1, 1]`.

        Args:
            step: updates of the generator so far.
            update: of the critic within this step; their number, for the generator's.
            count: of images.
        """
        key = tf.stack([tf.constant(self.seed, tf.int64), tf.cast(step, tf.int64)])
        latent_key, mixture_key = (
            tf.random.experimental.stateless_fold_in(key, update * len(GeneratorStream) + stream, alg="philox")
            for stream in GeneratorStream
        )
        latent_size = self.generator.input_shape[-1]
        return (
            draw_rows(lambda shape: tf.random.stateless_normal(shape, latent_key, alg="philox"), [count, latent_size]),
            draw_rows(lambda shape: tf.random.stateless_uniform(shape, mixture_key, alg="philox"), [count, 1, 1, 1]),
        )

    def _mean_score(self, images: tf.Tensor) -> tf.Tensor:
        return tf.reduce_mean(at_least_float32(self.critic(images, training=True)))

    def _parts(self, images: tf.Tensor) -> list[tf.Tensor]:
        count = images.shape[0]
        if count is None or count % self.critic_updates:
            raise InputError(
                f"a batch has {count or 'an unknown number of'} images: give batches of one size, a multiple of the "
                f"{self.critic_updates} critic updates."
            )
        return tf.split(images, self.critic_updates)


def gradient_penalty(critic: Any, images: tf.Tensor) -> tf.Tensor:
    """Takes the mean over images of (||gradient of the critic's score||_2 - 1)^2, a scalar.

    Args:
        critic: images `[n, height, width, channels]` -> scores `[n, 1]`.
        images: between real and generated ones.
    """
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(images)
        scores = at_least_float32(critic(images, training=True))
    gradient = tape.gradient(scores, images)
    # A root has no slope at 0, where a critic is flat.
    lengths = tf.sqrt(tf.reduce_sum(gradient**2, axis=[1, 2, 3]) + 1e-12)
    return tf.reduce_mean((lengths - 1) ** 2)
