"""What a recipe says."""

from __future__ import annotations

from dataclasses import dataclass

from erkeras.errors import InputError


@dataclass(frozen=True)
class Recipe:
    """Everything that decides how a classifier is trained, but the data and the seed.

    Attributes:
        defense: name of the row in `DEFENSES` that it follows.
        network: name in `erkeras.models.networks.NETWORKS`; or MODULE:FUNCTION, a user's own, or FILE.keras, a trained
            classifier from whose weights training starts (`erkeras.training.own_networks`).
        code_size: k, of a network of ours and of a function that asks for it; others have the size of their own.
        bottleneck: whether there is a code at all, or the last hidden layer goes straight into the logits.
        epochs, batch_size: of training.
        epsilon: l_inf radius in which the model is evaluated, in [0, 1] pixels.
        training_ratio: the adversary of training acts with training_ratio x epsilon.
        steps: its PGD steps.
        step_ratio: length of a step, as a fraction of the adversary's epsilon. None for 2.5 / steps, and for 1.25
            where there is one step: FGSM from a random start, as in Wong, Rice and Kolter (2020).
        epsilon_warm_up: fraction of all steps over which the adversary's epsilon rises from 0.
        clean_fraction: fraction of each batch that stays clean.
        learning_rate: of encoder and classifier (Algorithm 1, line 8).
        one_cycle: the learning rate rises linearly over the first 30% of all steps, then falls as a cosine; else
            it is constant.
        objective: "cross-entropy", or "trades", whose adversary ascends the KL divergence too.
        beta: what robustness weighs in TRADES.
        regularizer: "wasserstein", "mmd", "gaussian-kl" (which makes the code stochastic), or MODULE:CLASS, a
            user's own `Regularizer` of (coefficient, coupling).
        coefficient: lambda; 0 for no regularizer at all.
        coupling: "separate" or "joint"; see `Regularizer`.
        critic_units, critic_output, clip: the critic of "wasserstein".
        critic_learning_rate: line 7.
        regularizer_learning_rate: line 9, under "separate".
        bfloat16: the adversary's passes in bfloat16.
        structured: fraction of the adversary's starts that are stripes and blocks; see `PGD`.
        averaging: decay of the average of the weights that the trained model takes; 0 for the weights themselves.
        keep_best: take the epoch of the highest robust validation accuracy instead of the last; see `KeepBest`.
        noise: standard deviation of the noise in front of the first convolution, in [0, 1] pixels, and twice that of
            the others (RSE); 0 for none.
        passes: over whose noise the prediction is averaged; see `ERClassifier`.
        augment: shift and mirror the training images; see `erkeras.data.training_batches`.
        generator_updates: of the generator of a Defense-GAN, each after five of its critic, rounded up to whole epochs;
            0 for a classifier without one.
        generator_learning_rate: of generator and critic.
        purifier_steps, purifier_restarts, purifier_step_size: of the search for the nearest image that the generator
            can make; see `DefenseGAN`.
        code_layer: where a whole classifier is cut in two; see `cut_classifier`.
        network_fingerprint: of the FILE.keras (`erkeras.saved.fingerprint`); `erkeras.train` notes it.

    Raises:
        InputError: for a regularizer where there is no code.
    """

    network: str
    code_size: int
    epochs: int
    batch_size: int
    epsilon: float
    defense: str = "er-classifier"
    bottleneck: bool = True
    training_ratio: float = 1.0
    steps: int = 7
    step_ratio: float | None = None
    epsilon_warm_up: float = 0.4
    clean_fraction: float = 0.0
    learning_rate: float = 2e-3
    one_cycle: bool = True
    objective: str = "cross-entropy"
    beta: float = 6.0
    regularizer: str = "wasserstein"
    coefficient: float = 0.1
    coupling: str = "joint"
    critic_units: tuple[int, ...] = (512, 512, 512, 512)
    critic_output: str = "linear"
    clip: float = 0.01
    critic_learning_rate: float = 1e-3
    regularizer_learning_rate: float = 1e-4
    bfloat16: bool = False
    structured: float = 0.0
    averaging: float = 0.0
    keep_best: bool = False
    noise: float = 0.0
    passes: int = 1
    augment: bool = False
    generator_updates: int = 0
    generator_learning_rate: float = 5e-4
    purifier_steps: int = 200
    purifier_restarts: int = 10
    purifier_step_size: float = 30.0
    code_layer: str | None = None
    network_fingerprint: str | None = None

    def __post_init__(self) -> None:
        if self.coefficient and not self.bottleneck:
            raise InputError(
                f"the coefficient (lambda) is {self.coefficient:g} for a network without a code (--defense "
                f"{self.defense}): give 0, or another defense."
            )
