"""Arrays from .npz files: nothing is unpickled, and no more memory is spent than a file of its size may ask for."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np

from erkeras.errors import InputError
from erkeras.files import open_regular

#: An array may be this many times the bytes that it takes in the file, or have `_ALWAYS` bytes: else a file of a
#: megabyte could ask for a gigabyte.
_MOST_TIMES, _ALWAYS = 100, 2**26
_CHUNK = 2**20


def read_arrays(path: Path, names: tuple[str, ...]) -> dict[str, np.ndarray]:
    """Reads named arrays of an .npz file, never a pickle.

    Raises:
        InputError: where the file is missing, not an .npz, or lacks one of the arrays.
    """
    return _read(path, names, _array)


def read_shape(path: Path, name: str) -> tuple[int, ...]:
    """Reads the shape of one array of an .npz file, and not the array.

    Raises:
        InputError: as `read_arrays`.
    """
    return _read(path, (name,), lambda file, size: _header(file, size)[0])[name]


def list_arrays(path: Path, wanted: Sequence[str]) -> list[str]:
    """Lists the names of the arrays of an .npz file.

    Args:
        path: of the file.
        wanted: names that an error shows how to write.

    Raises:
        InputError: where the file is missing, or not an .npz.
    """
    with _opened(path, wanted) as (_, members):
        return list(members)


def _read(path: Path, names: Sequence[str], read: Any) -> dict[str, Any]:
    with _opened(path, names) as (archive, members):
        missing = [name for name in names if name not in members]
        if missing:
            listed = ", ".join(list(members)[:10]) or "none"
            raise InputError(
                f"{path} has the arrays {listed[:200]}: give an .npz file with the arrays {', '.join(names)}."
            )
        found = {}
        for name in names:
            info = members[name]
            if info.file_size > max(_ALWAYS, _MOST_TIMES * info.compress_size):
                raise InputError(
                    f"{path} says that its array {name} has {info.file_size:,} bytes, packed into "
                    f"{info.compress_size:,}: write so large an array with numpy.savez, which does not pack."
                )
            with archive.open(info) as member:
                found[name] = read(member, info.file_size)
        return found


@contextmanager
def _opened(path: Path, names: Sequence[str]) -> Iterator[tuple[zipfile.ZipFile, dict[str, zipfile.ZipInfo]]]:
    """Gives the archive and its arrays by name."""
    try:
        with open_regular(path) as file, zipfile.ZipFile(file) as archive:
            yield archive, {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
    except FileNotFoundError:
        raise InputError(f"{path} does not exist: give the path of an .npz file.") from None
    except InputError:
        raise
    except Exception as error:  # whatever zipfile, its decompressors and NumPy make of a damaged file
        form = ", ".join(f"{name}=..." for name in names)
        raise InputError(
            f"{path} is not an .npz file of plain arrays: write it with numpy.savez(path, {form})."
        ) from error


def _header(member: IO[bytes], size: int) -> tuple[tuple[int, ...], bool, np.dtype[Any], int]:
    """Reads an array's header: its shape, whether its columns come first, its type, and its number of bytes."""
    version = np.lib.format.read_magic(member)
    readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    shape, columns_first, dtype = readers[version](member)
    length = math.prod(shape) * dtype.itemsize
    if dtype.kind not in "biufUS" or min(shape, default=1) < 0 or member.tell() + length != size:
        raise ValueError(f"an array of type {dtype} and shape {shape} in {size} bytes")
    return shape, columns_first, dtype, length


def _array(member: IO[bytes], size: int) -> np.ndarray:
    shape, columns_first, dtype, length = _header(member, size)
    content = bytearray(length)
    view, done = memoryview(content), 0
    while done < length:
        part = member.read(min(_CHUNK, length - done))
        if not part:
            raise EOFError("the array is cut off")
        view[done : done + len(part)] = part
        done += len(part)
    if member.read(1):  # and compares the checksum
        raise ValueError("the array is longer than it says")
    array = np.frombuffer(content, dtype) if length else np.zeros(shape, dtype)
    array = array.reshape(shape, order="F" if columns_first else "C")
    return array.astype(dtype.newbyteorder("="), copy=False)
