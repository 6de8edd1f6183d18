"""From a recipe to a model: the one place that knows which class a word of a recipe stands for."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import keras

from erkeras import attacks, models
from erkeras.attacks.pgd import REACH
from erkeras.errors import InputError
from erkeras.models import networks
from erkeras.recipes import REGULARIZERS, Recipe, network_kind
from erkeras.threat import ThreatModel
from erkeras.training.own import import_own, own_networks

if TYPE_CHECKING:
    from erkeras.attacks import Attack
    from erkeras.models import ERClassifier, Regularizer, WassersteinGAN

_ALLOWED = f"give {', '.join(REGULARIZERS)}, or MODULE:CLASS, a Regularizer of a module in this folder."


def build_model(
    recipe: Recipe, image_shape: Sequence[int], classes: int, steps_per_epoch: int, seed: int
) -> ERClassifier:
    """Builds a compiled ERClassifier with fresh weights, all as the recipe says.

    Args:
        image_shape: (height, width, channels).
        classes: number of classes.
        steps_per_epoch: of training, for what changes over its course.
        seed: of the weights, and of training's random numbers.

    Raises:
        InputError: for a network, a regularizer or an optimizer that does not exist.
    """
    keras.utils.set_random_seed(seed)
    total_steps = recipe.epochs * steps_per_epoch
    with _policy(recipe):
        encoder, classifier = _build_networks(recipe, image_shape, classes)
    model = models.ERClassifier(
        encoder,
        classifier,
        regularizer=_build_regularizer(recipe, networks.code_size(encoder, classifier)),
        adversary=_build_adversary(recipe),
        objective=_build_objective(recipe),
        clean_fraction=recipe.clean_fraction,
        epsilon_warm_up=round(recipe.epsilon_warm_up * total_steps),
        inner_bfloat16=recipe.bfloat16,
        passes=recipe.passes,
        seed=seed,
    )
    model.compile(
        _build_optimizer(recipe, total_steps),
        critic_optimizer=keras.optimizers.Adam(recipe.critic_learning_rate),
        regularizer_optimizer=keras.optimizers.Adam(recipe.regularizer_learning_rate),
    )
    return model


def build_gan(recipe: Recipe, image_shape: Sequence[int], seed: int) -> WassersteinGAN:
    """Builds a compiled WassersteinGAN with fresh weights, as the recipe says; arguments as for `build_model`.

    Raises:
        InputError: for images that the generator cannot make.
    """
    keras.utils.set_random_seed(seed)
    model = models.WassersteinGAN(
        networks.build_generator(image_shape), networks.build_image_critic(image_shape), seed=seed
    )
    model.compile(*(keras.optimizers.Adam(recipe.generator_learning_rate, 0.5, 0.9) for _ in range(2)))
    return model


def _build_optimizer(recipe: Recipe, total_steps: int) -> keras.optimizers.Optimizer:
    """Line 8's."""
    kinds: dict[str, tuple[Any, dict[str, Any]]] = {
        "adam": (keras.optimizers.Adam, {}),
        "adamw": (keras.optimizers.AdamW, {"weight_decay": recipe.weight_decay}),
        "sgd": (
            keras.optimizers.SGD,
            {"momentum": recipe.momentum, "nesterov": True, "weight_decay": recipe.weight_decay},
        ),
    }
    if recipe.optimizer not in kinds:
        raise InputError(f"there is no optimizer {recipe.optimizer!r}: give one of {', '.join(kinds)}.")
    if recipe.weight_decay and recipe.optimizer == "adam":
        raise InputError(f"weight decay is {recipe.weight_decay:g} with adam, which has none: give adamw or sgd.")
    rate: Any = recipe.learning_rate
    if recipe.one_cycle:
        rising = max(1, round(0.3 * total_steps))
        rate = keras.optimizers.schedules.CosineDecay(
            rate / 25, total_steps - rising, warmup_target=rate, warmup_steps=rising
        )
    kind, options = kinds[recipe.optimizer]
    optimizer = kind(rate, use_ema=recipe.averaging > 0, ema_momentum=recipe.averaging, **options)
    if recipe.weight_decay:
        optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    return optimizer


@contextlib.contextmanager
def _policy(recipe: Recipe) -> Iterator[None]:
    """Gives the dtype in which Keras computes new layers."""
    before = keras.config.dtype_policy()
    if recipe.mixed_precision:
        keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def _build_networks(recipe: Recipe, image_shape: Sequence[int], classes: int) -> tuple[Any, Any]:
    ours = network_kind(recipe.network) == "name"
    if ours:
        encoder, classifier = networks.build_networks(recipe.network, image_shape, recipe.code_size, classes)
    else:
        encoder, classifier = own_networks(recipe, image_shape, classes)
    if recipe.noise:
        encoder = networks.with_noise(encoder, recipe.noise)
    if not recipe.bottleneck and ours:  # a user's own network is trained as it is
        return networks.without_bottleneck(encoder, classes)
    if recipe.regularizer == "gaussian-kl" and recipe.coefficient:
        encoder = networks.with_gaussian_code(encoder, recipe.coefficient)
    return encoder, classifier


def _build_regularizer(recipe: Recipe, code_size: int) -> Regularizer | None:
    if not recipe.coefficient or recipe.regularizer == "gaussian-kl":
        return None
    if recipe.regularizer == "wasserstein":
        critic = networks.build_critic(code_size, recipe.critic_units, recipe.critic_output)
        return models.WassersteinCritic(recipe.coefficient, critic, recipe.clip, recipe.coupling)
    if recipe.regularizer == "mmd":
        return models.MaximumMeanDiscrepancy(recipe.coefficient, recipe.coupling)
    return _import_regularizer(recipe.regularizer)(coefficient=recipe.coefficient, coupling=recipe.coupling)


def _build_objective(recipe: Recipe) -> models.CrossEntropy | models.TRADES:
    if recipe.objective == "trades":
        return models.TRADES(recipe.beta, recipe.label_smoothing)
    return models.CrossEntropy(recipe.label_smoothing)


def _build_adversary(recipe: Recipe) -> Attack | None:
    if not recipe.epsilon * recipe.training_ratio:
        return None
    epsilon = recipe.epsilon * recipe.training_ratio
    threat = ThreatModel(recipe.norm, min(epsilon, 1.0) if recipe.norm == "l_inf" else epsilon)
    attack = attacks.DivergencePGD if recipe.objective == "trades" else attacks.PGD
    ratio = recipe.step_ratio or (1.25 if recipe.steps == 1 else REACH / recipe.steps)
    return attack(threat, steps=recipe.steps, step_size=ratio * threat.epsilon, structured=recipe.structured)


def _import_regularizer(path: str) -> Any:
    """A user's own class of regularizers, MODULE:CLASS."""
    found = import_own(path, "regularizer", _ALLOWED)
    if not (isinstance(found, type) and issubclass(found, models.Regularizer)):
        raise InputError(f"the regularizer {path!r} is not a class of regularizers: {_ALLOWED}")
    return found
