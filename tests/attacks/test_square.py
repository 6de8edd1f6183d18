import numpy as np
import pytest
import tensorflow as tf

from erkeras import randomness
from erkeras.attacks import Square, Victim
from erkeras.errors import InputError
from erkeras.threat import ThreatModel
from helpers.attempts import trace
from helpers.closed_forms import images_at, leads, linear_model, two_layers, uniform, unmoved

SHAPES = [(1, 8, 8, 1), (3, 5, 7, 3), (8, 3, 1, 2)]
NORMS = ["l_inf", "l2"]
EPSILON = {"l_inf": 0.1, "l2": 0.4}


def points_of(model, shape):
    images = uniform(shape, seed=2)
    images[:, 0] = images[:, 0].round()
    return images, model(tf.constant(images)).numpy().argmax(axis=1)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("shape", SHAPES)
def test_candidates_stay_in_the_ball_and_the_lead_never_rises(norm, shape):
    model = two_layers(shape[1:])
    images, labels = points_of(model, shape)
    attack = Square(ThreatModel(norm, EPSILON[norm]), queries=300)
    candidates, states = trace(attack, model, images, labels, 60)
    for candidate in candidates:
        assert candidate.min() >= 0
        assert candidate.max() <= 1
        assert np.max(attack.threat.distance(candidate, images)) <= EPSILON[norm] + 1e-6
    before = np.full(len(images), np.inf)
    kept = 0
    for candidate, state in zip(candidates, states, strict=True):
        lead = leads(model, state["found"], labels)
        np.testing.assert_allclose(lead, -state["loss"], atol=1e-5)
        moved = np.any(state["found"] == candidate, axis=(1, 2, 3)) & (lead < before - 1e-6)
        kept += moved.sum()
        assert np.all((lead <= before + 1e-6) | (lead <= 0))
        before = lead
    assert kept > len(images)


def test_starts_at_vertical_stripes():
    images = uniform((4, 6, 9, 3), 0.3, 0.7)
    attack = Square(ThreatModel("l_inf", 0.1))
    (start,), _ = trace(attack, unmoved, images, np.zeros(4, int), 1)
    signs = (start - images) / 0.1
    np.testing.assert_allclose(np.abs(signs), 1, atol=1e-5)
    np.testing.assert_allclose(signs, np.broadcast_to(signs[:, :1], signs.shape), atol=1e-5)
    assert len(np.unique(signs[:, 0].round().reshape(4, -1), axis=0)) == 4
    assert -0.5 < signs.mean() < 0.5


@pytest.mark.parametrize("shape", [(6, 9, 12, 1), (6, 9, 12, 3)])
def test_proposals_set_squares_of_the_side_of_their_query(shape):
    images = uniform(shape, seed=3)
    attack = Square(ThreatModel("l_inf", 0.1), queries=400, initial_fraction=0.3)
    sides = attack.sides(9, 12)
    candidates, states = trace(attack, unmoved, images, np.zeros(6, int), 250)
    low, high = np.maximum(images - np.float32(0.1), 0), np.minimum(images + np.float32(0.1), 1)
    queries = np.array([state["query"] for state in states])
    corners = set()
    for number in range(1, 250):
        for row in range(6):
            # The verdict is always no: the best is the start.
            changed = candidates[number][row] != candidates[0][row]
            # The last of the queries that this step has done; a pass in vain ends a row of four.
            side = sides[queries[number, row] - 2]
            rows, columns = (np.flatnonzero(changed.any(axis=axes)) for axes in ((1, 2), (0, 2)))
            if not rows.size:
                assert queries[number, row] - queries[number - 1, row] in (4, 400 - queries[number - 1, row])
                continue
            assert np.ptp(rows) < side
            assert np.ptp(columns) < side
            corners.add((rows[0], columns[0]))
            corners.add((rows[-1], columns[-1]))
            for channel in np.flatnonzero(changed.any(axis=(0, 1))):
                where = changed[..., channel]
                values = candidates[number][row][where, channel]
                ends = low[row][where, channel], high[row][where, channel]
                assert np.all(values == ends[0]) or np.all(values == ends[1])
    assert queries.max() > 250
    assert {(0, 0), (8, 11)} <= corners


