"""One table of all attacks, each held to the contract of `Attack` and `Attacked`. The next attack is one more row."""

import dataclasses
import json
import warnings
from dataclasses import dataclass
from types import SimpleNamespace

import keras
import numpy as np
import pytest
import tensorflow as tf

from erkeras import attacks
from erkeras.attacks import (
    APGD,
    FAB,
    FGSM,
    PGD,
    AdaptiveAttack,
    Attack,
    Attacked,
    AutoAttack,
    CarliniWagner,
    DivergencePGD,
    RayS,
    Square,
    Victim,
)
from erkeras.progress import Progress
from erkeras.threat import ThreatModel
from helpers.closed_forms import bent_model, check_parts, nearest_distances, uniform

THREATS = {"l_inf": ThreatModel("l_inf", 0.1), "l2": ThreatModel("l2", 0.3)}
COUNT, INTERNAL_BATCH = 24, 8
EVERY = np.arange(COUNT)
#: Fields of `Attacked` -> dtype; all have one row for each image.
FIELDS = {
    "images": np.float32,
    "success": np.bool_,
    "answered": np.bool_,
    "unconfirmed": np.bool_,
    "wrong_when_clean": np.bool_,
    "predictions": np.int32,
    "clean_predictions": np.int32,
    "distance": np.float32,
    "queries": np.int64,
    "gradients": np.int64,
}


@keras.saving.register_keras_serializable("tests")
@dataclass(frozen=True)
class ShortAutoAttack(AutoAttack):
    """AutoAttack with few iterations and queries; all else is the real one's."""

    @property
    def parts(self):
        return (
            APGD(self.threat, iterations=2),
            APGD(self.threat, loss="dlr", targets=3, iterations=8),
            FAB(self.threat, targets=2, minimise=False, iterations=4),
            Square(self.threat, queries=30),
        )


@dataclass(frozen=True)
class Row:
    """An attack with short settings.

    Args:
        attack: short, and of every setting some row has another than the default.
        reach: everything nearer than this fraction of epsilon is broken.
    """

    attack: Attack
    reach: float = 0.8

    @property
    def name(self):
        return f"{self.attack.name}-{self.attack.threat.norm}"


def rows_of(norm):
    threat = THREATS[norm]
    yield Row(FGSM(threat))
    yield Row(PGD(threat, steps=8, step_size=threat.epsilon / 3, restarts=2))
    yield Row(PGD(threat, steps=8, loss="margin", random_start=False))
    yield Row(PGD(threat, steps=8, loss="dlr", structured=0.5 if norm == "l_inf" else 0.0))
    yield Row(PGD(threat, steps=8, loss="dlr", targets=3))
    # Its loss has a second maximum, where the model is the more confident: half of the starts end there.
    yield Row(DivergencePGD(threat, steps=8, restarts=6, start_deviation=0.02))
    yield Row(AdaptiveAttack(PGD(threat, steps=8), weights=(0.0, 0.3)))
    yield Row(AdaptiveAttack(APGD(threat, iterations=8), weights=(0.0, 0.3)))
    yield Row(APGD(threat, iterations=8, restarts=2))
    yield Row(APGD(threat, "dlr", iterations=8, rho=0.6))
    yield Row(APGD(threat, "dlr", targets=3, iterations=8))
    yield Row(APGD(threat, "margin", iterations=8, eot=2))
    yield Row(FAB(threat, iterations=8, overshoot=1.02))
    yield Row(FAB(threat, iterations=8, restarts=2, targets=2, minimise=False))
    # By luck alone, and in l2 its profiles are far from the shortest way.
    yield Row(Square(threat, queries=150, restarts=2, initial_fraction=0.4), reach=0.8 if norm == "l_inf" else 0.4)
    yield Row(ShortAutoAttack(threat))
    if norm == "l_inf":
        yield Row(RayS(threat, queries=300))
    else:
        yield Row(CarliniWagner(threat, iterations=60, learning_rate=0.05, binary_search_steps=5, initial_constant=0.1))


ROWS = [row for norm in THREATS for row in rows_of(norm)]
#: For what takes seconds.
ONE_OF_EACH_KIND = [
    row for row in ROWS if row.name in ("apgd-t-l_inf", "fab-l_inf", "square-l_inf", "rays-l_inf", "cw-l2")
]
SLOPES = uniform((12, 1), -1, 1, seed=3).astype(np.float64)
MATRIX = np.concatenate([SLOPES, -SLOPES], axis=1)
two_classes = bent_model(MATRIX)


def classify(images):
    """Two classes whose boundary is a plane, though the logits bend, and two that no image belongs to."""
    return tf.concat([two_classes(images), tf.tile([[-4.0, -5.0]], [tf.shape(images)[0], 1])], axis=1)


def excess(images):
    """A detector's scores: it finds dark images adversarial, and for one class bright ones."""
    brightness = tf.reduce_mean(images, axis=[1, 2, 3])
    return tf.stack([0.1 - brightness, brightness - 0.9, 0.1 - brightness, 0.1 - brightness], axis=1)


