"""Images and labels of every kind, for every detector: the right answer, or one sentence."""

import keras
import numpy as np
import pytest
from keras import layers

from erkeras.detection import ERDetector, KDDetector, LIDDetector
from erkeras.errors import InputError

KINDS = [ERDetector, KDDetector, LIDDetector]
SHAPE = (4, 4, 1)


@pytest.fixture(scope="module")
def data():
    random = np.random.RandomState(0)
    return random.rand(160, *SHAPE).astype(np.float32), np.arange(160) % 3


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(0)
    return keras.Sequential(
        [
            keras.Input(SHAPE),
            layers.Conv2D(3, 2, activation="relu"),
            layers.Flatten(),
            layers.Dense(5, "relu"),
            layers.Dense(3),
        ]
    )


@pytest.fixture(scope="module", params=KINDS)
def detector(request, model, data):
    images, labels = data
    return request.param(model).fit(images[:120], labels[:120]).calibrate(images[120:140], images[140:])


def test_one_image_and_none(detector, data):
    images = data[0]
    every, one, none = (detector.predict(images[:count]) for count in (5, 1, 0))
    np.testing.assert_allclose(one.score, every.score[:1], atol=1e-5)
    assert none.score.shape == none.verdict.shape == none.label.shape == (0,)
    assert none.probabilities.shape == (0, 3)
    assert detector.statistics(images[:0]).shape == (0, detector.statistics(images[:1]).shape[1])
    with pytest.raises(InputError, match="0 natural images"):
        detector.evaluate(images[:0], images[:5])


def test_a_small_overshoot_is_clipped(detector, data):
    images = data[0][:5].copy()
    images[:, 0, 0] = 1.004
    np.testing.assert_array_equal(detector.score(images), detector.score(np.clip(images, 0, 1)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda images: images * np.where(np.arange(4) == 1, np.nan, 1)[:, None], "not numbers"),
        (lambda images: images * 255, "divide the images by 255"),
        (lambda images: images - 1, r"scale the images as \(images \+ 1\) / 2"),
        (lambda images: images[0], r"shape \(4, 4, 1\): give \[n, height, width, channels\]"),
        (lambda images: images[:, :3], r"shape \(3, 3, 4, 1\) and the model takes \(n, 4, 4, 1\): resize"),
        (lambda images: np.repeat(images, 3, axis=-1), r"shape \(3, 4, 4, 3\)"),
        (lambda images: images[:0, :3], r"shape \(0, 3, 4, 1\)"),
    ],
)
def test_what_are_no_images_of_the_model_are_refused(detector, data, change, message):
    images, labels = data
    wrong = change(images[:3])
    for use in (
        lambda: detector.predict(wrong),
        lambda: detector.score(wrong),
        lambda: detector.statistics(wrong),
        lambda: detector.calibrate(images, wrong),
        lambda: detector.evaluate(wrong, images),
        lambda: type(detector)(detector.model).fit(wrong, labels[: len(wrong)]),
    ):
        with pytest.raises(InputError, match=message):
            use()


def test_labels_in_a_column_are_labels(model, data):
    images, labels = data
    expected, found = (ERDetector(model).fit(images, form).densities.centres for form in (labels, labels[:, None]))
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda labels: np.eye(3)[labels], r"labels have shape \(160, 3\): give one integer for each image"),
        (lambda labels: labels[:-1], "160 images and 159 labels: give one label"),
        (lambda labels: labels + 1, "labels go from 1 to 3, and the model has 3 classes: give labels from 0 to 2"),
        (lambda labels: labels - 1, "labels go from -1 to 1"),
        (lambda labels: labels / 2, "not whole"),
    ],
)
def test_other_labels_are_refused(kind, model, data, change, message):
    images, labels = data
    with pytest.raises(InputError, match=message):
        kind(model).fit(images, change(labels))