def square_slowly(attack, model, image, label, seed, index):
    """Square for one image, query by query, a pass for every proposal."""
    height, width, channels = image.shape
    key = randomness.row_keys(tf.constant([[seed, index]], tf.int64))
    low, high = (np.clip(image + np.float32(sign * attack.threat.epsilon), 0, 1) for sign in (-1, 1))
    stripes = randomness.uniform(randomness.fold_in(key, 0), [width, channels]).numpy()[0] < 0.5
    best = np.where(stripes, low, high)
    lead, passes = leads(model, best[None], label[None])[0], 1
    draws = randomness.uniform(
        randomness.fold_in(randomness.fold_in(key, 1), tf.range(attack.queries)), [2 + channels]
    ).numpy()
    for query in range(1, attack.queries):
        if lead <= 0:
            break
        drawn = draws[query]
        fraction = attack.initial_fraction
        for border in (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000):
            fraction /= 2 if query - 1 > border else 1
        side = min(max(round((fraction * height * width) ** 0.5), 1), height, width)
        top, left = int(drawn[0] * (height - side + 1)), int(drawn[1] * (width - side + 1))
        part = slice(top, top + side), slice(left, left + side)
        proposal = best.copy()
        proposal[part] = np.where(drawn[2:] < 0.5, low[part], high[part])
        passes += not np.array_equal(proposal, best)
        new = leads(model, proposal[None], label[None])[0]
        if new < lead or new <= 0:
            best, lead = proposal, new
    return best, lead, passes


@pytest.mark.parametrize("shape", SHAPES)
def test_passes_that_are_left_out_change_nothing(shape):
    model = two_layers(shape[1:])
    images, labels = points_of(model, shape)
    attack = Square(ThreatModel("l_inf", 0.03), queries=240)
    result = attack(model, images, labels, seed=3, indices=np.arange(len(images)) + 5)
    model = tf.function(model, autograph=False)
    for row in range(min(len(images), 4)):
        best, lead, passes = square_slowly(attack, model, images[row], labels[row], 3, row + 5)
        np.testing.assert_array_equal(result.images[row], best)
        assert result.success[row] == (lead <= 0)
        # Four proposals in a row that change nothing cost a pass.
        assert passes <= result.queries[row] - 1 <= max(passes, 1.1 * passes + 2)
    assert result.queries.max() < 241


@pytest.mark.parametrize("queries", [1, 2, 4])
def test_the_first_and_the_last_query_count(queries):
    model = two_layers((4, 4, 1))
    images = uniform((30, 4, 4, 1), seed=2)
    images[::2] = 1.0  # what the first proposals set to +epsilon is there before the start
    labels = model(tf.constant(images)).numpy().argmax(axis=1)
    attack = Square(ThreatModel("l_inf", 0.01), queries=queries, initial_fraction=0.05)
    result = attack(model, images, labels, seed=3)
    model = tf.function(model, autograph=False)
    for row in range(30):
        best, _, _ = square_slowly(attack, model, images[row], labels[row], 3, row)
        np.testing.assert_array_equal(result.images[row], best)


SIDES = {(28, 28): [25, 18, 13, 9, 6, 4, 3, 2, 2, 1], (32, 24): [24, 18, 12, 9, 6, 4, 3, 2, 2, 1]}


@pytest.mark.parametrize("shape", SIDES)
def test_side_schedule_is_the_original_s(shape):
    sides = Square(queries=10000).sides(*shape)
    assert len(sides) == 10000
    first = [0, 11, 51, 201, 501, 1001, 2001, 4001, 6001, 8001]
    for expected, begin, end in zip(SIDES[shape], first, [*first[1:], 10000], strict=True):
        np.testing.assert_array_equal(sides[begin:end], expected)
    # Fewer queries do not rescale it.
    np.testing.assert_array_equal(Square(queries=300).sides(*shape), sides[:300])