def with_detector(images):
    return tf.concat([classify(images), excess(images)], axis=1)


def points(norm):
    """Images up to twice epsilon from the boundary, some of their pixels on a bound; every eighth label is wrong."""
    labels = np.arange(COUNT) % 2
    images = uniform((COUNT, 12), 0.35, 0.65, seed=4).astype(np.float64)
    images[::3, 2], images[1::3, 7] = 0.0, 1.0
    step = SLOPES[:, 0].copy()
    step[[2, 7]] = 0  # stay on the bound
    if norm == "l_inf":
        step = np.sign(step)
    wanted = np.linspace(0.1, 2, COUNT) * THREATS[norm].epsilon
    wanted *= np.where(labels == 0, 1, -1) * np.linalg.norm(SLOPES[:, 0], 1 if norm == "l_inf" else 2)
    images += np.outer((wanted - (images - 0.5) @ SLOPES[:, 0]) / (step @ SLOPES[:, 0]), step)
    images = np.clip(images, 0, 1).astype(np.float32).reshape(COUNT, 3, 4, 1)
    labels[::8] = 1 - labels[::8]
    return images, labels


class Heard(Progress):
    def __init__(self):
        self.units = []

    def advance(self, units, note=""):
        self.units.append(units)


@pytest.fixture(scope="module", params=ROWS, ids=lambda row: row.name)
def case(request):
    """A row, its model and images, and what the attack makes of them."""
    row, traces, heard = request.param, [], Heard()
    model = with_detector if row.attack.outputs_per_class == 2 else classify

    def traced(images):
        traces.append(images)
        return model(images)

    victim, (images, labels) = Victim(traced), points(row.attack.threat.norm)
    given = images.copy(), labels.copy()

    def run(rows=EVERY, attack=row.attack, model=victim, **options):
        return attack(
            model, images[rows], labels[rows], indices=rows, internal_batch=INTERNAL_BATCH, **{"seed": 6, **options}
        )

    return SimpleNamespace(
        row=row, attack=row.attack, threat=row.attack.threat, run=run, traces=traces, heard=heard, given=given,
        images=images, labels=labels, result=run(progress=heard), traced=len(traces),
    )  # fmt: skip


def test_every_field_has_a_row_for_each_image_and_its_dtype(case):
    for name, dtype in FIELDS.items():
        value = getattr(case.result, name)
        assert value.dtype == dtype, name
        assert value.shape == (case.images.shape if name == "images" else (COUNT,)), name
    assert case.result.outputs == "logits"
    assert {field.name for field in dataclasses.fields(Attacked)} == {*FIELDS, "outputs"}


def test_images_are_within_the_bounds_and_in_the_ball_where_it_succeeds(case):
    result, perturbations = case.result, (case.result.images - case.images).reshape(COUNT, -1)
    assert result.images.min() >= 0
    assert result.images.max() <= 1
    distances = np.linalg.norm(perturbations, np.inf if case.threat.norm == "l_inf" else 2, axis=1)
    np.testing.assert_allclose(result.distance, distances, rtol=1e-5)
    assert distances[result.success].max() <= case.threat.epsilon + 1e-5
    assert distances[result.success].max() > 0.5 * case.threat.epsilon


def test_success_is_what_a_plain_pass_over_the_images_says(case):
    result = case.result
    predictions = classify(result.images).numpy().argmax(axis=1)
    wanted = predictions != case.labels
    if case.attack.outputs_per_class == 2:
        wanted &= np.take_along_axis(excess(result.images).numpy(), predictions[:, None], axis=1)[:, 0] <= 0
    np.testing.assert_array_equal(result.predictions, predictions)
    np.testing.assert_array_equal(result.clean_predictions, classify(case.images).numpy().argmax(axis=1))
    np.testing.assert_array_equal(result.success, wanted & (result.distance <= case.threat.epsilon + 1e-5))
    assert result.robust_accuracy == pytest.approx(1 - result.success.mean())


def test_what_was_wrong_from_the_start_comes_back_unchanged_after_one_query(case):
    result, wrong = case.result, np.arange(COUNT) % 8 == 0
    np.testing.assert_array_equal(result.wrong_when_clean, wrong)
    np.testing.assert_array_equal(result.images[wrong], case.images[wrong])
    assert result.success[wrong].all()
    np.testing.assert_array_equal(result.queries[wrong], 1)
    np.testing.assert_array_equal(result.gradients[wrong], 0)
    assert result.queries[~wrong].min() > 1
    assert np.all((result.gradients[~wrong] > 0) == (case.attack.knowledge == "gradients"))


def test_what_is_given_is_not_written_to(case):
    for part, before in zip((case.images, case.labels), case.given, strict=True):
        np.testing.assert_array_equal(part, before)


def test_progress_sums_to_images_times_work(case):
    assert sum(case.heard.units) == COUNT * case.attack.work
    assert min(case.heard.units) >= 0
    assert len(case.heard.units) > 3


