"""Defines regularizers, which push the codes towards the prior: the divergence D(Q_Z, P_Z) of equation 1.

A regularizer is a Keras layer, so that its variables are saved with the model. A new one overrides `loss`, and
`update` where it trains variables of its own; `train_step` stays as it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import keras
import tensorflow as tf

from erkeras.errors import InputError
from erkeras.models.networks.critics import build_critic
from erkeras.models.precision import at_least_float32

COUPLINGS = ("separate", "joint")


class Regularizer(keras.layers.Layer):
    """Serves as the base class of all regularizers. docs/defenses.md has an example of a new one.

    Under tf.distribute each replica calls `update` and `loss` with its part of the batch. The mean of `loss` over
    replicas is descended, so that a mean over codes is that of the whole batch. `update` divides its own losses by
    `num_replicas_in_sync`, as Keras' optimizers sum gradients. What is no mean over codes gathers them first.

    Args:
        coefficient: lambda of equation 1, 0 or more.
        coupling: "separate" makes the encoder's step on `loss` an update of its own (Algorithm 1, line 9), with
            an optimizer of its own; an adaptive one forgets lambda's size there, so the step is weighed by that
            optimizer's learning rate. "joint" adds `loss` to line 8's objective, where lambda keeps its meaning.

    Raises:
        InputError: for a negative coefficient or an unknown coupling.
    """

    #: What `update` estimates, as training logs it.
    estimate_name: ClassVar[str] = "divergence"

    def __init__(self, coefficient: float, coupling: str = "separate", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if not coefficient >= 0:
            raise InputError(f"the regularizer's coefficient (lambda) is {coefficient}: give 0 or more.")
        if coupling not in COUPLINGS:
            raise InputError(f"the coupling is {coupling!r}: give one of {', '.join(COUPLINGS)}.")
        self.coefficient = coefficient
        self.coupling = coupling

    @property
    def joins_line_8(self) -> bool:
        return self.coupling == "joint" and self.coefficient > 0

    @property
    def has_line_9(self) -> bool:
        return self.coupling == "separate" and self.coefficient > 0

    def build_for(self, code_size: int) -> None:
        """Makes the regularizer's variables for codes `[n, code_size]`; called once by `ERClassifier`."""
        self.built = True

    def update(self, codes: tf.Tensor, prior_samples: tf.Tensor, optimizer: keras.optimizers.Optimizer) -> tf.Tensor:
        """Trains the regularizer's own variables, where it has any, on codes and prior samples `[n, code_size]`.

        As in Keras, take the gradient of `optimizer.scale_loss(loss)`: under mixed_float16 the optimizer divides it.

        Returns:
            Scalar estimate of the divergence, before the update.
        """
        raise NotImplementedError

    def loss(self, codes: tf.Tensor, prior_samples: tf.Tensor) -> tf.Tensor:
        """Computes the scalar that the encoder descends, lambda included. Codes and samples are `[n, code_size]`."""
        raise NotImplementedError

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "coefficient": self.coefficient, "coupling": self.coupling}


@keras.saving.register_keras_serializable("erkeras")
class WassersteinCritic(Regularizer):
    """Estimates the 1-Wasserstein distance by a critic D with clipped weights (WGAN): the paper's regularizer.

    Example:
        ERClassifier(encoder, classifier, regularizer=WassersteinCritic(0.1, coupling="joint"))

    Args:
        coefficient: lambda, 0 or more.
        critic: codes `[n, code_size]` -> scores `[n, 1]`, built. None for the authors' critic (four hidden
            layers of 512 units, linear output) for the code size of the classifier.
        clip: every critic weight stays within [-clip, clip].
        coupling: "separate" (Algorithm 1) or "joint".

    Raises:
        InputError: for a negative coefficient, a clip that is not positive, an unknown coupling.
    """

    estimate_name = "wasserstein"

    def __init__(
        self,
        coefficient: float = 0.1,
        critic: keras.Model | None = None,
        clip: float = 0.01,
        coupling: str = "separate",
        **kwargs: Any,
    ) -> None:
        super().__init__(coefficient, coupling, **kwargs)
        if not clip > 0:
            raise InputError(f"the critic's clip is {clip}: give a number above 0.")
        self.clip = clip
        self.critic: Any = critic

    def build_for(self, code_size: int) -> None:
        if self.critic is None:
            self.critic = build_critic(code_size)
        self._clip_weights()
        self.built = True

    def update(self, codes: tf.Tensor, prior_samples: tf.Tensor, optimizer: keras.optimizers.Optimizer) -> tf.Tensor:
        with tf.GradientTape() as tape:
            distance = self._mean_score(prior_samples) - self._mean_score(codes)
            descent = optimizer.scale_loss(-self.coefficient * distance / _replicas())
        variables = self.critic.trainable_variables
        optimizer.apply(tape.gradient(descent, variables), variables)
        self._clip_weights()
        return distance

    def loss(self, codes: tf.Tensor, prior_samples: tf.Tensor) -> tf.Tensor:
        return -self.coefficient * self._mean_score(codes)

    def _mean_score(self, codes: tf.Tensor) -> tf.Tensor:
        return tf.reduce_mean(at_least_float32(self.critic(codes, training=True)))

    def _clip_weights(self) -> None:
        for variable in self.critic.trainable_variables:
            variable.assign(tf.clip_by_value(variable, -self.clip, self.clip))

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "critic": keras.saving.serialize_keras_object(self.critic),
            "clip": self.clip,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> WassersteinCritic:
        return cls(**{**config, "critic": keras.saving.deserialize_keras_object(config["critic"])})