@pytest.mark.parametrize("norm", NORMS)
def test_succeeds_at_once_where_every_point_is_adversarial_and_never_where_none_is(norm):
    images, labels = uniform((9, 5, 5, 2)), np.zeros(9, int)
    threat = ThreatModel(norm, EPSILON[norm])

    def wrong_off_the_images(batch):
        there = tf.reduce_any(tf.reduce_all(tf.abs(batch[:, None] - images) < 1e-6, axis=[2, 3, 4]), axis=1)
        return tf.where(there[:, None], [[1.0, 0.0]], [[0.0, 1.0]])

    everywhere = Square(threat, queries=50)(wrong_off_the_images, images, labels, internal_batch=4)
    assert everywhere.success.all()
    np.testing.assert_array_equal(everywhere.queries, 2)
    nowhere = Square(threat, queries=50)(unmoved, images, labels, internal_batch=4)
    assert not nowhere.success.any()
    assert nowhere.queries.max() <= 51


@pytest.mark.parametrize(("norm", "possible_at"), [("l_inf", 0.98), ("l2", 0.45)])
def test_succeeds_on_a_linear_model_with_margin_and_never_beyond(norm, possible_at):
    matrix = np.random.default_rng(5).normal(size=(12, 2))
    epsilon = {"l_inf": 0.1, "l2": 0.3}[norm]
    attack = Square(ThreatModel(norm, epsilon, -1.0, 2.0), queries=1000)
    for ratio, possible in ((possible_at, True), (1.02, False)):
        images, labels = images_at(ratio * epsilon, 12, matrix, norm)
        result = attack(linear_model(30 * matrix), images, labels, internal_batch=12)
        np.testing.assert_array_equal(result.clean_predictions, labels)
        np.testing.assert_array_equal(result.success, possible)


def counted(model, passes):
    def counting(images):
        passes.assign_add(1)
        return model(images)

    return Victim(counting)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize(("queries", "restarts"), [(1, 1), (30, 1), (30, 3)])
def test_queries_are_the_forward_passes_run(norm, queries, restarts):
    images, passes = uniform((1, 4, 4, 1)), tf.Variable(0)
    attack = Square(ThreatModel(norm, 0.1), queries=queries, restarts=restarts, initial_fraction=0.05)
    result = attack(counted(unmoved, passes), images, np.zeros(1, int), internal_batch=1)
    # One pass more tells what the outputs are, two look at the model, and one confirms what was found.
    assert result.queries[0] == passes.numpy() - 4
    most = 1 + queries * restarts
    if norm == "l2" or queries == 1:
        assert result.queries[0] == most
    else:  # half of the squares of one pixel change nothing
        assert 0.3 * most < result.queries[0] < 0.8 * most
    assert result.gradients[0] == 0


@pytest.mark.parametrize("norm", NORMS)
def test_another_seed_or_index_starts_elsewhere(norm):
    images = uniform((6, 8, 8, 1))
    attack = Square(ThreatModel(norm, EPSILON[norm]), queries=1)

    def start(seed=0, indices=None):
        return attack(unmoved, images, np.zeros(6), seed=seed, indices=indices).images

    np.testing.assert_array_equal(start(), start(indices=np.arange(6)))
    assert not np.allclose(start(), start(seed=1))
    assert not np.allclose(start(), start(indices=np.arange(6) + 1))


@pytest.mark.parametrize("norm", NORMS)
def test_logits_times_a_thousand_change_nothing(norm):
    model = two_layers((5, 5, 1))
    images, labels = points_of(model, (30, 5, 5, 1))
    attack = Square(ThreatModel(norm, EPSILON[norm] / 2), queries=60)
    once = attack(model, images, labels)
    steep = attack(lambda images: 1024 * model(images), images, labels)
    np.testing.assert_array_equal(once.success, steep.success)
    assert 2 < once.success.sum() < 28


def test_a_model_of_labels_is_refused():
    with pytest.raises(InputError, match="rays"):
        Square(queries=2)(lambda images: tf.zeros(tf.shape(images)[0], tf.int32), uniform((2, 2, 2, 1)), [0, 0])


@pytest.mark.parametrize(
    ("settings", "given"),
    [({"queries": 0}, "queries is 0"), ({"restarts": 0}, "restarts is 0"), ({"initial_fraction": 0.0}, "0.0"),
     ({"initial_fraction": 1.5}, "1.5"), ({"initial_fraction": float("nan")}, "nan")],
)  # fmt: skip
def test_impossible_settings_are_refused(settings, given):
    with pytest.raises(InputError, match=given):
        Square(**settings)
