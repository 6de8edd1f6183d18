"""What models of images share: Keras can export them."""

from __future__ import annotations

from typing import Any

import keras


class ImageModel(keras.Model):
    """A model whose parts are built before it is.

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
