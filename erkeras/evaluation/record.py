"""The record of an evaluation: a folder that whoever doubts can verify, and an interrupted run goes on from.

FOLDER/settings.json    what was asked: model and its digest, data, seed, threat model, attacks, versions
FOLDER/examples.jsonl   one line an example, in the order of the sample, appended as soon as its verdict is known
FOLDER/images.npy       float32 [n, height, width, channels], the attacked images in the same order; at the end they are
                        compressed, in images.npz
FOLDER/result.json      the figures so far: seconds, and at the end accuracies and warnings
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from erkeras.data import read_arrays
from erkeras.errors import InputError
from erkeras.evaluation.examples import STANDING, UNANSWERED, WRONG_WHEN_CLEAN, Examples
from erkeras.files import write_arrays, write_text

FORMAT = 1
SETTINGS, EXAMPLES, RESULT = "settings.json", "examples.jsonl", "result.json"
IMAGES, COMPRESSED = "images.npy", "images.npz"
#: Settings that do not make a record another one.
_CIRCUMSTANCES = ("versions", "processor")
_WORDS = {STANDING: None, WRONG_WHEN_CLEAN: "clean", UNANSWERED: "no number"}


class Record:
    """A record that is open.

    Attributes:
        folder: where it lives.
        settings: what was asked, as read from or written to `settings.json`.
        names: of the attacks.
    """

    def __init__(self, folder: Path, settings: dict[str, Any]) -> None:
        self.folder = folder
        self.settings = settings
        self.names = [attack["name"] for attack in settings["attacks"]]

    @classmethod
    def create(cls, folder: Path, settings: dict[str, Any]) -> Record:
        """Makes a new record. Its folder comes with the first examples, so that an attack which is refused leaves none.

        Args:
            folder: must not exist.
            settings: plain values; `images` (how many), `image_shape` and `attacks` (each with a `name`) among them.
        """
        return cls(folder, json.loads(json.dumps({"format": FORMAT, **settings})))

    @classmethod
    def open(cls, folder: Path) -> Record:
        """Opens a record that is there.

        Raises:
            InputError: where there is none, or one of another format.
        """
        try:
            settings = json.loads((folder / SETTINGS).read_text())
            number = settings["format"]
            record = cls(folder, settings)
        except FileNotFoundError as error:
            raise InputError(
                f"{folder} is not the record of an evaluation: give a folder that --record made."
            ) from error
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(f"{folder / SETTINGS} cannot be read: give a whole record.") from error
        if number != FORMAT:
            raise InputError(f"{folder} has format {number} and this erkeras reads {FORMAT}: evaluate again.")
        return record

    def differs(self, settings: dict[str, Any]) -> str:
        """Says in words what `settings` ask for otherwise than the record was made with; empty if nothing."""
        now = json.loads(json.dumps({"format": FORMAT, **settings}))
        before = {name: _comparable(name, value) for name, value in self.settings.items()}
        now = {name: _comparable(name, value) for name, value in now.items() if name not in _CIRCUMSTANCES}
        keys = [key for key in now if before.get(key) != now[key]]
        return ", ".join(f"{key} {_short(before.get(key))} (now {_short(now[key])})" for key in keys)

    def read(self) -> Examples:
        """Reads the examples that the record holds, without a last line that was cut off.

        Raises:
            InputError: where there is no file of examples, or a line before the last cannot be read.
        """
        if not self.folder.exists():
            return self._arrays([])
        try:
            rows = [json.loads(line) for line in self._whole_lines()]
            examples = self._arrays(rows)
        except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
            raise InputError(
                f"{self.folder / EXAMPLES} is missing, or has a line that is no example: give a whole record."
            ) from error
        return examples

    def append(self, examples: Examples, seconds: list[float]) -> None:
        """Adds examples, in the place of a line that was cut off; `seconds` are those of each attack so far."""
        self._make()
        whole = self._whole_lines()
        start = len(whole)
        self._expand()
        images = self._open_images("r+")
        images[start : start + len(examples)] = examples.images
        images.flush()
        with (self.folder / EXAMPLES).open("r+b") as lines:
            lines.seek(sum(len(line) for line in whole))
            lines.truncate()
            lines.writelines(f"{json.dumps(line)}\n".encode() for line in as_lines(examples, self.names))
            lines.flush()
            os.fsync(lines.fileno())
        self.write_result({"seconds": dict(zip(self.names, seconds, strict=True))})

    def seconds(self) -> list[float]:
        """Gives the seconds that `append` was given last; zeros before."""
        known = self.result().get("seconds", {})
        return [known.get(name, 0.0) for name in self.names]

    def result(self) -> dict[str, Any]:
        """Reads the figures so far."""
        path = self.folder / RESULT
        return json.loads(path.read_text()) if path.exists() else {}

    def write_result(self, result: dict[str, Any]) -> None:
        """Writes the figures so far."""
        write_text(self.folder / RESULT, json.dumps(result, indent=1))

    def finish(self, result: dict[str, Any]) -> None:
        """Writes the last figures, and compresses the images."""
        self.write_result(result)
        if not (self.folder / COMPRESSED).exists():
            write_arrays(self.folder / COMPRESSED, {"images": self._open_images("r")})
        (self.folder / IMAGES).unlink(missing_ok=True)

    def _make(self) -> None:
        """The folder, whole or not at all, where there is none."""
        if self.folder.exists():
            return
        partial = self.folder.with_name(f".{self.folder.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        (partial / SETTINGS).write_text(json.dumps(self.settings, indent=1))
        np.lib.format.open_memmap(partial / IMAGES, "w+", np.float32, self._shape).flush()
        (partial / EXAMPLES).touch()
        partial.rename(self.folder)

    @property
    def _shape(self) -> tuple[int, ...]:
        return (self.settings["images"], *self.settings["image_shape"])

    def _expand(self) -> None:
        """Of a record that lost a line after its end: takes back what `finish` did to the images."""
        if (self.folder / COMPRESSED).exists():
            partial = self.folder / f".{IMAGES}.partial.npy"
            np.save(partial, self._open_images("r"))
            os.replace(partial, self.folder / IMAGES)
            (self.folder / COMPRESSED).unlink()

    def _open_images(self, mode: Any) -> Any:
        if (self.folder / COMPRESSED).exists():
            return read_arrays(self.folder / COMPRESSED, ("images",))["images"]
        try:
            return np.load(self.folder / IMAGES, mmap_mode=mode)
        except (OSError, ValueError) as error:
            raise InputError(f"{self.folder / IMAGES} cannot be read: give a whole record.") from error

    def _whole_lines(self) -> list[bytes]:
        lines = (self.folder / EXAMPLES).read_bytes().splitlines(keepends=True)
        return [line for line in lines if line.endswith(b"\n")]

    def _arrays(self, rows: list[dict[str, Any]]) -> Examples:
        numbers = {word: number for number, word in {**_WORDS, **dict(enumerate(self.names))}.items()}

        def column(name: str, dtype: Any) -> np.ndarray:
            return np.array([row[name] for row in rows], dtype)

        def table(name: str) -> np.ndarray:
            counts = [[row[name][attack] for attack in self.names] for row in rows]
            return np.array(counts, np.int64).reshape(len(rows), len(self.names))

        return Examples(
            indices=column("index", np.int64),
            labels=column("label", np.int32),
            clean_predictions=column("clean_prediction", np.int32),
            broken_by=np.array([numbers[row["broken_by"]] for row in rows], np.int32),
            predictions=column("prediction", np.int32),
            distance=column("distance", np.float32),
            queries=table("queries"),
            gradients=table("gradients"),
            images=np.array(self._open_images("r")[: len(rows)])
            if rows
            else np.zeros((0, *self._shape[1:]), np.float32),
        )


def as_lines(examples: Examples, names: Sequence[str]) -> list[dict[str, Any]]:
    """Lists one mapping of plain values for each example; `names` are the attacks'."""
    words = {**_WORDS, **dict(enumerate(names))}
    return [
        {
            "index": int(examples.indices[row]),
            "label": int(examples.labels[row]),
            "clean_prediction": int(examples.clean_predictions[row]),
            "broken_by": words[int(examples.broken_by[row])],
            "prediction": int(examples.predictions[row]),
            "distance": float(examples.distance[row]),
            "queries": dict(zip(names, examples.queries[row].tolist(), strict=True)),
            "gradients": dict(zip(names, examples.gradients[row].tolist(), strict=True)),
        }
        for row in range(len(examples))
    ]


def _comparable(name: str, value: Any) -> Any:
    # The class of an attack is named since version 0.2.
    return [(part.get("name"), part.get("config")) for part in value] if name == "attacks" else value


def _short(value: Any) -> str:
    text = json.dumps(value) if isinstance(value, (dict, list)) else str(value)
    return text if len(text) < 60 else f"{text[:57]}..."
