import importlib

import keras
import pytest

from erkeras.errors import InputError
from erkeras.models import backend, er_classifier


def test_tensorflow_is_the_backend_and_any_other_is_refused(monkeypatch):
    importlib.reload(backend)
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    with pytest.raises(InputError) as refused:
        importlib.reload(backend)
    assert str(refused.value) == (
        "Keras runs on the backend 'jax' and erkeras needs tensorflow: set KERAS_BACKEND=tensorflow."
    )


def test_the_model_checks_it():
    assert er_classifier.backend is backend
