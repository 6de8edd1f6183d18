"""Sets of tensorflow-datasets that have an image of one size, and its label."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from erkeras.data.dataset import Dataset, Split, whole
from erkeras.data.images import to_unit_range
from erkeras.data.splits import complete, find_splits
from erkeras.data.storage import MEMORY_VARIABLE, StoredBytes, fits
from erkeras.errors import InputError
from erkeras.stored import StoredPixels

#: Sets that validate on another fraction of their training images than a tenth.
_VALIDATION_FRACTIONS = {"mnist": 1 / 12}
_NAME = re.compile(r"[A-Za-z]\w*(/[\w.+-]+)?", re.ASCII)
_PREFIX = "tfds:"
#: Images that are read at once where they go to disk.
_PART = 256
_WANTED = "give a set with the features image, of one size with 1 or 3 channels, and label, a class"
#: tensorflow-datasets imports TensorFlow where it finds the name among the modules, if only to be loaded on first use.
_PROGRAM = """
import json, sys
from erkeras.data.tensorflow_sets import find_image_shape
from erkeras.errors import InputError
if "tensorflow.python" not in sys.modules:
    sys.modules.pop("tensorflow", None)
try:
    found = {"shape": find_image_shape(sys.argv[1])}
except InputError as error:
    found = {"error": str(error)}
