"""Whose detector it is: a digest of the model's weights."""

import keras
import numpy as np
import pytest
from keras import layers

from erkeras.detection import ERDetector, KDDetector, LIDDetector
from erkeras.errors import InputError
from erkeras.serving import export_saved_model

KINDS = [ERDetector, KDDetector, LIDDetector]


@pytest.fixture
def data():
    random = np.random.RandomState(0)
    return random.rand(160, 4, 4, 1).astype(np.float32), np.arange(160) % 3


def plain():
    hidden = [layers.Dense(6, "relu"), layers.Dense(5, "relu")]
    return keras.Sequential([keras.Input((4, 4, 1)), layers.Flatten(), *hidden, layers.Dense(3)])


def fitted(kind, model, data):
    images, labels = data
    return kind(model).fit(images[:120], labels[:120]).calibrate(images[120:140], images[140:])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("make", ["tiny_model", "plain"])
def test_a_detector_of_another_model_of_the_same_shape_is_refused(kind, make, data, tmp_path, request):
    build = plain if make == "plain" else request.getfixturevalue("tiny_model")
    keras.utils.set_random_seed(1)
    model = build()
    fitted(kind, model, data).save(tmp_path / "detector.npz")
    kind.load(tmp_path / "detector.npz", model)
    keras.utils.set_random_seed(2)
    other = build() if make == "plain" else build(initial=2)
    with pytest.raises(InputError, match=r"other weights than this one's: give the detector that was fitted on this"):
        kind.load(tmp_path / "detector.npz", other)
    other.set_weights(model.get_weights())
    kind.load(tmp_path / "detector.npz", other)  # the same weights are the same model


def test_two_identical_trainings_are_one_model_and_a_step_makes_another(data, tiny_model, tmp_path):
    images, labels = data
    digests = []
    for epochs in (1, 1, 2):
        model = tiny_model()
        model.fit(images, labels, epochs=epochs, shuffle=False, verbose=0)
        digests.append(fitted(ERDetector, model, data).network.digest())
    assert digests[0] == digests[1] != digests[2]
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert ERDetector(loaded).network.digest() == digests[2]
    assert ERDetector(loaded.without_training_state()).network.digest() == digests[2]


def test_a_file_without_a_digest_is_taken_where_it_fits(data, tiny_model, tmp_path):
    model = tiny_model()
    detector = fitted(ERDetector, model, data)
    detector.save(tmp_path / "detector.npz")
    with np.load(tmp_path / "detector.npz") as arrays:
        old = {name: arrays[name] for name in arrays.files if name not in ("model", "code_layer", "image_shape")}
    assert len(old) == len(arrays.files) - 3
    np.savez(tmp_path / "old.npz", **old)
    loaded = ERDetector.load(tmp_path / "old.npz", model)
    np.testing.assert_array_equal(loaded.score(data[0]), detector.score(data[0]))
    loaded.save(tmp_path / "new.npz")
    ERDetector.load(tmp_path / "new.npz", model)


def test_weights_that_changed_since_fit_are_noticed(data, tmp_path):
    model = plain()
    detector = fitted(ERDetector, model, data)
    model.layers[-1].bias.assign_add([1.0, 0.0, 0.0])
    for use in (
        lambda: detector.calibrate(data[0][120:140], data[0][140:]),
        lambda: detector.save(tmp_path / "detector.npz"),
        lambda: export_saved_model(detector, tmp_path / "1"),
    ):
        with pytest.raises(InputError, match="weights have changed since the detector was fitted: fit and calibrate"):
            use()
    assert not list(tmp_path.iterdir())
    fitted(ERDetector, model, data).save(tmp_path / "detector.npz")
