"""Layers of images `[n, height, width, channels]`, whatever `keras.config.set_image_data_format` says."""

from __future__ import annotations

from functools import partial

import keras

Conv2D = partial(keras.layers.Conv2D, data_format="channels_last")
Conv2DTranspose = partial(keras.layers.Conv2DTranspose, data_format="channels_last")
MaxPooling2D = partial(keras.layers.MaxPooling2D, data_format="channels_last")
Flatten = partial(keras.layers.Flatten, data_format="channels_last")
ZeroPadding2D = partial(keras.layers.ZeroPadding2D, data_format="channels_last")
GlobalAveragePooling2D = partial(keras.layers.GlobalAveragePooling2D, data_format="channels_last")
