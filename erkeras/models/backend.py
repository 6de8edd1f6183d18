"""The one backend of Keras that erkeras runs on. Importing this module checks it."""

import keras

from erkeras.errors import InputError

if keras.backend.backend() != "tensorflow":
    raise InputError(
        f"Keras runs on the backend {keras.backend.backend()!r} and erkeras needs tensorflow: "
        "set KERAS_BACKEND=tensorflow."
    )
