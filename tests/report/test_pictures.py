"""Pictures of a report: pixels, amplification, sizes."""

import base64
import dataclasses
import io

import numpy as np
import pytest
from PIL import Image

from erkeras.report.pictures import drawn_by_training, galleries, png
from erkeras.report.sources import Measured, Reported
from helpers.golden import GOLDEN
from helpers.reports import THREAT, answers_of, examples_of, summary_of

MODEL = Reported(None, GOLDEN, ())


def pixels_of(data):
    kind, _, content = data.partition(",")
    assert kind == "data:image/png;base64"
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(content))))


def measured_of(examples, answers):
    summary = summary_of(examples, ("apgd-ce", "square"))
    return Measured("title", "digits", "test", 0, THREAT, summary, examples=examples, answers=answers)


@pytest.mark.parametrize(("channels", "shape"), [(1, (5, 4)), (2, (5, 4)), (3, (5, 4, 3)), (4, (5, 4, 3))])
def test_a_picture_has_the_pixels_of_its_image(channels, shape):
    image = np.random.RandomState(0).rand(5, 4, channels).astype(np.float32)
    found = pixels_of(png(image))
    assert found.shape == shape
    expected = image[..., 0] if channels < 3 else image[..., :3]
    np.testing.assert_array_equal(found, np.round(expected * 255))


def test_what_is_no_number_or_outside_is_drawn_all_the_same():
    np.testing.assert_array_equal(pixels_of(png(np.array([[[np.nan], [2.0], [-1.0], [0.5]]]))), [[0, 255, 0, 128]])


def test_a_large_image_is_made_smaller():
    assert pixels_of(png(np.zeros((512, 256, 3)))).shape == (128, 64, 3)
    assert pixels_of(png(np.zeros((2000, 1, 1)))).shape == (128, 1)


def test_perturbations_are_amplified_by_the_factor_that_is_said():
    examples, clean = examples_of()
    broken, nearest = galleries(MODEL, measured_of(examples, answers_of(examples, clean)), 10**6)
    assert (broken.broken, broken.of, len(broken.tiles)) == (True, 8, 8)
    assert (nearest.broken, nearest.of, len(nearest.tiles)) == (False, 51, 12)
    assert broken.factor == pytest.approx(2.5)  # 0.2 goes from grey to white
    tile = broken.tiles[0]
    row = tile.index - 1000
    first, second, third = (pixels_of(picture.data) for picture in tile.pictures)
    np.testing.assert_array_equal(first, np.round(clean[row, ..., 0] * 255))
    np.testing.assert_array_equal(third, np.round(examples.images[row, ..., 0] * 255))
    amplified = 0.5 + 2.5 * (examples.images[row] - clean[row])[..., 0]
    np.testing.assert_allclose(second, np.clip(amplified, 0, 1) * 255, atol=0.51)
    assert tile.pictures[1].words == f"Perturbation of image {tile.index}, times 2.5"


def test_a_tile_says_what_model_and_detector_say():
    examples, clean = examples_of(broken=(4,), later=(), wrong=())
    broken, nearest = galleries(MODEL, measured_of(examples, answers_of(examples, clean)), 10**6)
    (tile,) = broken.tiles
    assert (tile.label, tile.before, tile.after) == ("one", ("one", "let pass (-1.87)"), ("two", "found (+1.00)"))
    assert tile.wrong
    assert tile.facts == ("broken by apgd-ce", "l_inf 0.2", "margin 2.40, then -1.40")
    # Nearest to being broken is the smallest margin.
    assert [one.index for one in nearest.tiles[:4]] == [1000, 1001, 1002, 1003]
    assert not nearest.tiles[0].wrong


def test_without_answers_the_broken_images_are_shown_alone():
    examples, _ = examples_of()
    (broken,) = galleries(MODEL, measured_of(examples, None), 10**6)
    assert broken.factor is None
    assert {len(tile.pictures) for tile in broken.tiles} == {1}
    assert broken.tiles[0].before == ("two",) if broken.tiles[0].index == 1002 else ("one",)


def test_without_a_detector_nothing_is_said_of_one():
    examples, clean = examples_of()
    broken, _ = galleries(MODEL, measured_of(examples, answers_of(examples, clean, with_scores=False)), 10**6)
    assert all(len(tile.before) == len(tile.after) == 1 for tile in broken.tiles)
    assert not broken.scored


def test_pictures_keep_to_their_budget():
    examples, clean = examples_of()
    found = galleries(MODEL, measured_of(examples, answers_of(examples, clean)), 6000)
    sizes = [sum(len(picture.data) for tile in gallery.tiles for picture in tile.pictures) for gallery in found]
    assert all(0 < size <= 3000 for size in sizes)
    assert [gallery.of for gallery in found] == [8, 51]


def test_the_picture_that_training_drew_is_taken_where_the_card_lists_it(tmp_path):
    Image.new("L", (3, 2), 7).save(tmp_path / "attacked.png")
    listed = dataclasses.replace(GOLDEN, files={"attacked.png": "aa"})
    found = drawn_by_training(Reported(tmp_path, listed, ()))
    np.testing.assert_array_equal(pixels_of(found.data), np.full((2, 3), 7))
    assert drawn_by_training(Reported(tmp_path, GOLDEN, ())) is None
    (tmp_path / "attacked.png").write_bytes(bytes(300_001))
    assert drawn_by_training(Reported(tmp_path, listed, ())) is None
