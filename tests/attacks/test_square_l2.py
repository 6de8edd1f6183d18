"""Square in l2: windows, profiles and the mass that moves between them."""

import numpy as np
import pytest
import tensorflow as tf
from helpers.attempts import asked, batch_of, first_state, trace
from helpers.closed_forms import two_layers, uniform, unmoved

from erkeras import randomness
from erkeras.attacks import Square
from erkeras.threat import ThreatModel

SHAPES = [(1, 8, 8, 1), (3, 5, 7, 3), (8, 3, 1, 2)]


def points_of(model, shape):
    images = uniform(shape, seed=2)
    images[:, 0] = images[:, 0].round()
    return images, model(tf.constant(images)).numpy().argmax(axis=1)


def test_sides_of_windows_are_odd_and_3_or_more_where_the_image_is():
    threat = ThreatModel("l2", 1.0)
    sides = Square(threat, queries=10000).sides(28, 28)
    np.testing.assert_array_equal(sides[[0, 11, 51, 201, 501, 1001, 2001, 9999]], [25, 19, 13, 9, 7, 5, 3, 3])
    assert Square(threat).sides(2, 7).max() == 2


def profile_slowly(side):
    """Section 3.3: the sum of 1 / (n + 1 - k)^2 over the rings around a half's middle, scaled to length 1."""
    profile = np.zeros((side, side))
    for begin, end, sign in ((0, side // 2, 1), (side // 2, side, -1)):
        half = np.zeros((end - begin, side))
        most = max(end - begin, side) // 2
        for row in range(end - begin):
            for column in range(side):
                ring = max(abs(row - (end - begin) // 2), abs(column - side // 2))
                half[row, column] = sum(1 / (k + 1) ** 2 for k in range(ring, most + 1))
        profile[begin:end] = sign * half / max(np.linalg.norm(half), 1e-9)
    return profile / np.linalg.norm(profile)


def proposals_of(attack, images, found, query):
    """What is asked at a query, of images whose best so far is `found`; and what it is drawn from."""
    batch = batch_of(images, np.zeros(len(images)), unmoved)
    state = first_state(attack, batch) | {"found": tf.constant(found), "step": tf.fill([len(images)], query)}
    candidates, _ = asked(attack, unmoved, batch, state)
    drawn = randomness.uniform(randomness.fold_in(state["key"], query), [5 + images.shape[3]])
    return candidates.numpy(), drawn.numpy()


@pytest.mark.parametrize("side", [1, 2, 3, 5, 9])
def test_profile_is_two_mounds_of_opposite_signs_lying_or_standing(side):
    """Of a window that is all of the image, where nothing has moved yet."""
    images = np.full((12, side, side, 1), 0.5, np.float32)
    attack = Square(ThreatModel("l2", 2.0, -9.0, 9.0), initial_fraction=1.0)
    proposals, _ = proposals_of(attack, images, images, 1)
    profile = profile_slowly(side)
    forms = [sign * form for sign in (1, -1) for form in (profile, profile.T)]
    moves = (proposals - images)[..., 0] / 2
    nearest = [int(np.argmin([np.abs(move - form).max() for form in forms])) for move in moves]
    for move, number in zip(moves, nearest, strict=True):
        np.testing.assert_allclose(move, forms[number], atol=1e-6)
    assert len(set(nearest)) == (2 if side == 1 else 4)


@pytest.mark.parametrize("shape", SHAPES)
def test_l2_keeps_its_length_where_no_pixel_is_clipped(shape):
    model = two_layers(shape[1:])
    images, labels = points_of(model, shape)
    attack = Square(ThreatModel("l2", 0.4, -9.0, 9.0), queries=100)
    candidates, _ = trace(attack, model, images, labels, 80)
    for candidate in candidates:
        np.testing.assert_allclose(attack.threat.distance(candidate, images), 0.4, rtol=1e-4)


def test_l2_moves_mass_from_one_window_to_another():
    images = np.zeros((20, 16, 16, 2), np.float32)
    attack = Square(ThreatModel("l2", 1.0, -9.0, 9.0), queries=10000)
    _, states = trace(attack, unmoved, images, np.zeros(20, int), 1)
    start = states[0]["found"]
    for query in (11, 60, 300, 700, 5000):
        side = attack.sides(16, 16)[query - 1]
        moved, _ = proposals_of(attack, images, start, query)
        changed = np.abs(moved - start).max(axis=3) > 1e-6
        emptied = np.abs(moved).max(axis=3) < 1e-9
        for row in range(20):
            filled = changed[row] & ~emptied[row]
            for part in (filled, emptied[row] & changed[row]):
                rows, columns = (np.flatnonzero(part.any(axis=axis)) for axis in (1, 0))
                assert not rows.size or max(np.ptp(rows), np.ptp(columns)) < side
            assert filled.sum() > side**2 / 2
        # By channel, both windows' mass is in the first.
        mass = [np.sum(image**2, axis=(1, 2)) for image in (start, moved)]
        np.testing.assert_allclose(mass[0], mass[1], rtol=1e-3)


def moved_slowly(attack, image, best, query, drawn):
    """One l2 proposal, window by window and channel by channel (Algorithm 3)."""
    height, width, channels = image.shape
    epsilon, change = attack.threat.epsilon, (best - image).astype(np.float64)
    side = attack.sides(height, width)[query - 1]
    (top, left, other_top, other_left), lying = (
        [
            int(number * max(limit - side + (query % 4 == 0), 1))
            for number, limit in zip(drawn, [height, width] * 2, strict=False)
        ],
        drawn[4] < 0.5,
    )
    profile = profile_slowly(side).T if lying else profile_slowly(side)
    windows = np.zeros((height, width), bool)
    windows[top : top + side, left : left + side] = True
    windows[other_top : other_top + side, other_left : other_left + side] = True
    moved = np.where(windows[..., None], 0, change)
    unused = max(epsilon**2 - np.sum(change**2), 0) / channels
    for channel in range(channels):
        window = change[top : top + side, left : left + side, channel]
        new = profile * (-1 if drawn[5 + channel] < 0.5 else 1) + window / (np.linalg.norm(window) + 1e-12)
        mass = np.sum(change[windows, channel] ** 2) + unused
        moved[top : top + side, left : left + side, channel] = new / np.linalg.norm(new) * np.sqrt(mass)
    return np.clip(image + epsilon * moved / np.linalg.norm(moved), attack.threat.lower, attack.threat.upper)


@pytest.mark.parametrize("shape", [(12, 16, 16, 1), (12, 9, 13, 3)])
def test_l2_proposals_are_those_of_a_plain_rendering(shape):
    images, attack = uniform(shape, seed=4), Square(ThreatModel("l2", 1.0), queries=5000)
    _, states = trace(attack, unmoved, images, np.zeros(12, int), 3)
    # Not on the grid any more, and shorter than epsilon: pixels were clipped.
    best = np.clip(states[0]["found"] + 0.05 * np.random.default_rng(0).normal(size=shape), 0, 1).astype(np.float32)
    best = np.asarray(images + (best - images) * 0.7)
    for query in (1, 12, 60, 300, 700, 5000):
        proposals, drawn = proposals_of(attack, images, best, query)
        expected = [moved_slowly(attack, images[row], best[row], query, drawn[row]) for row in range(12)]
        # The profile's weight is larger by a thousandth.
        np.testing.assert_allclose(proposals, expected, atol=1e-3)
        assert np.abs(proposals - best).max() > 0.05
