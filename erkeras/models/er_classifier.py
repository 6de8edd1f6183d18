"""ERClassifier: Algorithm 1 of the paper as a Keras model."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from erkeras.arguments import check_counts
from erkeras.attacks.attack import Attack
from erkeras.errors import InputError
from erkeras.models import backend  # noqa: F401  refuses other backends
from erkeras.models.image_model import TrainedImageModel
from erkeras.models.layers import noise_of_pass
from erkeras.models.networks.checks import check_networks, code_size, image_shape
from erkeras.models.networks.cut import cut_classifier
from erkeras.models.objectives import CrossEntropy, mean_loss
from erkeras.models.optimizers import batches_seen, build_for, ready_optimizers
from erkeras.models.precision import at_least_float32, in_bfloat16
from erkeras.models.priors import StandardNormal
from erkeras.models.regularizers import Regularizer
from erkeras.models.steps import codes_keeping_statistics, merge_statistics, not_cheap, share_of_clean, unpack
from erkeras.randomness import StepStream, draw_rows, rows_of_batch

_serialize = keras.saving.serialize_keras_object
_deserialize = keras.saving.deserialize_keras_object
OPTIMIZERS = ("optimizer", "critic_optimizer", "regularizer_optimizer")
_OPTIONS = ("clean_fraction", "epsilon_warm_up", "inner_bfloat16", "passes", "seed")
_PARTS = ("encoder", "classifier", "regularizer", "adversary", "objective", "prior")


@keras.saving.register_keras_serializable("erkeras")
class ERClassifier(TrainedImageModel):
    """Trains a classifier against an adversary, and pushes its codes towards a prior.

    `model(images)` gives logits; images are float `[n, height, width, channels]` in [0, 1], labels int `[n]`.

    Example:
        model = ERClassifier(
            build_digits_encoder(), build_digits_classifier(),
            regularizer=WassersteinCritic(0.1), adversary=PGD(ThreatModel("l_inf", 0.2), steps=7),
        )
        model.compile(keras.optimizers.Adam(1e-3))
        model.fit(images, labels, epochs=5)

    Args:
        encoder: Q, images -> codes `[n, code_size]`. Built, with normalisation inside, so that epsilon means pixels.
        classifier: C, codes -> logits `[n, classes]`. Built.
        regularizer: what pushes the codes towards the prior; None for nothing.
        adversary: an attack whose `perturb` makes the training batch (line 4); None to train on clean images.
        objective: losses of labels and logits, and of the clean logits if it asks for them (see `objectives.py`);
            cross-entropy by default.
        prior: P_Z; the standard normal by default.
        clean_fraction: fraction of each batch that stays clean. 0 is Algorithm 1; the authors' code mixes evenly.
        epsilon_warm_up: batches over which the adversary's epsilon rises linearly from 0; 0 to start in full.
        inner_bfloat16: run the adversary's forward and backward passes in bfloat16 (variables, losses and the
            perturbation stay float32). Encoder and classifier must be Sequential or Functional.
        passes: members of the ensemble at prediction, for networks with `NoiseLayer`s (RSE): the logits are then
            the logarithm of the mean softmax over the noise of that many passes. Training makes one.
        seed: the adversary's and the prior's random numbers come from (seed, step, position in the batch), none from
            a state. Layers that draw in training (dropout, noise) have states of their own, saved with the model.

    Raises:
        InputError: for an encoder or classifier that is not built or does not fit, a classifier that ends in a
            softmax, a `clean_fraction` outside [0, 1), a negative `epsilon_warm_up`.
    """

    def __init__(
        self,
        encoder: keras.Model,
        classifier: keras.Model,
        *,
        regularizer: Regularizer | None = None,
        adversary: Attack | None = None,
        objective: Callable[..., tf.Tensor] | None = None,
        prior: Any = None,
        clean_fraction: float = 0.0,
        epsilon_warm_up: int = 0,
        inner_bfloat16: bool = False,
        passes: int = 1,
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        check_networks(encoder, classifier)
        if not 0 <= clean_fraction < 1:
            raise InputError(f"clean_fraction is {clean_fraction}: give a number from 0 up to, not including, 1.")
        if epsilon_warm_up < 0:
            raise InputError(f"epsilon_warm_up is {epsilon_warm_up}: give a number of steps, 0 or more.")
        check_counts("ERClassifier", passes=passes)
        self._code_size = code_size(encoder, classifier)
        self.encoder = encoder
        self.classifier = classifier
        self.regularizer = regularizer
        self.adversary = adversary
        self.objective = objective or CrossEntropy()
        self.prior = prior or StandardNormal()
        self.clean_fraction = clean_fraction
        self.epsilon_warm_up = epsilon_warm_up
        self.inner_bfloat16 = inner_bfloat16
        self.passes = passes
        self.seed = seed
        if regularizer is not None:
            regularizer.build_for(self._code_size)
        self._inner_logits = in_bfloat16(encoder, classifier) if inner_bfloat16 else self._one_pass
        self._clean_accuracy = keras.metrics.SparseCategoricalAccuracy(name="clean_accuracy")
        if adversary is not None:
            self._adversarial_accuracy = keras.metrics.SparseCategoricalAccuracy(name="adversarial_accuracy")
        if regularizer is not None:
            self._divergence = keras.metrics.Mean(name=regularizer.estimate_name)
        self.build((None, *(image_shape(encoder) or ())))

    @classmethod
    def from_classifier(cls, model: keras.Model, code_layer: str | None = None, **options: Any) -> ERClassifier:
        """Makes an ERClassifier of a whole Keras classifier, cut in two at the layer that gives the code.

        It has copies of the model's weights: training it leaves `model` as it was. Frozen layers stay frozen. Where
        `model` takes pixels of 0 to 255, put it into `keras.Sequential([keras.layers.Rescaling(255.0), model])` first.

        Example:
            model = ERClassifier.from_classifier(plain, code_layer="code", regularizer=WassersteinCritic(0.1))

        Args:
            model, code_layer: as for `cut_classifier`; a softmax at the end is taken off.
            **options: as for the constructor.

        Raises:
            InputError: as `cut_classifier`, and as the constructor.
        """
        if isinstance(model, ERClassifier):
            raise InputError("the model is an ERClassifier already: take its encoder and its classifier.")
        return cls(*cut_classifier(model, code_layer), **options)

    def call(self, images: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        if training or self.passes == 1:
            return self._one_pass(images, training)
        images = at_least_float32(images)

        def log_softmax(number: tf.Tensor) -> tf.Tensor:
            with noise_of_pass(number):
                return tf.nn.log_softmax(self._one_pass(images))

        members = tf.map_fn(log_softmax, tf.range(self.passes), fn_output_signature=images.dtype)
        return tf.reduce_logsumexp(members, axis=0) - math.log(self.passes)

    def classify(self, images: tf.Tensor, codes: tf.Tensor) -> tf.Tensor:
        """Computes the logits `[n, classes]` of images whose codes (`embed`) are known, in inference mode."""
        if self.passes > 1:
            return self(images, training=False)
        return at_least_float32(self.classifier(codes, training=False))

    def embed(self, images: tf.Tensor) -> tf.Tensor:
        """Computes the codes `[n, code_size]` of images, in inference mode."""
        return at_least_float32(self.encoder(images, training=False))

    def compile(
        self,
        optimizer: Any = "adam",
        critic_optimizer: Any = "adam",
        regularizer_optimizer: Any = "adam",
        **kwargs: Any,
    ) -> None:
        """Sets the three optimizers of Algorithm 1; under mixed_float16 each scales its own loss.

        Metrics given here see what `clean_accuracy` sees, in training and in validation: the logits of clean images.

        Args:
            optimizer: line 8, encoder and classifier. With `use_ema`, `fit` ends with their averages over steps, as
                line 8 leaves them.
            critic_optimizer: line 7, the regularizer's own variables.
            regularizer_optimizer: line 9, the encoder ("by 1-step Adam").
            **kwargs: as for `keras.Model.compile`, without `loss`, which is the model's `objective`.
        """
        if "loss" in kwargs:
            raise InputError("compile was given a loss: give it to the constructor instead, as objective=.")
        optimizer, self.critic_optimizer, self.regularizer_optimizer = ready_optimizers(
            self,
            kwargs.get("auto_scale_loss", True),
            optimizer=optimizer,
            critic_optimizer=critic_optimizer,
            regularizer_optimizer=regularizer_optimizer,
        )
        build_for(optimizer, self._network_variables)
        if self.regularizer is not None:
            if self.regularizer.trainable_variables:
                build_for(self.critic_optimizer, self.regularizer.trainable_variables)
            if self.regularizer.has_line_9:
                build_for(self.regularizer_optimizer, self.encoder.trainable_variables)
        super().compile(optimizer=optimizer, **kwargs)

    def compute_loss(
        self, x: Any = None, y: Any = None, y_pred: Any = None, sample_weight: Any = None, training: bool = True
    ) -> tf.Tensor:
        """Computes sum(weight loss) / n of the objective, as Keras weighs, plus the penalties of layers: a scalar.

        Penalties are weight decay and what encoder and classifier `add_loss`. A regularizer is logged by its own name.

        Args:
            x: images; an objective may ask for their logits beside those of the adversarial batch.
            y: int labels `[n]`.
            y_pred: logits `[n, classes]`: in training of the adversarial batch.
            sample_weight: `[n]`, or None.
            training: whether `y_pred` was computed in training mode.
        """
        penalties = self.encoder.losses + self.classifier.losses
        asks = getattr(self.objective, "uses_clean_logits", False)
        clean = [self(x, training=True) if training else y_pred] if asks else []
        loss = mean_loss(self.objective(y, y_pred, *clean), sample_weight)
        return tf.add_n([loss, *(tf.cast(penalty, loss.dtype) for penalty in penalties)])

    def train_step(self, data: Any) -> dict[str, Any]:
        """Runs one round of Algorithm 1. The numbers in the comments are its lines."""
        images, labels, sample_weight = unpack(data)
        step = tf.cast(batches_seen(self.optimizer), tf.int64)
        replicas = tf.distribute.get_strategy().num_replicas_in_sync
        clean_logits = None if self.adversary is None else self._inner_logits(images)  # for the log alone

        # 4: adversarial examples x_i by PGD, in inference mode
        adversarial, first_attacked = self.attack_batch(images, labels, step)

        # 5: z_i from the prior
        code_shape, seed = [tf.shape(images)[0], self._code_size], self._step_seed(step, StepStream.PRIOR)
        prior_samples = draw_rows(lambda shape: self.prior.sample(shape, seed, images.dtype), code_shape)

        with tf.GradientTape() as tape:
            # 6: codes Q(x_i)
            codes = at_least_float32(self.encoder(adversarial, training=True))

            # 7: the critic ascends lambda / n sum D(z_i) - D(Q(x_i))
            if self.regularizer is not None:
                with tape.stop_recording():
                    divergence = self.regularizer.update(codes, prior_samples, self.critic_optimizer)

            # 8: encoder and classifier descend 1 / n sum loss(C(Q(x_i)), y_i)
            logits = at_least_float32(self.classifier(codes, training=True))
            loss = descent = self.compute_loss(images, labels, logits, sample_weight)
            if self.regularizer is not None and self.regularizer.joins_line_8:
                descent += at_least_float32(self.regularizer.loss(codes, prior_samples))
            descent = self.optimizer.scale_loss(descent / replicas)
        variables = self._network_variables
        self.optimizer.apply(tape.gradient(descent, variables), variables)
        if replicas > 1:
            merge_statistics(self.encoder, self.classifier)

        # 9: the encoder ascends lambda / n sum D(Q(x_i)), with codes of the encoder that line 8 has moved
        if self.regularizer is not None and self.regularizer.has_line_9:
            with tf.GradientTape() as tape:
                codes = codes_keeping_statistics(self.encoder, adversarial)
                descent = at_least_float32(self.regularizer.loss(codes, prior_samples)) / replicas
                descent = self.regularizer_optimizer.scale_loss(descent)
            variables = self.encoder.trainable_variables
            self.regularizer_optimizer.apply(tape.gradient(descent, variables), variables)

        clean_logits = logits if clean_logits is None else clean_logits
        self._loss_tracker.update_state(loss, tf.shape(images)[0])
        self._clean_accuracy.update_state(labels, clean_logits, sample_weight)
        if self.adversary is not None:
            rows = slice(first_attacked, None)
            weights = None if sample_weight is None else sample_weight[rows]
            self._adversarial_accuracy.update_state(labels[rows], logits[rows], weights)
        if self.regularizer is not None:
            self._divergence.update_state(divergence)
        return self.compute_metrics(images, labels, clean_logits, sample_weight)

    def without_training_state(self) -> ERClassifier:
        """Makes a model of the same networks, not compiled and without the regularizer's variables."""
        return ERClassifier(self.encoder, self.classifier, passes=self.passes, seed=self.seed, name=self.name)

    def test_step(self, data: Any) -> dict[str, Any]:
        """Computes clean loss and accuracy, and the accuracy under the training adversary at its full epsilon.

        An adversary of fewer than five steps makes ten here: a model may learn to mislead one step (catastrophic
        overfitting, Wong, Rice and Kolter 2020), and validation must see it.
        Every image starts from the same random perturbation, so that the result does not depend on the batches.
        """
        images, labels, sample_weight = unpack(data)
        logits = self(images, training=False)
        loss = self.compute_loss(images, labels, logits, sample_weight, training=False)
        self._loss_tracker.update_state(loss, tf.shape(images)[0])
        self._clean_accuracy.update_state(labels, logits, sample_weight)
        if self.adversary is not None:
            seeds = tf.tile(tf.constant([[self.seed, 0]], tf.int64), [tf.shape(images)[0], 1])
            adversarial = not_cheap(self.adversary).perturb(self._inner_logits, images, labels, seeds)
            self._adversarial_accuracy.update_state(labels, self(adversarial, training=False), sample_weight)
        results = self.compute_metrics(images, labels, logits, sample_weight)
        if self.regularizer is not None:  # an estimate of training alone
            del results[self._divergence.name]
        return results

    @property
    def _network_variables(self) -> list[keras.Variable]:
        return self.encoder.trainable_variables + self.classifier.trainable_variables

    def _one_pass(self, images: tf.Tensor, training: bool | None = False) -> tf.Tensor:
        return at_least_float32(self.classifier(self.encoder(images, training=training), training=training))

    def attack_batch(self, images: tf.Tensor, labels: tf.Tensor, step: tf.Tensor) -> tuple[tf.Tensor, Any]:
        """Makes the batch of line 4 at a step of training: its images, and the position of the first attacked one."""
        if self.adversary is None:
            return images, 0
        scale = tf.ones([], images.dtype)
        if self.epsilon_warm_up:
            scale = tf.minimum(scale, tf.cast(step, images.dtype) / self.epsilon_warm_up)
        first, place = share_of_clean(self.clean_fraction, images)
        with rows_of_batch(place):
            attacked = self.adversary.perturb(
                self._inner_logits, images[first:], labels[first:], self._step_seed(step, StepStream.ADVERSARY), scale
            )
        return tf.concat([images[:first], attacked], axis=0), first

    def _step_seed(self, step: tf.Tensor, stream: StepStream) -> tf.Tensor:
        """Key `[2]` of one draw of one step, the same in each replica: a function of (seed, step, stream) alone."""
        key = tf.stack([tf.constant(self.seed, tf.int64), step])
        return tf.random.experimental.stateless_fold_in(key, tf.constant(stream, tf.int64), alg="philox")

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            **{part: _serialize(getattr(self, part)) for part in _PARTS},
            **{option: getattr(self, option) for option in _OPTIONS},
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: dict | None = None) -> ERClassifier:
        parts = {part: _deserialize(config[part], custom_objects) for part in _PARTS}
        return cls(**{**config, **parts})

    def get_compile_config(self) -> dict[str, Any]:
        if not self.compiled:
            return {}
        config = {name: value for name, value in super().get_compile_config().items() if "loss" not in name}
        return {**config, **{name: _serialize(getattr(self, name)) for name in OPTIMIZERS}}

    def compile_from_config(self, config: dict[str, Any]) -> None:
        # The optimizers were saved with or without the scaling of their losses.
        self.compile(**_deserialize(config), auto_scale_loss=False)
