from .arrays import read_arrays as read_arrays
from .dataset import Dataset as Dataset
from .dataset import Split as Split
from .images import read_labelled_paths as read_labelled_paths
from .load import DATASET_HELP as DATASET_HELP
from .load import check_dataset as check_dataset
from .load import load_dataset as load_dataset
from .pipeline import training_batches as training_batches
