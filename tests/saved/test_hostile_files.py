"""Files from strangers: nothing that they hold is run. A SavedModel is a program, and no test can make it less."""

import json
import pickle
import zipfile

import keras
import numpy as np
import pytest
from keras import layers

from erkeras.data import load_dataset, read_arrays
from erkeras.detection import ERDetector
from erkeras.errors import InputError
from erkeras.evaluation import Examples, Record
from erkeras.saved import load_model


class Bomb:
    """Unpickled, it writes a file."""

    def __init__(self, marker):
        self.marker = str(marker)

    def __reduce__(self):
        return open, (self.marker, "w")


@pytest.fixture
def marker(tmp_path):
    """What a hostile file would write; it works where it is let."""
    path = tmp_path / "marker"
    pickle.loads(pickle.dumps(Bomb(path))).close()
    assert path.exists()
    path.unlink()
    yield path
    assert not path.exists()


def hostile_npz(path, marker, **arrays):
    bomb = np.empty(1, object)
    bomb[0] = Bomb(marker)
    np.savez(path, **{name: bomb if value is None else value for name, value in arrays.items()})
    return path


def test_an_npz_with_a_pickle_is_refused(tmp_path, marker):
    path = hostile_npz(tmp_path / "images.npz", marker, images=None, labels=np.zeros(1, int))
    with pytest.raises(InputError, match=r"is not an \.npz file of plain arrays"):
        read_arrays(path, ("images",))
    with pytest.raises(InputError, match=r"is not an \.npz file of plain arrays"):
        load_dataset(f"npz:{path}")


def test_a_bare_pickle_named_npz_is_refused(tmp_path, marker):
    (tmp_path / "images.npz").write_bytes(pickle.dumps(Bomb(marker)))
    with pytest.raises(InputError, match=r"is not an \.npz file of plain arrays"):
        read_arrays(tmp_path / "images.npz", ("images",))


@pytest.mark.parametrize("name", ["centres", "threshold", "features"])
def test_a_detector_with_a_pickle_is_refused(saved_model, tmp_path, marker, name):
    with np.load(saved_model / "detector.npz") as archive:
        arrays = dict(archive)
    assert name in arrays
    path = hostile_npz(tmp_path / "detector.npz", marker, **{**arrays, name: None})
    model = load_model("keras", saved_model / "model.keras")
    with pytest.raises(InputError, match=r"is not an \.npz file of plain arrays"):
        ERDetector.load(path, model)


def test_the_images_of_a_record_with_a_pickle_are_refused(tmp_path, marker):
    folder = tmp_path / "record"
    images = np.zeros((1, 2, 2, 1), np.float32)
    record = Record.create(folder, {"images": 1, "image_shape": list(images.shape[1:]), "attacks": []})
    zeros = np.zeros(1, np.int32)
    none = np.zeros((1, 0), np.int64)
    record.append(Examples(zeros, zeros, zeros, zeros - 1, zeros, np.zeros(1, np.float32), none, none, images), [])
    assert len(record.read()) == 1
    bomb = np.empty(1, object)
    bomb[0] = Bomb(marker)
    (found,) = folder.glob("*.npy")
    np.save(found, bomb)
    with pytest.raises(InputError, match="copy the record again"):
        record.read()


def test_a_keras_file_with_a_lambda_is_refused(tmp_path, marker):
    path = str(marker)
    model = keras.Sequential(
        [keras.Input((4, 4, 1)), layers.Flatten(), layers.Lambda(lambda codes: __import__("os").mknod(path) or codes)]
    )
    model.save(tmp_path / "model.keras")
    marker.unlink(missing_ok=True)  # building it has run it
    with pytest.raises(InputError, match=r"model\.keras has a Lambda layer, which would run code of the file: save"):
        load_model("keras", tmp_path / "model.keras")


@pytest.mark.parametrize(("module", "name"), [("os", "system"), ("builtins", "open"), ("subprocess", "Popen")])
def test_a_keras_file_that_calls_python_is_refused(saved_model, tmp_path, marker, module, name):
    """The configuration names what Keras is to make: here a function of Python instead of a layer."""
    arguments = {"command": f"touch {marker}", "file": str(marker), "mode": "w", "args": ["touch", str(marker)]}
    config = {"module": module, "class_name": name, "config": arguments, "registered_name": None}
    rewrite(saved_model / "model.keras", tmp_path / "model.keras", {"config.json": json.dumps(config)})
    with pytest.raises(InputError, match=rf"model\.keras (cannot be loaded|is made of {name})"):
        load_model("keras", tmp_path / "model.keras")


def test_a_keras_file_with_pickled_weights_is_refused(saved_model, tmp_path, marker):
    """Keras reads weights from .npz too, where a file has no .h5."""
    bomb = hostile_npz(tmp_path / "weights.npz", marker, root=None).read_bytes()
    changes = {"model.weights.h5": None, "model.weights.npz": bomb}
    rewrite(saved_model / "model.keras", tmp_path / "model.keras", changes)
    with pytest.raises(InputError, match=r"model\.keras cannot be loaded"):
        load_model("keras", tmp_path / "model.keras")


def rewrite(source, path, changes):
    """A zip file with other contents of some members; None: without it."""
    with zipfile.ZipFile(source) as whole, zipfile.ZipFile(path, "w") as archive:
        members = {name: whole.read(name) for name in whole.namelist()} | changes
        for name, content in members.items():
            if content is not None:
                archive.writestr(name, content)
