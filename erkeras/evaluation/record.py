"""The record of an evaluation: a folder that whoever doubts can verify, and an interrupted run goes on from.

FOLDER/settings.json    what was asked: model and its digest, data, seed, threat model, attacks, versions
FOLDER/examples.jsonl   one line an example, in the order of the sample, appended as soon as its verdict is known
FOLDER/images.npy       float32 [n, height, width, channels], the attacked images in the same order; at the end they are
                        compressed, in images.npz
FOLDER/result.json      the figures so far: seconds, and at the end accuracies and warnings
FOLDER/answers.npz      of a record that a card names: what model and detector say of the images; see `answers.py`
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from erkeras import files
from erkeras.data import read_arrays
from erkeras.errors import InputError
from erkeras.evaluation.examples import WORDS, Examples, as_lines
from erkeras.evaluation.record_files import no_example, parse_example, read_result, read_settings

FORMAT = 1
SETTINGS, EXAMPLES, RESULT = "settings.json", "examples.jsonl", "result.json"
IMAGES, COMPRESSED = "images.npy", "images.npz"
#: The internal batch of a record that names none, as all before version 0.3.
_INTERNAL_BATCH = 128
#: Settings that do not make a record another one.
_CIRCUMSTANCES = ("versions", "processor")
#: Bytes that the file of examples may have.
_MOST_LINES = 2**30


class Record:
    """Reads and appends the examples of a record.

    Attributes:
        folder: where it lives.
        settings: what was asked, as read from or written to `settings.json`.
        names: of the attacks.
        internal_batch: how many images the model saw at once; 128 where the settings say nothing, as before 0.3.
    """

    def __init__(self, folder: Path, settings: dict[str, Any]) -> None:
        self.folder, self.settings = folder, settings
        self.internal_batch: int = settings.get("internal_batch", _INTERNAL_BATCH)
        self.names = [attack["name"] for attack in settings["attacks"]]
        self._written = (0, -1)

    @classmethod
    def create(cls, folder: Path, settings: dict[str, Any]) -> Record:
        """Makes a new record. Its folder comes with the first examples, so that an attack which is refused leaves none.

        Args:
            folder: must not exist.
            settings: plain values; `images` (how many), `image_shape` and `attacks` (each with a `name`) among them.

        Raises:
            InputError: where another process makes it, or it cannot be written there.
        """
        record = cls(folder, json.loads(json.dumps({"format": FORMAT, **settings})))
        record.lock()
        return record

    @classmethod
    def open(cls, folder: Path) -> Record:
        """Opens a record that is there.

        Raises:
            InputError: where there is none, or one of another format.
        """
        if not os.path.lexists(folder / SETTINGS):
            raise InputError(f"{folder} is not the record of an evaluation: give a folder that --record made.")
        settings = read_settings(folder / SETTINGS)
        if settings["format"] != FORMAT:
            raise InputError(
                f"{folder} has format {settings['format']} and this erkeras reads {FORMAT}: evaluate again."
            )
        return cls(folder, settings)

    def lock(self) -> None:
        """Keeps other processes from going on with this record, until `unlock`, `finish` or this process' end.

        Raises:
            InputError: where another process has it, or nothing can be written there.
        """
        files.lock(self.folder)
        if self.folder.exists():
            files.check_folder(self.folder)
            files.sweep(self.folder)

    def unlock(self) -> None:
        """Lets other processes go on with this record."""
        files.unlock(self.folder)

    def differs(self, settings: dict[str, Any]) -> str:
        """Says in words what `settings` ask for otherwise than the record was made with; empty if nothing.

        Whoever asks for the same goes on with the record, so it is then locked; see `lock`.

        Raises:
            InputError: as `lock`.
        """
        now = json.loads(json.dumps({"format": FORMAT, **settings}))
        before = {name: _comparable(name, value) for name, value in self.settings.items()}
        before["internal_batch"] = self.internal_batch
        now = {name: _comparable(name, value) for name, value in now.items() if name not in _CIRCUMSTANCES}
        keys = [key for key in now if before.get(key) != now[key]]
        if not keys:
            self.lock()
        return ", ".join(f"{key} {_short(before.get(key))} (now {_short(now[key])})" for key in keys)

    def read(self) -> Examples:
        """Reads the examples that the record holds, without a last line that was cut off.

        Raises:
            InputError: where there is no file of examples, or a line before the last cannot be read.
        """
        if not self.folder.exists():
            return self._arrays([])
        path, wanted = self.folder / EXAMPLES, self.settings["images"]
        rows = [parse_example(line, path, number) for number, line in enumerate(self._whole_lines(), start=1)]
        if len(rows) > wanted:
            raise InputError(
                f"{path} has {len(rows)} lines for {wanted} images: copy the record again, or evaluate again."
            )
        return self._arrays(rows)

    def read_whole(self) -> Examples:
        """Reads the examples of a finished record; raises InputError as `read`, and where some are missing."""
        examples, wanted = self.read(), self.settings["images"]
        if len(examples) < wanted:
            held = f"{self.folder} holds {len(examples)} of {wanted} examples"
            raise InputError(f"{held}: finish it with the same command and --resume.")
        return examples

    def append(self, examples: Examples, seconds: Sequence[float], unconfirmed: Sequence[int] = ()) -> None:
        """Adds examples, in the place of a line that was cut off.

        Args:
            examples: those that follow.
            seconds, unconfirmed: of each attack so far; see `Finished`.

        Raises:
            InputError: where they cannot be written; the record then goes on from the last whole one.
        """
        self.lock()
        with self._writing():
            self._make()
            count, end = self._end()
            self._expand()
            self._write_images(count, examples.images)
            with (self.folder / EXAMPLES).open("r+b") as lines:
                lines.seek(end)
                lines.truncate()
                lines.write("".join(f"{json.dumps(line)}\n" for line in as_lines(examples, self.names)).encode())
                lines.flush()
                os.fsync(lines.fileno())
                self._written = (count + len(examples.labels), lines.tell())
        self.write_result(self.so_far(seconds, unconfirmed))

    def seconds(self) -> list[float]:
        """Gives the seconds that `append` was given last; zeros before."""
        known = self.result().get("seconds", {})
        return [known.get(name, 0.0) for name in self.names]

    def unconfirmed(self) -> list[int]:
        """Gives the numbers of unconfirmed images that `append` was given last; zeros before."""
        known = self.result().get("unconfirmed", {})
        return [known.get(name, 0) for name in self.names]

    def so_far(self, seconds: Sequence[float], unconfirmed: Sequence[int]) -> dict[str, Any]:
        """Makes the figures of a result that are known before the end; without unconfirmed images none is named."""
        found: dict[str, Any] = {"seconds": dict(zip(self.names, seconds, strict=True))}
        if any(unconfirmed):
            found["unconfirmed"] = dict(zip(self.names, unconfirmed, strict=True))
        return found

    def result(self) -> dict[str, Any]:
        """Reads the figures so far.

        Raises:
            InputError: where there are some that cannot be read.
        """
        path = self.folder / RESULT
        return read_result(path) if path.exists() else {}

    def write_result(self, result: dict[str, Any]) -> None:
        """Writes the figures so far."""
        files.write_text(self.folder / RESULT, json.dumps(result, indent=1))

    def finish(self, result: dict[str, Any]) -> None:
        """Writes the last figures, compresses the images, and lets other processes have the record."""
        with self._writing():
            self.write_result(result)
            if not (self.folder / COMPRESSED).exists():
                files.write_arrays(self.folder / COMPRESSED, {"images": self._read_images(self.settings["images"])})
            (self.folder / IMAGES).unlink(missing_ok=True)
        self.unlock()

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise InputError(
                f"the record {self.folder} cannot be written ({error.strerror or error}): make room, and go on with "
                "the same command and --resume."
            ) from error

    def _make(self) -> None:
        """The folder, whole or not at all, where there is none."""
        if self.folder.exists():
            return
        partial = files.make_partial_folder(self.folder)
        try:
            (partial / SETTINGS).write_text(json.dumps(self.settings, indent=1))
            with (partial / IMAGES).open("wb") as images:
                np.lib.format.write_array_header_1_0(images, self._header)
                images.truncate(images.tell() + 4 * int(np.prod(self._shape)))
            (partial / EXAMPLES).touch()
            partial.rename(self.folder)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise

    @property
    def _shape(self) -> tuple[int, ...]:
        return (self.settings["images"], *self.settings["image_shape"])

    @property
    def _header(self) -> dict[str, Any]:
        return {"descr": "<f4", "fortran_order": False, "shape": self._shape}

    def _expand(self) -> None:
        """Takes back what `finish` did to the images, in a record that lost a line after its end."""
        if (self.folder / COMPRESSED).exists():
            images = self._read_images(self.settings["images"])
            with files.replacing(self.folder / IMAGES) as file:
                np.lib.format.write_array(file, images)
            (self.folder / COMPRESSED).unlink()

    def _write_images(self, start: int, images: np.ndarray) -> None:
        # No memory map: on a full disk a process that writes to one is killed.
        with self._images_file("r+b") as (file, offset):
            file.seek(offset + start * 4 * int(np.prod(self._shape[1:])))
            file.write(np.ascontiguousarray(images, "<f4").tobytes())
            file.flush()
            os.fsync(file.fileno())

    def _read_images(self, count: int) -> np.ndarray:
        """The first images, float32."""
        if (self.folder / COMPRESSED).exists():
            images = read_arrays(self.folder / COMPRESSED, ("images",))["images"]
            if images.shape != self._shape or images.dtype != np.float32:
                raise InputError(
                    f"{self.folder / COMPRESSED} has images of shape {images.shape} and type {images.dtype}, and the "
                    f"settings say {self._shape}: copy the record again, or evaluate again."
                )
            return images[:count]
        with self._images_file("rb") as (file, _):
            wanted = count * int(np.prod(self._shape[1:]))
            return np.fromfile(file, "<f4", wanted).astype(np.float32, copy=False).reshape(count, *self._shape[1:])

    @contextlib.contextmanager
    def _images_file(self, mode: str) -> Iterator[tuple[Any, int]]:
        """`images.npy`, open and found whole, and where its pixels begin."""
        path = self.folder / IMAGES
        try:
            descriptor = os.open(path, (os.O_RDWR if "+" in mode else os.O_RDONLY) | os.O_NONBLOCK)
        except OSError as error:
            raise InputError(f"{path} cannot be read: copy the record again, or evaluate again.") from error
        with os.fdopen(descriptor, mode) as file:
            try:
                version = np.lib.format.read_magic(file)
                header = np.lib.format.read_array_header_1_0(file)
            except Exception as error:  # whatever NumPy makes of a damaged header
                raise InputError(f"{path} cannot be read: copy the record again, or evaluate again.") from error
            size = file.tell() + 4 * int(np.prod(self._shape))
            known = version == (1, 0) and header == (self._shape, False, np.dtype("<f4"))
            if not known or os.fstat(file.fileno()).st_size != size:
                raise InputError(f"{path} is not as the settings say: copy the record again, or evaluate again.")
            yield file, file.tell()

    def _whole_lines(self) -> list[bytes]:
        path = self.folder / EXAMPLES
        try:
            lines = files.read_regular(path, _MOST_LINES).splitlines(keepends=True)
        except OSError as error:
            reason = "is missing" if isinstance(error, FileNotFoundError) else f"cannot be read ({error.strerror})"
            raise InputError(f"{path} {reason}: copy the record again, or evaluate again.") from error
        return [line for line in lines if line.endswith(b"\n")]

    def _end(self) -> tuple[int, int]:
        """How many whole lines there are, and where they end; what this object wrote last is not read again."""
        if not (path := self.folder / EXAMPLES).exists() or os.path.getsize(path) != self._written[1]:
            whole = self._whole_lines()
            self._written = (len(whole), sum(map(len, whole)))
        return self._written

    def _arrays(self, rows: list[dict[str, Any]]) -> Examples:
        numbers = {word: number for number, word in {**WORDS, **dict(enumerate(self.names))}.items()}
        for number, row in enumerate(rows, start=1):
            counted = row["queries"].keys() & row["gradients"].keys()
            if row["broken_by"] not in numbers or not counted >= set(self.names):
                raise no_example(self.folder / EXAMPLES, number, "it is of other attacks than the settings name")

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
            images=self._read_images(len(rows)) if rows else np.zeros((0, *self._shape[1:]), np.float32),
        )


def _comparable(name: str, value: Any) -> Any:
    # The class of an attack is named since version 0.2.
    return [(part.get("name"), part.get("config")) for part in value] if name == "attacks" else value


def _short(value: Any) -> str:
    text = json.dumps(value) if isinstance(value, (dict, list)) else str(value)
    return text if len(text) < 60 else f"{text[:57]}..."