@keras.saving.register_keras_serializable("erkeras")
class MaximumMeanDiscrepancy(Regularizer):
    """Computes MMD^2 of codes and prior samples (Gretton et al. 2012, equation 5; the divergence of WAE-MMD).

        mean_ij k(q_i, q_j) + mean_ij k(z_i, z_j) - 2 mean_ij k(q_i, z_j)

    with the sum of inverse multiquadric kernels k(a, b) = C / (C + ||a - b||^2) for C = 2 code_size s and every scale
    s. The pairs of a point with itself count, so that it is 0 for equal samples and never negative. It has no
    variables: nothing plays the critic.

    Example:
        ERClassifier(encoder, classifier, regularizer=MaximumMeanDiscrepancy(0.1))

    Args:
        coefficient: lambda, 0 or more.
        coupling: as for any regularizer.
        scales: s, each above 0.

    Raises:
        InputError: for a negative coefficient, an unknown coupling, scales that are not positive.
    """

    estimate_name = "mmd"

    def __init__(
        self,
        coefficient: float = 0.1,
        coupling: str = "joint",
        scales: Sequence[float] = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0),
        **kwargs: Any,
    ) -> None:
        super().__init__(coefficient, coupling, **kwargs)
        if not scales or not all(scale > 0 for scale in scales):
            raise InputError(f"the scales of the kernels are {tuple(scales)}: give numbers above 0.")
        self.scales = tuple(scales)

    def update(self, codes: tf.Tensor, prior_samples: tf.Tensor, optimizer: keras.optimizers.Optimizer) -> tf.Tensor:
        return self._estimate(codes, prior_samples)

    def loss(self, codes: tf.Tensor, prior_samples: tf.Tensor) -> tf.Tensor:
        return self.coefficient * self._estimate(codes, prior_samples)

    def _estimate(self, codes: tf.Tensor, prior_samples: tf.Tensor) -> tf.Tensor:
        if _replicas() > 1:  # pairs are of the whole batch
            codes, prior_samples = _of_all_replicas(codes), _of_all_replicas(prior_samples)
        return (
            self._mean_kernel(codes, codes)
            + self._mean_kernel(prior_samples, prior_samples)
            - 2 * self._mean_kernel(codes, prior_samples)
        )

    def _mean_kernel(self, first: tf.Tensor, second: tf.Tensor) -> tf.Tensor:
        squares = tf.reduce_sum(tf.math.squared_difference(first[:, tf.newaxis], second), axis=2)
        spreads = [2.0 * first.shape[1] * scale for scale in self.scales]
        return tf.add_n([tf.reduce_mean(spread / (spread + squares)) for spread in spreads])

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "scales": list(self.scales)}


def _of_all_replicas(points: tf.Tensor) -> tf.Tensor:
    gathered = tf.distribute.get_replica_context().all_gather(points, axis=0)
    return tf.ensure_shape(gathered, [None, points.shape[1]])


def _replicas() -> int:
    # Keras optimizers sum gradients over replicas, so that an own mean has to be divided by their number.
    return tf.distribute.get_strategy().num_replicas_in_sync
