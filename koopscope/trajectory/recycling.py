"""Files whose pages are in memory before a row comes: of a journal whose rows are in the store, or of zeros.

A row is written to such pages in about half the time that new ones take, and looked at there without a copy.
"""

from __future__ import annotations

import os
import threading
from contextlib import suppress
from pathlib import Path

from koopscope.trajectory.files import rename, write_all
from koopscope.trajectory.records import MARK_BYTES

_ZEROS = memoryview(bytes(2**20))
MAX_PREPARED_BYTES = 64 * 2**20  # of a file that is filled with zeros
SPARE = "-spare"  # ends the name of the file, where the number of the first row ends that of a journal


def prepare(descriptor: int, begin: int, end: int) -> None:
    """Fill a part of a file with zeros, the first 64 MiB of it; nothing where the disk does not take them.

    Zeros, not a hole: on some file systems, looking at a hole needs space on the disk.
    """
    end = min(end, begin + MAX_PREPARED_BYTES)
    try:
        for offset in range(begin, end, len(_ZEROS)):
            write_all(descriptor, _ZEROS[: end - offset], offset)
    except OSError:
        os.ftruncate(descriptor, begin)


class Recycler:
    """Keeps at most one file, which readers do not take for a journal.

    Parameters
    ----------
    path
        Name of the file that is kept.
    """

    def __init__(self, path: Path) -> None:
        """Begin without a file."""
        self._path = path
        self._head_bytes: int | None = None  # of the header in the file that is kept; None: there is none
        self._lock = threading.Lock()  # journals are kept by the folding thread, and taken by the training

    def prepare(self, start: int, end: int) -> None:
        """Make a file of zeros for a journal to come, if none is kept.

        Parameters
        ----------
        start
            Length of the header.
        end
            Length of the whole journal.
        """
        with self._lock, suppress(OSError):
            if self._head_bytes is None:
                with self._path.open("xb", buffering=0) as file:
                    prepare(file.fileno(), 0, end)
                self._head_bytes = start

    def keep(self, journal: Path, starts: range) -> None:
        """Put the file of a journal aside, and mark its records as not begun.

        It loses its name first, by which readers know that they have read rows of that journal.

        Parameters
        ----------
        journal
            The file, which goes.
        starts
            Where its records begin.

        Raises
        ------
        OSError
            Where it can be neither renamed nor removed.
        """
        with self._lock:
            if self._head_bytes is not None:
                journal.unlink(missing_ok=True)
                return
            rename(journal, self._path)
            with suppress(OSError), self._path.open("r+b", buffering=0) as file:
                for start in starts:
                    write_all(file.fileno(), bytes(MARK_BYTES), start)
                self._head_bytes = starts.start

    def take(self, journal: Path, head: bytes) -> bool:
        """Make the file that is kept a journal, if there is one with room for the header.

        Parameters
        ----------
        journal
            Name of the new journal.
        head
            Its header.

        Returns
        -------
        bool
            Whether the journal is there now.
        """
        with self._lock:
            fits, self._head_bytes = self._head_bytes == len(head), None
            if not fits:
                return False
            with suppress(OSError), self._path.open("r+b", buffering=0) as file:
                write_all(file.fileno(), head, 0)
                rename(self._path, journal)
                return True
        return False

    def drop(self) -> None:
        """Remove the file that is kept, if there is one."""
        with self._lock, suppress(OSError):
            self._head_bytes = None
            os.unlink(self._path)
