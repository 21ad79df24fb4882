"""One writer a store: a lock that the system gives back when its holder is killed."""

from __future__ import annotations

import errno
import os
import warnings
import weakref
from contextlib import suppress
from functools import cache
from pathlib import Path

from koopscope.errors import RecordingError
from koopscope.trajectory.files import recording_errors

try:
    from fcntl import LOCK_EX, LOCK_NB, flock
except ImportError:  # pragma: no cover - there is none on Windows
    flock = None  # type: ignore[assignment]

_NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)


class StoreLock:
    """The right to write to one store, until `release` or the end of the process.

    Parameters
    ----------
    path
        The store; the lock is a file beside it.

    Raises
    ------
    RecordingError
        Where another writer holds it, or the lock file cannot be made.
    """

    def __init__(self, path: Path) -> None:
        """Take the lock."""
        self._file = path.with_name(f"{path.name}.lock")
        with recording_errors(path):
            descriptor = _acquire(self._file, path)
        self._close = weakref.finalize(self, os.close, descriptor)
        # At exit the system closes it, after the last thread that may still be writing.
        self._close.atexit = False
        _held().add(self)

    def release(self) -> None:
        """Give the lock back; a second time does nothing."""
        if self._close.alive:
            with suppress(OSError):
                self._file.unlink()
            self._close()

    def forget(self) -> None:
        """Close the copy that the child of a fork has, or the lock would outlive its parent."""
        self._close()


@cache
def _held() -> weakref.WeakSet[StoreLock]:
    """Give the locks of this process, after seeing to it once that forks do not share them."""
    held: weakref.WeakSet[StoreLock] = weakref.WeakSet()

    def forget_all() -> None:
        for lock in list(held):
            lock.forget()

    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=forget_all)
    return held


def _acquire(file: Path, path: Path) -> int:
    """Open and lock the file; it may be removed by its holder in between, then once more."""
    while True:
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            _lock(descriptor, path)
            with suppress(FileNotFoundError):
                if os.path.samestat(os.stat(file), os.fstat(descriptor)):
                    os.ftruncate(descriptor, 0)
                    os.write(descriptor, f"{os.getpid()}\n".encode())
                    return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _lock(descriptor: int, path: Path) -> None:
    reason = "this system has no flock"
    if flock is not None:
        try:
            flock(descriptor, LOCK_EX | LOCK_NB)
        except BlockingIOError as error:
            holder = os.pread(descriptor, 20, 0).decode(errors="replace").strip() or "unknown"
            raise RecordingError(
                f"{path}: another writer records to it (process {holder}); wait until it ends, or choose "
                "another path"
            ) from error
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
            reason = f"this file system has no flock ({error.strerror})"
        else:
            return
    warnings.warn(
        f"{path}: {reason}, so that a second writer to it would not be noticed: see to it that there is one",
        UserWarning,
        stacklevel=2,
    )
