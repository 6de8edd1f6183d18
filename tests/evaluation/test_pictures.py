"""Each picture is a PNG file, and what it is to show can be found in it."""

import numpy as np
import pytest
from PIL import Image

from erkeras.evaluation import draw_curves, draw_embedding, draw_gallery, draw_scores, draw_verdicts
from erkeras.evaluation.pictures import BAD, GOOD

GREEN, RED, GREY = GOOD, BAD, "#888888"
RANDOM = np.random.RandomState(0)


def opened(path):
    """The pixels of a PNG file that is not blank."""
    assert path.read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    with Image.open(path) as image:
        pixels = np.asarray(image.convert("RGB")).astype(int)
    assert pixels.std() > 10
    return pixels


def count(pixels, colour, tolerance=8):
    """How many pixels have a colour, given as #rrggbb."""
    wanted = [int(colour[place : place + 2], 16) for place in (1, 3, 5)]
    return int((np.abs(pixels - wanted).max(axis=-1) <= tolerance).sum())


def blend(colour, alpha=0.5):
    """A colour upon white."""
    parts = [int(colour[place : place + 2], 16) for place in (1, 3, 5)]
    return "#" + "".join(f"{round(alpha * part + (1 - alpha) * 255):02x}" for part in parts)


def images_of(channels, count=3):
    return RANDOM.rand(count, 8, 8, channels).astype(np.float32)


@pytest.mark.parametrize("channels", [1, 3])
def test_verdicts_have_a_column_for_each_image(tmp_path, channels):
    images = images_of(channels)
    captions = [("4\nnatural", True, "9\nadversarial", True)] * 3
    draw_verdicts(tmp_path / "three.png", images, images, captions, "title")
    draw_verdicts(tmp_path / "one.png", images[:1], images[:1], captions[:1])
    assert opened(tmp_path / "three.png").shape[1] == 3 * opened(tmp_path / "one.png").shape[1]


def test_verdicts_are_green_where_they_are_good_and_red_where_not(tmp_path):
    images = images_of(1, 1)
    found = {}
    for name, flags in {"good": (True, True), "bad": (False, False), "mixed": (True, False)}.items():
        path = tmp_path / f"{name}.png"
        draw_verdicts(path, images, images, [("eight", flags[0], "eight", flags[1])])
        pixels = opened(path)
        found[name] = (count(pixels, GREEN) > 0, count(pixels, RED) > 0)
    assert found == {"good": (True, False), "bad": (False, True), "mixed": (True, True)}


def test_verdicts_show_the_clean_image_above_the_attacked_one(tmp_path):
    """Grey images are drawn as ink: 1 is black."""
    black, white = np.ones((1, 8, 8, 1), np.float32), np.zeros((1, 8, 8, 1), np.float32)
    for name, pair in {"above": (black, white), "below": (white, black)}.items():
        draw_verdicts(tmp_path / f"{name}.png", *pair, [("", True, "", True)])
    halves = [np.array_split(opened(tmp_path / f"{name}.png"), 2) for name in ("above", "below")]
    ink = [[(half < 40).all(axis=-1).sum() for half in pair] for pair in halves]
    assert ink[0][0] > 5 * ink[0][1]
    assert ink[1][1] > 5 * ink[1][0]


@pytest.mark.parametrize("channels", [1, 3])
def test_a_gallery_has_a_column_for_each_image(tmp_path, channels):
    clean = images_of(channels)
    attacked = np.clip(clean + 0.1 * np.sign(RANDOM.randn(*clean.shape)), 0, 1).astype(np.float32)
    draw_gallery(tmp_path / "three.png", clean, attacked, [("a", "b")] * 3, "title")
    draw_gallery(tmp_path / "one.png", clean[:1], attacked[:1], [("a", "b")])
    three, one = opened(tmp_path / "three.png"), opened(tmp_path / "one.png")
    assert three.shape[1] - one.shape[1] == 2 * 150  # 1.25 inches of 120 dots each
    assert count(three, RED) > count(one, RED) > 0  # what the adversarial images are taken for


def test_a_gallery_shows_where_pixels_rise_and_where_they_fall(tmp_path):
    clean = np.full((1, 8, 8, 1), 0.5, np.float32)
    for name, change in {"up": 0.2, "down": -0.2, "none": 0.0}.items():
        draw_gallery(tmp_path / f"{name}.png", clean, clean + np.float32(change), [("a", "a")])
    middle = {
        name: np.array_split(opened(tmp_path / f"{name}.png"), 3)[1].mean(axis=(0, 1))
        for name in ("up", "down", "none")
    }
    assert middle["up"][0] > middle["up"][2] + 20  # red
    assert middle["down"][2] > middle["down"][0] + 20  # blue
    assert np.ptp(middle["none"]) < 3  # neither


