"""Files: written whole or not at all, never in the place of what is no regular file; read without waiting."""

from __future__ import annotations

import atexit
import contextlib
import errno
import fcntl
import io
import os
import select
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from erkeras.errors import InputError

#: How a file begins and ends that is not whole yet; it lies, hidden, in the folder of the whole one.
PARTIAL = (".erkeras-", ".partial")
#: Seconds in which a program must open a named pipe for reading.
_WAIT = 10.0
_NEW_FILE, _NEW_FOLDER, _LONGEST_CHAIN = 0o666, 0o777, 40
#: Lock file -> its descriptor, of what this process has locked.
_locked: dict[Path, int] = {}


def write_bytes(path: str | Path, content: bytes | memoryview) -> None:
    """Writes a file; see `replacing`."""
    with replacing(path) as file:
        file.write(content)


def write_text(path: str | Path, text: str) -> None:
    """Writes a file of UTF-8 text; see `replacing`."""
    # A file name that is no UTF-8 comes back as the bytes that it was.
    write_bytes(path, text.encode("utf-8", errors="surrogateescape"))


def write_arrays(path: str | Path, arrays: dict[str, Any]) -> None:
    """Writes a compressed .npz of plain arrays, never a pickle; see `replacing`."""
    # In memory first: zipfile writes again, and fails again, while it is thrown away.
    archive = io.BytesIO()
    np.savez_compressed(archive, allow_pickle=False, **arrays)
    write_bytes(path, archive.getbuffer())


@contextlib.contextmanager
def replacing(path: str | Path) -> Iterator[BinaryIO]:
    """Gives a file to write to; what is written is at `path` once the block has ended, and not before.

    A regular file keeps its mode, and is whole or as it was. A symbolic link stays one, and what it points to is
    written. A device, a pipe or an open file (as /dev/stdout) is written into.

    Raises:
        InputError: where it cannot be written, as on a full disk.
    """
    path = Path(path)
    try:
        target, old = _resolve(path)
        if old is not None and (not stat.S_ISREG(old.st_mode) or target is None):
            with _opened_as_it_is(path, old) as file:
                yield file
            return
        assert target is not None
        with _partial_of(target, old) as file:
            yield file
    except OSError as error:
        raise _refusal(path, error) from error


def check_writable(path: str | Path) -> None:
    """Checks, without a change, that a file can be written later; the folder of a file to make is tried.

    Raises:
        InputError: where it is a folder, or its folder is missing or cannot be written to.
    """
    path = Path(path)
    try:
        target, old = _resolve(path)
        if old is not None and stat.S_ISDIR(old.st_mode):
            raise InputError(f"{path} is a folder: give the name of a file.")
        if old is not None and (not stat.S_ISREG(old.st_mode) or target is None):
            if not os.access(path, os.W_OK):
                raise PermissionError(13, "no permission to write")
            return
        assert target is not None
        check_folder(target.parent)
    except OSError as error:
        raise _refusal(path, error) from error


def check_folder(folder: str | Path) -> None:
    """Checks that files can be made in a folder, by making one that goes at once.

    Raises:
        InputError: where not.
    """
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise _refusal(Path(folder), error) from error


def open_regular(path: Path, most: int | None = None) -> io.BufferedReader:
    """Opens a regular file to read; a pipe or a device is refused, as nobody knows when it ends.

    Args:
        path: of the file.
        most: how many bytes it may have.

    Raises:
        FileNotFoundError: where there is none.
        OSError: where it cannot be read, is no regular file, or is larger.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except ValueError as error:  # a zero byte in its name
        raise OSError(errno.EINVAL, "there is no such name") from error
    found = os.fstat(descriptor)
    if stat.S_ISREG(found.st_mode) and (most is None or found.st_size <= most):
        return os.fdopen(descriptor, "rb")
    os.close(descriptor)
    if not stat.S_ISREG(found.st_mode):
        raise OSError(errno.EINVAL, "it is no regular file")
    raise OSError(errno.EFBIG, f"it has {found.st_size:,} bytes, more than {most:,}")


def read_regular(path: Path, most: int) -> bytes:
    """Reads a regular file; see `open_regular`."""
    with open_regular(path, most) as file:
        return file.read(most)


def make_folder(folder: Path) -> None:
    """Makes a folder, and those that it is in, where it is not there.

    Raises:
        InputError: where it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _refusal(folder, error) from error


def make_partial_folder(folder: Path) -> Path:
    """Makes an empty folder beside one that is to come, for what is renamed when it is whole.

    Raises:
        InputError: where it cannot be made.
    """
    make_folder(folder.parent)
    try:
        partial = Path(tempfile.mkdtemp(dir=folder.parent, prefix=PARTIAL[0], suffix=PARTIAL[1]))
        partial.chmod(_NEW_FOLDER & ~_umask())
    except OSError as error:
        raise _refusal(folder, error) from error
    return partial


