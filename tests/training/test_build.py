"""What a recipe says becomes, word by word."""

import dataclasses
import math

import keras
import numpy as np
import pytest

from erkeras.attacks import PGD, DivergencePGD
from erkeras.errors import InputError
from erkeras.models import TRADES, CrossEntropy, MaximumMeanDiscrepancy, WassersteinCritic
from erkeras.models.layers import GaussianCode, NoiseLayer
from erkeras.recipes import Recipe, find_recipe
from erkeras.threat import ThreatModel
from erkeras.training import build_gan, build_model

SHAPE = (8, 8, 1)
BASE = Recipe("digits", 16, epochs=5, batch_size=64, epsilon=0.2, learning_rate=0.01)


def built(steps_per_epoch=20, seed=0, **changes):
    """The model of a recipe that differs from `BASE`, for 100 steps."""
    return build_model(dataclasses.replace(BASE, **changes), (8, 8, 1), 3, steps_per_epoch, seed)


def rates(model, steps):
    """Learning rates at some steps of training."""
    found = []
    for step in steps:
        model.optimizer.iterations.assign(step)
        found.append(float(model.optimizer.learning_rate))
    return found


def one_cycle(step, total, top):
    """The documented course, in plain Python."""
    rising = max(1, round(0.3 * total))
    if step < rising:
        return top / 25 + (top - top / 25) * step / rising
    return top * 0.5 * (1 + math.cos(math.pi * (step - rising) / (total - rising)))


@pytest.mark.parametrize(("epochs", "steps_per_epoch"), [(5, 20), (1, 7), (3, 33)])
def test_one_cycle_rises_over_the_first_30_percent_and_falls_as_a_cosine(epochs, steps_per_epoch):
    total = epochs * steps_per_epoch
    model = built(steps_per_epoch, epochs=epochs)
    expected = [one_cycle(step, total, 0.01) for step in range(total + 1)]
    np.testing.assert_allclose(rates(model, range(total + 1)), expected, rtol=1e-4, atol=1e-9)


def test_one_cycle_begins_at_a_twenty_fifth_has_its_top_at_30_percent_and_ends_at_zero():
    model = built()
    first, before, top, after, middle, last = rates(model, [0, 29, 30, 31, 65, 100])
    assert first == pytest.approx(0.01 / 25)
    assert top == pytest.approx(0.01)
    assert before < top > after
    assert middle == pytest.approx(0.005)
    assert last == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize(
    ("name", "kind", "expected"),
    [
        ("adam", keras.optimizers.Adam, {"weight_decay": None}),
        ("adamw", keras.optimizers.AdamW, {"weight_decay": 0.01}),
        ("sgd", keras.optimizers.SGD, {"weight_decay": 0.01, "momentum": 0.8, "nesterov": True}),
    ],
)
def test_line_8_has_the_optimizer_that_was_asked_for(name, kind, expected):
    decay = {} if name == "adam" else {"weight_decay": 0.01}
    model = built(optimizer=name, momentum=0.8, averaging=0.99, **decay)
    assert type(model.optimizer) is kind
    config = model.optimizer.get_config()
    assert {key: config[key] for key in expected} == expected
    assert (config["use_ema"], config["ema_momentum"]) == (True, 0.99)
    assert type(model.critic_optimizer) is type(model.regularizer_optimizer) is keras.optimizers.Adam


