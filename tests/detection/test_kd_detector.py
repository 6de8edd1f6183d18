"""KD-Detection against a slow reference in NumPy."""

import numpy as np
import pytest
from helpers.detectors import model_of, outputs_of_layers, three_classes

from erkeras.detection import KDDetector
from erkeras.errors import InputError


@pytest.fixture(scope="module", params=["none", "e-cla"])
def model(request):
    return model_of(request.param)


@pytest.fixture(scope="module")
def data():
    return three_classes()


def test_kd_is_the_density_of_the_last_hidden_layer_at_the_predicted_class(model, data):
    images, labels, odd = data
    detector = KDDetector(model).fit(images[:300], labels[:300])
    queries = np.concatenate([images[300:340], odd[:20]])
    of_training, of_queries = (
        outputs_of_layers(model, part)[-2].astype(np.float64) for part in (images[:300], queries)
    )
    assert of_training.min() == 0  # after its ReLU
    bandwidth = detector.densities.bandwidth[0]
    size = of_training.shape[1]
    predicted = np.asarray(model(queries)).argmax(axis=1)
    expected = []
    for query, label in zip(of_queries, predicted, strict=True):
        centres = of_training[labels[:300] == label]
        kernels = -((query - centres) ** 2).sum(axis=1) / (2 * bandwidth**2)
        expected.append(np.logaddexp.reduce(kernels) - np.log(len(centres)))
    expected = np.array(expected) - size * np.log(bandwidth * np.sqrt(2 * np.pi))
    np.testing.assert_allclose(detector.log_density(queries), expected, rtol=1e-4)


def test_it_does_not_scale_what_it_looks_at(model, data):
    images, labels, _ = data
    detector = KDDetector(model).fit(images[:300], labels[:300])
    assert not detector.mean.any()
    assert (detector.scale == 1).all()
    assert detector.features == "hidden"


def test_the_densities_stand_on_at_most_so_many_images_of_each_class(model, data):
    images, labels, _ = data
    few = KDDetector(model).fit(images, labels, limit=20, seed=1)
    np.testing.assert_array_equal(few.densities.counts, [20, 20, 20])
    again, other = (KDDetector(model).fit(images, labels, limit=20, seed=seed) for seed in (1, 2))
    np.testing.assert_array_equal(again.densities.centres, few.densities.centres)
    assert not np.array_equal(other.densities.centres, few.densities.centres)
    everything = KDDetector(model).fit(images, labels, limit=None)
    assert sum(everything.densities.counts) == 400


def test_a_class_of_one_image_is_refused(model, data):
    images, labels, _ = data
    with pytest.raises(InputError, match="class"):
        KDDetector(model).fit(images[:300], np.where(labels[:300] == 2, 1, labels[:300]))
