"""Data sets by name, from a folder of images, an .npz file or tensorflow-datasets. The names load on first use.

Stands alone: nothing else of erkeras is imported here but its error, its files and its random numbers, and TensorFlow
only for `training_batches` and for the sets of tensorflow-datasets.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