def test_weight_decay_takes_the_rate_times_itself_off_and_pytorchs_figure_is_divided_by_1_minus_momentum():
    """PyTorch's SGD adds decay x weight to the gradient; without one, both shrink a weight alike in the long run."""
    rate, momentum, decay = 0.01, 0.9, 0.05
    weight = keras.Variable([1.0])
    optimizer = built(
        optimizer="sgd", momentum=momentum, learning_rate=rate, one_cycle=False, weight_decay=decay / (1 - momentum)
    ).optimizer
    optimizer = type(optimizer).from_config(optimizer.get_config())
    expected, velocity = 1.0, 0.0
    for _ in range(200):
        optimizer.apply([np.zeros(1, np.float32)], [weight])
        gradient = decay * expected
        velocity = momentum * velocity + gradient
        expected -= rate * (gradient + momentum * velocity)
    assert float(weight.value[0]) == pytest.approx((1 - rate * decay / (1 - momentum)) ** 200, rel=1e-4)
    assert float(weight.value[0]) == pytest.approx(expected, rel=0.02)


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_only_kernels_decay(name):
    model = built(optimizer=name, network="colour", weight_decay=0.5, one_cycle=False)
    variables = model.encoder.trainable_variables + model.classifier.trainable_variables
    for variable in variables:
        variable.assign(np.ones(variable.shape))
    model.optimizer.apply([np.zeros(variable.shape, np.float32) for variable in variables], variables)
    kernels = [variable for variable in variables if variable.name == "kernel"]
    others = [variable for variable in variables if variable.name != "kernel"]
    assert {variable.name for variable in others} == {"bias", "gamma", "beta"}
    for group, expected in ((kernels, 1 - 0.01 * 0.5), (others, 1)):
        for variable in group:
            np.testing.assert_allclose(variable, expected, rtol=1e-6, err_msg=variable.path)


def test_an_optimizer_that_is_none_is_refused():
    with pytest.raises(InputError, match="there is no optimizer 'lion': give one of adam, adamw, sgd"):
        built(optimizer="lion")
    with pytest.raises(InputError, match=r"weight decay is 0\.001 with adam, which has none: give adamw or sgd"):
        built(weight_decay=1e-3)


@pytest.mark.parametrize("objective", ["cross-entropy", "trades"])
def test_the_adversary_is_of_the_norm(objective):
    adversary = built(norm="l2", epsilon=0.9, training_ratio=1.5, objective=objective).adversary
    assert adversary.threat == ThreatModel("l2", 0.9 * 1.5)
    assert built(epsilon=0.9, training_ratio=1.5).adversary.threat == ThreatModel("l_inf", 1.0)


def test_mixed_precision_is_of_encoder_and_classifier_but_their_ends():
    model = built(mixed_precision=True)
    for network in (model.encoder, model.classifier):
        *hidden, last = (layer.dtype_policy.name for layer in network.layers)
        assert set(hidden) == {"mixed_bfloat16"}
        assert last == "float32"
    assert {layer.dtype_policy.name for layer in model.regularizer.critic.layers} == {"float32"}
    assert keras.config.dtype_policy().name == "float32"


def test_a_course_of_one_step_has_one_that_rises():
    model = built(steps_per_epoch=2, epochs=1)
    np.testing.assert_allclose(rates(model, [0, 1, 2]), [0.01 / 25, 0.01, 0], atol=1e-9)


def test_without_one_cycle_the_rate_is_constant():
    model = built(one_cycle=False)
    for step in (0, 30, 99):
        model.optimizer.iterations.assign(step)
        assert float(model.optimizer.learning_rate) == pytest.approx(0.01)


@pytest.mark.parametrize(
    ("fraction", "epochs", "steps_per_epoch", "steps"),
    [(0.4, 5, 20, 40), (0.0, 5, 20, 0), (1.0, 5, 20, 100), (0.1, 1, 7, 1), (0.25, 3, 33, 25)],
)
def test_epsilon_warms_up_over_a_fraction_of_all_steps(fraction, epochs, steps_per_epoch, steps):
    assert built(steps_per_epoch, epochs=epochs, epsilon_warm_up=fraction).epsilon_warm_up == steps


@pytest.mark.parametrize(("averaging", "uses"), [(0.0, False), (0.9, True), (0.999, True)])
def test_averaging_is_the_momentum_of_adams_own_average(averaging, uses):
    optimizer = built(averaging=averaging).optimizer
    assert isinstance(optimizer, keras.optimizers.Adam)
    assert (optimizer.use_ema, optimizer.ema_momentum) == (uses, averaging)


