"""Defines the settings of a recipe."""

from __future__ import annotations

from dataclasses import dataclass

from erkeras.errors import InputError


@dataclass(frozen=True)
class Recipe:
    """Holds every setting of a training but the data and the seed.

    Example:
        recipe = dataclasses.replace(find_recipe("default", "digits", (8, 8, 1)), epochs=20)

    Attributes:
        defense: name of the row in `DEFENSES` that it follows.
        network: name in `erkeras.models.networks.NETWORKS`; or MODULE:FUNCTION, a user's own, or FILE.keras, a trained
            classifier from whose weights training starts (`erkeras.training.own_networks`).
        code_size: k, of a network of ours and of a function that asks for it; others have the size of their own.
        bottleneck: whether there is a code at all, or the last hidden layer goes straight into the logits.
        epochs, batch_size: of training.
        epsilon: radius in which the model is evaluated, in [0, 1] pixels.
        norm: "l_inf" or "l2", of epsilon, in training and evaluation.
        training_ratio: the adversary of training acts with training_ratio x epsilon.
        steps: its PGD steps.
        step_ratio: length of a step, as a fraction of the adversary's epsilon. None for 2.5 / steps, and for 1.25
            where there is one step: FGSM from a random start, as in Wong, Rice and Kolter (2020).
        epsilon_warm_up: fraction of all steps over which the adversary's epsilon rises from 0.
        clean_fraction: fraction of each batch that stays clean.
        learning_rate: of encoder and classifier (Algorithm 1, line 8).
        one_cycle: the learning rate rises linearly over the first 30% of all steps, then falls as a cosine; else
            it is constant.
        optimizer: of encoder and classifier: "adam", "adamw", or "sgd", whose momentum is Nesterov's.
        momentum: of "sgd".
        weight_decay: of "sgd" and "adamw", as Keras counts it: each step takes learning rate x weight_decay x weight
            off each weight, but biases and BatchNorm's. PyTorch's SGD takes it through the momentum: its 5e-4 is
            5e-4 / (1 - momentum) here.
        objective: "cross-entropy", or "trades", whose adversary ascends the KL divergence too.
        beta: what robustness weighs in TRADES.
        label_smoothing: fraction of a training label that all classes share, in the cross-entropy: see `CrossEntropy`.
            The adversary ascends the cross-entropy of the plain labels.
        regularizer: "wasserstein", "mmd", "gaussian-kl" (which makes the code stochastic), or MODULE:CLASS, a
            user's own `Regularizer` of (coefficient, coupling).
        coefficient: lambda; 0 for no regularizer at all.
        coupling: "separate" or "joint"; see `Regularizer`.
        critic_units, critic_output, clip: the critic of "wasserstein".
        critic_learning_rate: line 7.
        regularizer_learning_rate: line 9, under "separate".
        bfloat16: the adversary's passes in bfloat16.
        mixed_precision: train encoder and classifier in Keras' mixed_bfloat16, for a GPU. The trained model computes
            in float32.
        structured: fraction of the adversary's starts that are stripes and blocks; see `PGD`.
        averaging: decay of the average of the weights that the trained model takes, with BatchNorm's statistics taken
            anew for them on 40 batches; 0 for the weights themselves.
        keep_best: take the epoch of the highest robust validation accuracy instead of the last; see `KeepBest`.
        noise: standard deviation of the noise in front of the first convolution, in [0, 1] pixels, and twice that of
            the others (RSE); 0 for none.
        passes: over whose noise the prediction is averaged; see `ERClassifier`.
        augment: shift and mirror the training images; see `erkeras.data.training_batches`.
        cutout: sides of a rectangle that each training image loses, as a fraction of the image's; 0 for none; see
            `erkeras.data.training_batches`.
        generator_updates: of the generator of a Defense-GAN, each after five of its critic, rounded up to whole epochs;
            0 for a classifier without one.
        generator_learning_rate: of generator and critic.
        purifier_steps, purifier_restarts, purifier_step_size: of the search for the nearest image that the generator
            can make; see `DefenseGAN`.
        code_layer: where a whole classifier is cut in two; see `cut_classifier`.
        network_fingerprint: of the FILE.keras (`erkeras.saved.fingerprint`); `erkeras.train` notes it.

    Raises:
        InputError: for a regularizer where there is no code, another norm, an epsilon above 1 in l_inf, a label
            smoothing or a cutout outside [0, 1), or a code layer without a name.
    """

    network: str
    code_size: int
    epochs: int
    batch_size: int
    epsilon: float
    defense: str = "er-classifier"
    bottleneck: bool = True
    norm: str = "l_inf"
    training_ratio: float = 1.0
    steps: int = 7
    step_ratio: float | None = None
    epsilon_warm_up: float = 0.4
    clean_fraction: float = 0.0
    learning_rate: float = 2e-3
    one_cycle: bool = True
    optimizer: str = "adam"
    momentum: float = 0.9
    weight_decay: float = 0.0
    objective: str = "cross-entropy"
    beta: float = 6.0
    label_smoothing: float = 0.0
    regularizer: str = "wasserstein"
    coefficient: float = 0.1
    coupling: str = "joint"
    critic_units: tuple[int, ...] = (512, 512, 512, 512)
    critic_output: str = "linear"
    clip: float = 0.01
    critic_learning_rate: float = 1e-3
    regularizer_learning_rate: float = 1e-4
    bfloat16: bool = False
    mixed_precision: bool = False
    structured: float = 0.0
    averaging: float = 0.0
    keep_best: bool = False
    noise: float = 0.0
    passes: int = 1
    augment: bool = False
    cutout: float = 0.0
    generator_updates: int = 0
    generator_learning_rate: float = 5e-4
    purifier_steps: int = 200
    purifier_restarts: int = 10
    purifier_step_size: float = 30.0
    code_layer: str | None = None
    network_fingerprint: str | None = None

    def __post_init__(self) -> None:
        if self.norm not in ("l_inf", "l2"):
            raise InputError(f"the norm of the recipe is {self.norm!r}: give l_inf or l2.")
        if self.norm == "l_inf" and self.epsilon > 1:
            raise InputError(f"epsilon is {self.epsilon:g} in l_inf: give a number from 0 to 1, in [0, 1] pixels.")
        for name, fraction in (("label smoothing", self.label_smoothing), ("cutout", self.cutout)):
            if not 0 <= fraction < 1:
                raise InputError(f"{name} is {fraction:g}: give a number from 0 up to, not including, 1.")
        if self.code_layer == "":
            raise InputError("the code layer has no name: give the name of a layer, or leave it out.")
        if self.coefficient and not self.bottleneck:
            raise InputError(
                f"the coefficient (lambda) is {self.coefficient:g} for a network without a code (--defense "
                f"{self.defense}): give 0, or another defense."
            )
