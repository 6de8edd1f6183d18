"""Detectors by the names of the paper's tables."""

import subprocess
import sys

import numpy as np
import pytest
from helpers.detectors import model_of, three_classes

from erkeras.data import Split
from erkeras.detection import DETECTORS, ERDetector, KDDetector, LIDDetector, fit_named_detector

KINDS = {"kd": (KDDetector, "hidden"), "lid": (LIDDetector, "layers"), "er1": (ERDetector, "code"),
         "er2": (ERDetector, "combined")}  # fmt: skip


@pytest.fixture(scope="module")
def model():
    return model_of("e-cla")


@pytest.fixture(scope="module")
def train():
    images, labels, _ = three_classes()
    return Split((255 * images).round().astype(np.uint8), labels.astype(np.int32), np.arange(len(labels)))


def test_the_names_are_in_the_order_of_the_tables():
    assert DETECTORS == tuple(KINDS) == ("kd", "lid", "er1", "er2")


@pytest.mark.parametrize("name", DETECTORS)
def test_each_name_is_a_detector_that_is_fitted(model, train, name):
    kind, features = KINDS[name]
    detector = fit_named_detector(name, model, train, seed=3)
    assert type(detector) is kind
    assert (detector.features, detector.model, detector.regression) == (features, model, None)
    images = train.images[:5]
    expected = kind(model, features) if kind is ERDetector else kind(model)
    options = {} if name == "lid" else {"limit": None}
    expected.fit(train.pixels, train.labels, seed=3, **options)
    np.testing.assert_array_equal(detector.statistics(images), expected.statistics(images))


@pytest.mark.parametrize("name", ["kd", "er1", "er2"])
def test_a_density_stands_on_all_training_images(model, train, name):
    repeated = Split(np.tile(train.pixels, (9, 1, 1, 1)), np.tile(train.labels, 9), np.arange(3600))
    assert np.sum(fit_named_detector(name, model, repeated, seed=0).densities.counts) == 3600  # 1,200 of each class


def test_lid_draws_its_references_by_the_seed(model, train):
    first, again, other = (fit_named_detector("lid", model, train, seed).references for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_an_unknown_name_is_a_programmers_mistake(model, train):
    with pytest.raises(KeyError):
        fit_named_detector("mahalanobis", model, train, 0)


def test_the_names_need_no_tensorflow():
    program = (
        "import sys; sys.modules['tensorflow'] = sys.modules['keras'] = None\n"
        "from erkeras.detection import DETECTORS; print(*DETECTORS)"
    )
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert found.stdout.split() == list(DETECTORS), found.stderr