def test_each_optimizer_has_its_own_rate_and_adams_usual_moments():
    model = built(critic_learning_rate=0.004, regularizer_learning_rate=0.0005)
    rate = {name: getattr(model, name) for name in ("critic_optimizer", "regularizer_optimizer")}
    assert float(rate["critic_optimizer"].learning_rate) == pytest.approx(0.004)
    assert float(rate["regularizer_optimizer"].learning_rate) == pytest.approx(0.0005)
    for optimizer in (model.optimizer, *rate.values()):
        assert type(optimizer) is keras.optimizers.Adam
        assert (optimizer.beta_1, optimizer.beta_2) == (0.9, 0.999)


@pytest.mark.parametrize(
    ("changes", "epsilon", "steps", "step_size"),
    [
        ({}, 0.2, 7, 0.2 * 2.5 / 7),
        ({"training_ratio": 1.5}, 0.3, 7, 0.3 * 2.5 / 7),
        ({"steps": 10}, 0.2, 10, 0.05),
        ({"steps": 1}, 0.2, 1, 0.25),
        ({"steps": 1, "step_ratio": 0.5}, 0.2, 1, 0.1),
        ({"steps": 20, "step_ratio": 0.25}, 0.2, 20, 0.05),
        ({"epsilon": 0.8, "training_ratio": 1.5}, 1.0, 7, 2.5 / 7),
    ],
)
def test_the_adversary_acts_with_the_ratio_of_epsilon(changes, epsilon, steps, step_size):
    adversary = built(**changes).adversary
    assert type(adversary) is PGD
    assert adversary.threat == ThreatModel("l_inf", adversary.threat.epsilon)
    assert adversary.threat.epsilon == pytest.approx(epsilon)
    assert (adversary.steps, adversary.restarts, adversary.random_start) == (steps, 1, True)
    assert adversary.step_size == pytest.approx(step_size)


@pytest.mark.parametrize("changes", [{"training_ratio": 0.0}, {"epsilon": 0.0}])
def test_without_an_epsilon_there_is_no_adversary(changes):
    assert built(**changes).adversary is None


def test_trades_has_its_beta_and_the_adversary_of_its_divergence():
    model = built(objective="trades", beta=2.5, steps=10)
    assert isinstance(model.objective, TRADES)
    assert model.objective.beta == 2.5
    assert type(model.adversary) is DivergencePGD
    assert model.adversary.step_size == pytest.approx(0.05)
    assert isinstance(built(beta=2.5).objective, CrossEntropy)


def test_label_smoothing_arrives_in_either_objective():
    recipe = dataclasses.replace(find_recipe("default", "digits", SHAPE), label_smoothing=0.1)
    for changes, kind in (({}, CrossEntropy), ({"objective": "trades"}, TRADES)):
        objective = build_model(dataclasses.replace(recipe, **changes), SHAPE, 10, 3, seed=0).objective
        assert (type(objective), objective.label_smoothing) == (kind, 0.1)


def test_settings_of_the_model_arrive_as_they_are():
    model = built(clean_fraction=0.25, passes=3, structured=0.5, seed=11)
    assert (model.clean_fraction, model.passes, model.seed) == (0.25, 3, 11)
    assert model.adversary.structured == 0.5
    assert not model.inner_bfloat16
    assert built(bfloat16=True).inner_bfloat16
    assert model.encoder.output_shape == (None, 16)
    assert model.classifier.output_shape == (None, 3)


def test_weights_are_drawn_by_the_seed():
    first, again, other = (built(seed=seed).get_weights() for seed in (3, 3, 4))
    assert all(np.array_equal(*pair) for pair in zip(first, again, strict=True))
    assert not all(np.array_equal(*pair) for pair in zip(first, other, strict=True))