print(json.dumps(found))
"""


def read_image_shape(name: str) -> tuple[int, ...]:
    """Reads (height, width, channels) of a set's images before it is downloaded, and without TensorFlow.

    Where TensorFlow is not loaded, a process of its own looks, which takes some seconds.

    Args:
        name: tfds:NAME or tfds:NAME/CONFIG.

    Raises:
        InputError: as `find_image_shape`.
    """
    _check_form(name)
    if "tensorflow.python" in sys.modules:
        return find_image_shape(name)
    command = [sys.executable, "-P", "-c", _PROGRAM, name]
    paths = os.pathsep.join(sys.path)  # the modules that this process has
    asked = subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": paths}
    )
    if asked.returncode:
        reason = (asked.stderr.strip() or "without a word").splitlines()[-1]
        raise InputError(
            f"tensorflow-datasets failed when asked for {name} ({reason[:200]}): see that python -c 'import "
            "tensorflow_datasets' works."
        )
    found = json.loads(asked.stdout.splitlines()[-1])
    if "error" in found:
        raise InputError(found["error"])
    return tuple(found["shape"])


def find_image_shape(name: str) -> tuple[int, int, int]:
    """Finds (height, width, channels) of a set's images by asking tensorflow-datasets, which may load TensorFlow.

    Args:
        name: as for `read_image_shape`.

    Raises:
        InputError: where there is no such set, or it has no images of one size with a label.
    """
    return _image_shape(name, _find_builder(name.removeprefix(_PREFIX)))


def load_tensorflow_dataset(name: str) -> Dataset:
    """Loads a set of tensorflow-datasets; see `load_dataset`.

    Args:
        name: as it takes it: tfds:NAME, tfds:NAME/CONFIG, or NAME alone of one that has a name of its own here.

    Raises:
        InputError: as `find_image_shape`, where the set is not prepared and cannot be downloaded, and for splits that
            do not fit together.
    """
    _check_form(name)
    key = name.removeprefix(_PREFIX)
    builder = _find_builder(key)
    shape = _image_shape(name, builder)
    _prepare(key, builder)
    splits = find_splits([split for split, info in builder.info.splits.items() if info.num_examples], name)
    count = sum(builder.info.splits[source].num_examples for source in splits.values())
    read = _read if fits(count, shape) else _store
    parts = {split: read(name, builder, source) for split, source in splits.items()}
    parts, class_names = _without_empty_classes(name, parts, builder.info.features["label"].names)
    return complete(name, parts, class_names, _VALIDATION_FRACTIONS.get(key, 1 / 10))


def _check_form(name: str) -> None:
    key = name.removeprefix(_PREFIX)
    if not _NAME.fullmatch(key):
        raise InputError(f"{key!r} is no name of a set of tensorflow-datasets: give tfds:NAME or tfds:NAME/CONFIG.")


def _find_builder(key: str) -> Any:
    os.environ.setdefault("NO_GCE_CHECK", "true")
    import tensorflow_datasets as tfds

    # Read now: tensorflow-datasets looks at TFDS_DATA_DIR once, when it is imported.
    place = os.environ.get("TFDS_DATA_DIR")
    try:
        return tfds.builder(key, data_dir=os.path.expanduser(place) if place else None)
    except Exception as error:  # whatever it and the module of the set raise
        unknown = isinstance(error, tfds.core.DatasetNotFoundError)
        kind = "" if unknown else f" ({type(error).__name__})"
        raise InputError(
            f"there is no set {key} in tensorflow-datasets {tfds.__version__}, nor a prepared one in "
            f"{place or '~/tensorflow_datasets'}{kind}: give tfds:NAME or tfds:NAME/CONFIG as its catalog lists them."
        ) from (None if unknown else error)  # which lists all sets there are


def _image_shape(name: str, builder: Any) -> tuple[int, int, int]:
    import tensorflow_datasets as tfds

    features = builder.info.features
    known = dict(features.items()) if isinstance(features, tfds.features.FeaturesDict) else {}
    image, label = known.get("image"), known.get("label")
    if not isinstance(image, tfds.features.Image) or not isinstance(label, tfds.features.ClassLabel):
        listed = ", ".join(sorted(known)[:10]) or "none"
        raise InputError(f"{name} has the features {listed[:200]}, and no image with a class as its label: {_WANTED}.")
    height, width, channels = image.shape
    if None in image.shape or channels not in (1, 3):
        raise InputError(f"{name} has images of shape {image.shape}, where None is any number: {_WANTED}.")
    return height, width, channels


def _prepare(key: str, builder: Any) -> None:
    if builder.is_prepared():
        return
    try:
        for url in list(builder.url_infos)[:1]:
            _check_network(url)
        builder.download_and_prepare()
    except Exception as error:  # tensorflow-datasets raises whatever the network gave it
        root = builder.data_path.parents[2 if builder.builder_config else 1]
        raise InputError(
            f"the data set {key} is not prepared in {root} and could not be downloaded ({type(error).__name__}): on a "
            f"machine with a network run python -c \"import tensorflow_datasets as tfds; tfds.load('{key}')\", copy "
            "the folder it makes and set TFDS_DATA_DIR to it."
        ) from error


def _check_network(url: str) -> None:
    """Raises OSError where the host does not answer; tensorflow-datasets would go on trying for minutes."""
    try:
        urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=20).close()
    except urllib.error.HTTPError:
        return  # an answer


def _read(name: str, builder: Any, split: str) -> Split:
    ((images, labels),) = _batches(name, builder, split, -1)
    return whole(to_unit_range(images, f"{split} of {name}"), labels)


def _store(name: str, builder: Any, split: str) -> Split:
    """As `_read`, part after part, into a temporary file."""
    labels = []

    def parts() -> Iterator[np.ndarray]:
        for images, of_part in _batches(name, builder, split, _PART):
            pixels = to_unit_range(images, f"{split} of {name}")
            if pixels.dtype != np.uint8:
                raise InputError(
                    f"{name} has images of {images.dtype} that do not fit into memory, and bytes alone are kept on "
                    f"disk: set {MEMORY_VARIABLE} to more gibibytes."
                )
            labels.append(of_part)
            yield pixels

    stored = StoredBytes(parts(), _image_shape(name, builder))
    return whole(StoredPixels(stored, np.arange(stored.count)), np.concatenate(labels))


def _batches(name: str, builder: Any, split: str, size: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Images and labels, so many at once; -1 for all."""
    import tensorflow_datasets as tfds

    # Of the two features alone: others may be large, or of any length.
    decoders = tfds.decode.PartialDecoding({"image": True, "label": True})
    try:
        found = builder.as_dataset(split=split, batch_size=size, decoders=decoders, shuffle_files=False)
        for batch in [found] if size < 0 else found:
            yield np.asarray(batch["image"]), np.asarray(batch["label"])
    except (InputError, GeneratorExit):
        raise
    except Exception as error:  # whatever TensorFlow makes of damaged files
        raise InputError(
            f"{name} cannot be read from {builder.data_path} ({type(error).__name__}): remove that folder, and prepare "
            "the set again."
        ) from error


def _without_empty_classes(
    name: str, parts: dict[str, Split], class_names: Sequence[str]
) -> tuple[dict[str, Split], tuple[str, ...]]:
    """Leaves out the classes that no image has; a label is the rank of its class among the others.

    Raises:
        InputError: for an image without a label, and for a class that has other images than training images.
    """
    present = np.unique(parts["train"].labels)
    for split, part in parts.items():
        unknown = np.setdiff1d(part.labels, present[present >= 0])
        if len(unknown):
            fault = "which marks an image without one" if unknown[0] < 0 else "of which it has no training image"
            raise InputError(
                f"{name} has the label {unknown[0]} in its split {split}, {fault}: give a set of labelled images, and "
                "training images of every class."
            )
    if present[-1] >= len(class_names):
        raise InputError(f"{name} has the label {present[-1]} and {len(class_names)} classes: prepare the set again.")
    if len(present) < 2:
        raise InputError(f"{name} has training images of {len(present)} class: give a set of two classes or more.")
    ranked = {
        split: Split(part.pixels, np.searchsorted(present, part.labels).astype(np.int32), part.indices)
        for split, part in parts.items()
    }
    return ranked, tuple(class_names[label] for label in present)
