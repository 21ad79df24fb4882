"""Files that are there whole or not at all, and errors that say why writing failed."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from koopscope.errors import RecordingError

Bytes = bytes | memoryview

_ADVICE = {
    errno.ENOSPC: "the disk is full: free some space",
    errno.EDQUOT: "the quota is used up: free some space",
    errno.EACCES: "permission denied: make the folder writable",
    errno.EPERM: "permission denied: make the folder writable",
    errno.EROFS: "the file system is read-only: make it writable",
}


@contextmanager
def recording_errors(path: Path) -> Iterator[None]:
    """Turn the system's refusal to write into a typed error.

    Raises
    ------
    RecordingError
        Where the block raises `OSError`.
    """
    try:
        yield
    except OSError as error:
        raise refused(path, error) from error


def refused(path: Path, error: OSError) -> RecordingError:
    """Give the typed error for the system's refusal to write a file."""
    advice = _ADVICE.get(error.errno or 0, f"{error}: mend this")
    return RecordingError(
        f"{path}: cannot be written: {advice}, then try again, or go on later with resume=True. Every "
        "row that append() returned from is kept"
    )


def write_all(descriptor: int, data: Bytes, offset: int) -> None:
    """Write at a position of an open file; the system may take several bites."""
    rest = memoryview(data)
    while rest:
        written = os.pwrite(descriptor, rest, offset)
        offset += written
        rest = rest[written:]


def replace(path: Path | str, *parts: Bytes, durable: bool, partial: Path | str | None = None) -> None:
    """Put a file in place whole, whatever was there.

    Parameters
    ----------
    path
        The file.
    parts
        Its content, one part after another.
    durable
        Force it to the disk before going on.
    partial
        Where to write it before it is renamed; by default beside it. `path` itself where nobody reads that
        yet.
    """
    unfinished = partial or f"{path}.partial"
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666)
    try:
        try:
            offset = 0
            for part in parts:
                write_all(descriptor, part, offset)
                offset += len(part)
            if durable:
                os.fsync(descriptor)
        finally:
            os.close(descriptor)
        if unfinished != path:
            os.replace(unfinished, path)
    except OSError:
        with suppress(OSError):
            os.unlink(unfinished)
        raise
    if durable:
        sync_folder(Path(path).parent)


def rename(path: Path, target: Path) -> None:
    """Give a file another name, in place of what has that name."""
    os.replace(path, target)


def sync_folder(path: Path) -> None:
    """Force the names in a folder to the disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