def test_the_critic_is_the_recipes():
    regularizer = built(
        coefficient=0.4, coupling="separate", critic_units=(7, 5), critic_output="log_sigmoid", clip=0.05
    ).regularizer
    assert type(regularizer) is WassersteinCritic
    assert (regularizer.coefficient, regularizer.coupling, regularizer.clip) == (0.4, "separate", 0.05)
    assert [layer.units for layer in regularizer.critic.layers] == [7, 5, 1]
    assert regularizer.critic.input_shape == (None, 16)
    assert regularizer.critic.layers[-1].activation is keras.activations.log_sigmoid


def test_other_regularizers_are_made_by_their_names():
    regularizer = built(regularizer="mmd", coefficient=0.4, coupling="separate").regularizer
    assert type(regularizer) is MaximumMeanDiscrepancy
    assert (regularizer.coefficient, regularizer.coupling) == (0.4, "separate")
    stochastic = built(regularizer="gaussian-kl", coefficient=0.4)
    assert stochastic.regularizer is None
    code = stochastic.encoder.layers[-1]
    assert (type(code), code.units, code.coefficient) == (GaussianCode, 16, 0.4)
    for regularizer in ("mmd", "wasserstein", "gaussian-kl"):
        without = built(regularizer=regularizer, coefficient=0.0)
        assert without.regularizer is None
        assert type(without.encoder.layers[-1]) is keras.layers.Dense


def test_noise_stands_before_every_convolution():
    encoder = built(noise=0.3).encoder
    noise = [layer.standard_deviation for layer in encoder.layers if isinstance(layer, NoiseLayer)]
    convolutions = [layer for layer in encoder.layers if isinstance(layer, keras.layers.Conv2D)]
    assert noise == [0.3] + [0.15] * (len(convolutions) - 1)
    assert not any(isinstance(layer, NoiseLayer) for layer in built().encoder.layers)


def test_without_a_bottleneck_there_is_no_code():
    model = built(bottleneck=False, coefficient=0.0)
    assert model.encoder.output_shape == (None, 128)
    assert [layer.name for layer in model.classifier.layers] == ["logits"]


@pytest.mark.parametrize(
    ("regularizer", "message"),
    [
        ("best", r"the regularizer 'best' cannot be imported \(.*\): give wasserstein, mmd, gaussian-kl, or MODULE:C"),
        ("no_such_module:Best", "'no_such_module:Best' cannot be imported"),
        ("erkeras.models:Absent", "'erkeras.models:Absent' cannot be imported"),
        (":", "':' cannot be imported"),
        ("math:pi", "'math:pi' is not a class of regularizers: give wasserstein"),
        ("erkeras.models:TRADES", "'erkeras.models:TRADES' is not a class of regularizers"),
    ],
)
def test_a_regularizer_that_is_none_is_refused(regularizer, message):
    with pytest.raises(InputError, match=message):
        built(regularizer=regularizer)


def test_a_regularizer_of_ones_own_is_imported():
    regularizer = built(regularizer="erkeras.models:MaximumMeanDiscrepancy", coefficient=0.7).regularizer
    assert (type(regularizer), regularizer.coefficient) == (MaximumMeanDiscrepancy, 0.7)


def test_a_generator_and_its_critic_learn_as_gulrajani_et_al_say():
    gan = build_gan(dataclasses.replace(BASE, generator_learning_rate=0.003), (8, 8, 1), seed=5)
    assert gan.seed == 5
    assert gan.generator.output_shape == (None, 8, 8, 1)
    assert gan.optimizer is not gan.critic_optimizer
    for optimizer in (gan.optimizer, gan.critic_optimizer):
        assert type(optimizer) is keras.optimizers.Adam
        assert float(optimizer.learning_rate) == pytest.approx(0.003)
        assert (optimizer.beta_1, optimizer.beta_2) == (0.5, 0.9)


def test_a_generator_is_drawn_by_the_seed():
    first, again, other = (build_gan(BASE, (8, 8, 1), seed).get_weights() for seed in (3, 3, 4))
    assert all(np.array_equal(*pair) for pair in zip(first, again, strict=True))
    assert not all(np.array_equal(*pair) for pair in zip(first, other, strict=True))