def test_curves_have_a_line_for_each_name(tmp_path):
    epsilons = [0.0, 0.1, 0.2]
    draw_curves(tmp_path / "two.png", epsilons, {"one": [1, 0.5, 0.2], "other": [0.9, 0.8, 0.1]}, "title", "l2")
    draw_curves(tmp_path / "one.png", epsilons, {"one": [1, 0.5, 0.2]})
    first, second = "#1f77b4", "#ff7f0e"  # matplotlib's own
    two, one = opened(tmp_path / "two.png"), opened(tmp_path / "one.png")
    assert count(two, first) > 100
    assert count(two, second) > 100
    assert count(one, first) > 100
    assert count(one, second) == 0


def test_a_curve_falls_from_left_to_right(tmp_path):
    draw_curves(tmp_path / "curve.png", [0.0, 0.5, 1.0], {"one": [1.0, 0.5, 0.0]})
    pixels = opened(tmp_path / "curve.png")
    rows, columns = np.nonzero(np.abs(pixels - [0x1F, 0x77, 0xB4]).max(axis=-1) <= 8)
    left, right = np.quantile(columns, [0.25, 0.75])
    assert rows[columns <= left].mean() < rows[columns >= right].mean() - 50


PANEL = {
    "natural": RANDOM.normal(-3, 1, 200),
    "failed": RANDOM.normal(0, 1, 100),
    "successful": RANDOM.normal(3, 1, 100),
    "threshold": 0.5,
}


def test_scores_show_each_kind_that_there_is(tmp_path):
    def counts(**changes):
        draw_scores(tmp_path / "scores.png", {"ER1": {**PANEL, **changes}})
        pixels = opened(tmp_path / "scores.png")
        return [count(pixels, blend(colour), 2) for colour in (GREEN, GREY, RED)]

    everything = counts()
    for place, kind in enumerate(("natural", "failed", "successful")):
        without = counts(**{kind: np.zeros(0)})
        assert everything[place] > 1000
        assert without[place] < everything[place] / 10  # the edges of letters are grey too


def test_scores_have_a_panel_for_each_detector(tmp_path):
    draw_scores(tmp_path / "two.png", {"ER1": PANEL, "LID": PANEL}, "title")
    draw_scores(tmp_path / "one.png", {"ER1": PANEL})
    two, one = (opened(tmp_path / f"{name}.png").shape[0] for name in ("two", "one"))
    assert two - one == pytest.approx(2.1 * 120, abs=1)


@pytest.mark.parametrize("value", [0.0, 7.0])
def test_scores_that_are_all_the_same_are_drawn(tmp_path, value):
    same = np.full(20, value)
    draw_scores(tmp_path / "s.png", {"ER1": {"natural": same, "failed": same, "successful": same, "threshold": value}})
    opened(tmp_path / "s.png")


def test_one_score_far_away_leaves_the_others_their_bars(tmp_path):
    far = {**PANEL, "successful": np.append(PANEL["successful"], 1e6)}
    draw_scores(tmp_path / "far.png", {"ER1": far})
    draw_scores(tmp_path / "near.png", {"ER1": PANEL})
    far, near = (count(opened(tmp_path / f"{name}.png"), blend(GREEN)) for name in ("far", "near"))
    assert far == pytest.approx(near, rel=0.2)


def test_an_embedding_has_a_colour_for_each_class(tmp_path):
    labels = np.arange(60) % 3
    points = RANDOM.normal(size=(60, 2)) + 10 * labels[:, None]
    wrong = np.zeros(60, bool)
    draw_embedding(tmp_path / "e.png", points, points + 0.1, labels, wrong, ("a", "b", "c"), "title")
    pixels = opened(tmp_path / "e.png")
    counts = [count(pixels, colour) for colour in ("#1f77b4", "#ff7f0e", "#2ca02c", "#d62728")]
    assert min(counts[:3]) > 50
    assert counts[3] == 0  # of a class that there is none of


def test_an_embedding_shows_what_is_misclassified(tmp_path):
    points = RANDOM.normal(size=(40, 2))
    labels = np.zeros(40, int)
    for name, wrong in {"right": np.zeros(40, bool), "wrong": np.ones(40, bool)}.items():
        draw_embedding(tmp_path / f"{name}.png", points, points, labels, wrong, ("a",), "")
    assert not np.array_equal(opened(tmp_path / "right.png"), opened(tmp_path / "wrong.png"))


def test_the_same_picture_is_drawn_again(tmp_path):
    for name in ("first", "second"):
        draw_scores(tmp_path / f"{name}.png", {"ER1": PANEL}, "title")
    assert np.array_equal(opened(tmp_path / "first.png"), opened(tmp_path / "second.png"))