def lock(folder: Path) -> None:
    """Keeps other processes from writing to a folder, which need not be there yet, until `unlock` or this one's end.

    Raises:
        InputError: where another process has locked it, or nothing can be written beside it.
    """
    place = _lock_file(folder)
    if place in _locked:
        return
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        while True:
            descriptor = os.open(place, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            try:
                fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                current = place.exists() and os.path.samestat(os.fstat(descriptor), os.stat(place))
            except BaseException:
                os.close(descriptor)
                raise
            if current:
                break
            os.close(descriptor)  # unlocked, and removed, by another process just now
    except OSError as error:
        if error.errno in (errno.EAGAIN, errno.EACCES) and place.exists():
            raise InputError(f"{folder} is being written by another process: wait for it, or end it.") from error
        raise _refusal(folder, error) from error
    _locked[place] = descriptor


def unlock(folder: Path) -> None:
    """Ends what `lock` began."""
    _release(_lock_file(folder))


def _lock_file(folder: Path) -> Path:
    place = Path(os.path.realpath(folder))
    return place.with_name(f".{place.name}.lock")


def _release(place: Path) -> None:
    descriptor = _locked.pop(place, None)
    if descriptor is not None:
        with contextlib.suppress(OSError):
            place.unlink()
        os.close(descriptor)


@atexit.register
def _release_all() -> None:
    for place in list(_locked):
        _release(place)


def sweep(folder: Path) -> None:
    """Removes what writers that were killed have left in a folder that only one process writes to."""
    for left in folder.glob(f"{PARTIAL[0]}*{PARTIAL[1]}"):
        if left.is_dir() and not left.is_symlink():
            shutil.rmtree(left, ignore_errors=True)
        else:
            left.unlink(missing_ok=True)


def _refusal(path: Path, error: OSError) -> InputError:
    reason = error.strerror or str(error) or type(error).__name__
    return InputError(f"{path} cannot be written ({reason}): make room, or give a place that can be written to.")


def _resolve(path: Path) -> tuple[Path | None, os.stat_result | None]:
    """Follows a path's links to its file, None for an open file, and gives the status of what is there, if anything."""
    target = Path(os.path.abspath(path))
    for _ in range(_LONGEST_CHAIN):
        if not target.is_symlink():
            break
        if Path(os.path.realpath(target.parent)).is_relative_to("/proc"):  # /dev/stdout, /dev/fd/3
            return None, os.stat(path)
        target = Path(os.path.abspath(target.parent.resolve() / os.readlink(target)))
    try:
        return target, os.stat(path)
    except FileNotFoundError:
        return target, None


@contextlib.contextmanager
def _opened_as_it_is(path: Path, old: os.stat_result) -> Iterator[BinaryIO]:
    # All at once, at the end: a failure before it writes nothing.
    content = io.BytesIO()
    yield content
    # No waiting for a reader without an end; append, as what is open may hold something already.
    flags = os.O_WRONLY | os.O_APPEND | (os.O_NONBLOCK if stat.S_ISFIFO(old.st_mode) else 0)
    deadline = time.monotonic() + _WAIT
    while True:
        try:
            descriptor = os.open(path, flags)
            break
        except OSError as error:
            if error.errno != errno.ENXIO or not stat.S_ISFIFO(old.st_mode):
                raise
            if time.monotonic() > deadline:
                raise OSError(errno.ENXIO, "no program reads this pipe") from error
            time.sleep(0.05)
    try:
        left = content.getbuffer()
        while left:
            try:
                left = left[os.write(descriptor, left) :]
            except BlockingIOError:  # a reader that is slower than we
                select.select([], [descriptor], [])
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _partial_of(target: Path, old: os.stat_result | None) -> Iterator[BinaryIO]:
    descriptor, partial = tempfile.mkstemp(dir=target.parent, prefix=PARTIAL[0], suffix=PARTIAL[1])
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            if old is None:
                os.fchmod(file.fileno(), _NEW_FILE & ~_umask())
            else:
                with contextlib.suppress(OSError):  # only the owner may give a file away
                    os.fchown(file.fileno(), old.st_uid, old.st_gid)
                os.fchmod(file.fileno(), stat.S_IMODE(old.st_mode))
            os.fsync(file.fileno())
        os.replace(partial, target)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(partial)
        raise


def _umask() -> int:
    # Without setting it for a moment, which another thread would see.
    try:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("Umask:"):
                return int(line.split()[1], 8)
    except OSError:
        pass
    mask = os.umask(0o022)
    os.umask(mask)
    return mask
