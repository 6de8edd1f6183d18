"""Data sets by name, from a folder of images, or from an .npz file.

Stands alone: nothing else of erkeras is imported here but its error and its random numbers, and TensorFlow only for
`training_batches` and for the sets of tensorflow-datasets.
"""

from erkeras.data.dataset import Dataset, Split
from erkeras.data.images import as_images, read_arrays, read_labelled_paths
from erkeras.data.load import DATASET_HELP, check_dataset, load_dataset
from erkeras.data.pipeline import training_batches

__all__ = [
    "DATASET_HELP",
    "Dataset",
    "Split",
    "as_images",
    "check_dataset",
    "load_dataset",
    "read_arrays",
    "read_labelled_paths",
    "training_batches",
]
