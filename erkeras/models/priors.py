"""The distribution P_Z that the codes are pushed towards (section 3.1)."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf


@keras.saving.register_keras_serializable("erkeras")
class StandardNormal:
    """Samples N(0, I), the paper's prior."""

    def sample(self, shape: Any, seed: tf.Tensor, dtype: Any) -> tf.Tensor:
        """Samples `[n, code_size]`, a pure function of `seed` (int `[2]`)."""
        return tf.random.stateless_normal(shape, seed, dtype=dtype, alg="philox")

    def get_config(self) -> dict[str, Any]:
        return {}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> StandardNormal:
        return cls(**config)
