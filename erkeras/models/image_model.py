"""Defines what models of images share: Keras can export them, and train them on checked images."""

from __future__ import annotations

from typing import Any

import keras

from erkeras.models.steps import checked


class ImageModel(keras.Model):
    """Serves as the base class of models whose parts are built before they are.

    Its constructor ends with `build` on the shape of the images, `(None,)` for an unknown one. Keras notes it.
    """

    def build(self, input_shape: Any) -> None:
        """Makes nothing: all parts are built."""

    def export(self, filepath: Any, *arguments: Any, input_signature: Any = None, **options: Any) -> None:
        """Exports the logits as `keras.Model.export` does, which by itself refuses a model that was not called yet."""
        shape = self.get_build_config()["input_shape"]
        if input_signature is None and len(shape) > 1:
            input_signature = [keras.InputSpec(self.variable_dtype, tuple(shape))]
        super().export(filepath, *arguments, input_signature=input_signature, **options)


class TrainedImageModel(ImageModel):
    """Checks the images that `fit` trains on, and saves the random states of its layers."""

    def fit(self, x: Any = None, y: Any = None, *arguments: Any, **options: Any) -> Any:
        """Trains as `keras.Model.fit` does, on images that are checked first (see `erkeras.pixels.as_images`)."""
        if isinstance(options.get("validation_data"), tuple):
            images, *others = options["validation_data"]
            options["validation_data"] = (checked(images, "the validation images"), *others)
        return super().fit(checked(x), y, *arguments, **options)

    def evaluate(self, x: Any = None, y: Any = None, *arguments: Any, **options: Any) -> Any:
        """Evaluates as `keras.Model.evaluate` does, on images that are checked first, as in `fit`."""
        return super().evaluate(checked(x), y, *arguments, **options)

    def save_own_variables(self, store: Any) -> None:
        # Keras leaves the states of layers' seed generators (Dropout, noise) out of its files: a model that
        # went on without them would draw other numbers than one that was never saved.
        super().save_own_variables(store)
        for number, variable in enumerate(self._seed_states):
            store[f"seed_state_{number}"] = variable.numpy()

    def load_own_variables(self, store: Any) -> None:
        for number, variable in enumerate(self._seed_states):
            if f"seed_state_{number}" in store:
                variable.assign(store[f"seed_state_{number}"])

    @property
    def _seed_states(self) -> list[keras.Variable]:
        weights = {id(variable) for variable in self.weights}
        return [variable for variable in self.variables if id(variable) not in weights]