def test_breaks_what_is_near_and_nothing_that_is_out_of_reach(case):
    """Against the distance to the nearest adversarial image of the box, which is known exactly."""
    result, epsilon = case.result, case.threat.epsilon
    clean = ~result.wrong_when_clean
    nearest = nearest_distances(case.images, case.labels, MATRIX, case.threat.norm)
    near, far = clean & (nearest < case.row.reach * epsilon), clean & (nearest > (1 + 1e-4) * epsilon)
    assert near.sum() > 2
    assert far.sum() > 6
    assert result.success[near].all()
    assert not result.success[far].any()
    if case.attack.minimises:
        assert np.all(result.predictions != case.labels)
        ratio = (result.distance / nearest)[clean]
        assert ratio.min() > 1 - 1e-3
        assert ratio.max() < 1.25


def test_an_image_gets_its_verdict_alone_and_in_any_company(case):
    check_parts(case.run, COUNT, (1, 3, INTERNAL_BATCH), atol=1e-5)


@pytest.mark.parametrize("case", ONE_OF_EACH_KIND, ids=lambda row: row.name, indirect=True)
def test_a_loop_that_xla_compiled_comes_to_the_same_verdicts(case):
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        found = case.run(model=Victim(classify, jit_compile=True))
    np.testing.assert_array_equal(found.success, case.result.success)
    np.testing.assert_allclose(found.images, case.result.images, atol=1e-5)


def test_the_model_is_traced_once_for_all_calls(case):
    assert case.traced < 20
    again = type(case.attack).from_config(case.attack.get_config())
    case.run(np.arange(1, 4), attack=again, seed=7)
    case.run(EVERY[::-2], attack=again)
    assert len(case.traces) == case.traced


def test_no_images_give_an_empty_result(case):
    heard = Heard()
    result = case.run(np.arange(0), progress=heard)
    for name, dtype in FIELDS.items():
        assert getattr(result, name).shape == ((0, 3, 4, 1) if name == "images" else (0,)), name
        assert getattr(result, name).dtype == dtype, name
    assert sum(heard.units) == 0


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_an_attack_comes_back_from_its_config(row):
    attack = row.attack
    config = json.loads(json.dumps(attack.get_config()))
    serialized = keras.saving.serialize_keras_object(attack)
    package = "tests" if isinstance(attack, ShortAutoAttack) else "erkeras"
    assert serialized["registered_name"] == f"{package}>{type(attack).__name__}"
    for again in (type(attack).from_config(config), keras.saving.deserialize_keras_object(serialized)):
        assert type(again) is type(attack)
        assert again == attack
        assert hash(again) == hash(attack)
        assert again.name == attack.name


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_an_attack_is_immutable_and_equals_no_other(row):
    with pytest.raises(dataclasses.FrozenInstanceError):
        row.attack.threat = ThreatModel()
    assert [other for other in ROWS if other.attack == row.attack] == [row]


def test_every_attack_of_the_package_has_a_row():
    kinds = {value for value in (getattr(attacks, name) for name in attacks.__all__) if isinstance(value, type)}
    kinds = {kind for kind in kinds if issubclass(kind, Attack) and kind is not Attack}
    assert kinds <= {kind for row in ROWS for kind in type(row.attack).__mro__}
    assert len(kinds) == 10


def attacked_of(images, success, queries):
    count = len(images)
    return Attacked(
        images=np.array(images, np.float32).reshape(count, 1, 1, 1),
        success=np.array(success),
        answered=np.ones(count, bool),
        unconfirmed=np.array(images) % 2 == 0,
        wrong_when_clean=np.zeros(count, bool),
        predictions=np.array(images, np.int32),
        clean_predictions=np.full(count, 9, np.int32),
        distance=np.array(images, np.float32),
        queries=np.array(queries, np.int64),
        gradients=2 * np.array(queries, np.int64),
        outputs="logits",
    )


def test_a_second_attack_replaces_what_was_found_and_adds_what_was_spent():
    first = attacked_of([1, 2, 3], [True, False, False], [10, 20, 30])
    both = first.followed_by(attacked_of([7, 8], [True, False], [1, 2]), np.array([2, 1]))
    assert both.images.ravel().tolist() == both.predictions.tolist() == both.distance.tolist() == [1, 8, 7]
    assert both.success.tolist() == [True, False, True]
    # What the second broke is no longer unconfirmed; what either has left open is.
    assert both.unconfirmed.tolist() == [False, True, False]
    assert both.queries.tolist() == [10, 22, 31]
    assert both.gradients.tolist() == [20, 44, 62]
    assert both.clean_predictions.tolist() == [9, 9, 9]
    assert both.outputs == "logits"
    assert (first.robust_accuracy, both.robust_accuracy) == (pytest.approx(2 / 3), pytest.approx(1 / 3))
    # The first is left as it was.
    assert first.images.ravel().tolist() == [1, 2, 3]
    assert first.queries.tolist() == [10, 20, 30]


def test_a_result_says_how_it_ended():
    assert repr(attacked_of([1, 2, 3], [True, False, False], [10, 20, 30])) == (
        "Attacked(3 images, clean 100.0%, robust 66.7%)"
    )
    assert repr(attacked_of([], np.zeros(0, bool), [])) == "Attacked(0 images)"
