"""The journal: rows that were recorded but are not in the store yet, in files beside it.

A file holds a header that describes the rows, then records of one size (see `records`). A record whose first
eight bytes are zeros was not finished, or never begun: they are the last that is written of it.
"""

from __future__ import annotations

import json
import mmap
import os
import struct
import weakref
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from koopscope.trajectory.chunks import crc32c
from koopscope.trajectory.files import recording_errors, refused, replace, sync_folder, write_all
from koopscope.trajectory.records import MARK_BYTES, Field, Piece, RecordFormat
from koopscope.trajectory.recycling import SPARE, Recycler, prepare

MAGIC = b"KOOPJRN1"
FILE_HEAD = struct.Struct("<8sII")  # magic, length of the description, its CRC-32C
_NOTHING = np.empty(0, np.uint8)
_READ_BACK_BYTES = 2**17  # at a time, which stays in the processor's cache


def journal_path(store: Path, run_id: str, first_row: int) -> Path:
    """Name the journal of a run that begins with a row.

    >>> journal_path(Path("run.zarr"), "0123456789abcdef", 64).name
    'run.zarr.journal-01234567-000000000064'
    """
    return store.with_name(f"{store.name}.journal-{run_id[:8]}-{first_row:012d}")


def spare_path(store: Path, run_id: str) -> Path:
    """Name the file of an earlier journal that is kept to be used again.

    >>> spare_path(Path("run.zarr"), "0123456789abcdef").name
    'run.zarr.journal-01234567-spare'
    """
    return store.with_name(f"{store.name}.journal-{run_id[:8]}{SPARE}")


def find_journals(store: Path, run_id: str) -> list[Path]:
    """List the journals of a run in the order of their rows."""
    begin = f"{store.name}.journal-{run_id[:8]}-"
    with suppress(FileNotFoundError):
        names = [name for name in os.listdir(store.parent) if name.startswith(begin)]
        return [store.with_name(name) for name in sorted(names) if name.removeprefix(begin).isdigit()]
    return []


class Journal:
    """A journal that is being written.

    Parameters
    ----------
    path
        The file, which must not be there.
    run_id
        The run whose rows it takes.
    first_row
        Number of the first row it takes.
    limit
        Number of rows after which it is full.
    record_format
        What a record holds.
    durable
        Force every record to the disk.
    recycler
        May have the file of an earlier journal, which is used again then.

    Raises
    ------
    RecordingError
        Where it cannot be made.
    """

    def __init__(
        self,
        path: Path,
        run_id: str,
        first_row: int,
        limit: int,
        record_format: RecordFormat,
        *,
        durable: bool,
        recycler: Recycler | None = None,
    ) -> None:
        """Make the file with its header."""
        self.path = path
        self.run_id = run_id
        self.first_row = first_row
        self.rows = 0
        self.limit = limit
        self._format = record_format
        self._durable = durable
        head = _head(run_id, first_row, record_format.fields)
        self._start = len(head)
        with recording_errors(path):
            if recycler is None or not recycler.take(path, head):
                replace(path, head, durable=durable)
            descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
            self._descriptor = descriptor
            self._close = weakref.finalize(self, os.close, descriptor)
            self._content = self._mapped()

    @property
    def full(self) -> bool:
        """Whether it has taken all its rows."""
        return self.rows >= self.limit

    def prepare(self, recycler: Recycler) -> None:
        """Have the pages of the file, and of one for the next journal, in memory before rows come."""
        prepare(self._descriptor, self._start, self._end)
        self._content = self._mapped()
        recycler.prepare(self._start, self._end)

    def append(self, pieces: Sequence[Piece]) -> None:
        """Write a record and seal it; when this returns, the row survives the end of the process.

        Shared pieces are written as they lie, without a copy. Their checksum is that of what the file has by
        then, so that the record is sound even where another thread changes weights on the way.

        Parameters
        ----------
        pieces
            The record: its mark, then the rest, of which the last ends with room for the seal.

        Raises
        ------
        RecordingError
            Where it cannot be written; nothing of it is kept.
        """
        begin = self._start + self.rows * self._format.nbytes
        mark, *rest = pieces
        try:
            self._write_row(rest, begin + MARK_BYTES, crc32c(mark.data))
            # Last, and in one page: a process that dies on the way leaves a record that is not marked.
            write_all(self._descriptor, mark.data.data, begin)
            if self._durable:
                os.fdatasync(self._descriptor)
        except OSError as error:
            with suppress(OSError):
                os.pwrite(self._descriptor, bytes(MARK_BYTES), begin)
            raise refused(self.path, error) from error
        self.rows += 1

    @property
    def _end(self) -> int:
        """Length of the file when it is full."""
        return self._start + self.limit * self._format.nbytes

    def _mapped(self) -> NDArray[np.uint8]:
        """See what is there of the file: all of it where it had other rows before, or was prepared."""
        with suppress(OSError):  # some file systems show nothing
            size = min(os.fstat(self._descriptor).st_size, self._end)
            return np.frombuffer(mmap.mmap(self._descriptor, size, access=mmap.ACCESS_READ), np.uint8)
        return _NOTHING

    def _write_row(self, pieces: Sequence[Piece], offset: int, checksum: int) -> None:
        """Write what follows the mark, and seal it."""
        for data, shared in pieces[:-1]:
            write_all(self._descriptor, data.data, offset)
            checksum = self._read_back(offset, data.size, checksum) if shared else crc32c(data, checksum)
            offset += data.size
        last = pieces[-1].data
        self._format.seal(last, checksum)
        write_all(self._descriptor, last.data, offset)

    def _read_back(self, offset: int, size: int, checksum: int) -> int:
        """Add to a checksum what the file has in a place that was just written."""
        end = offset + size
        if end <= self._content.size:
            return crc32c(self._content[offset:end], checksum)
        # Pages that are new are copied in less time than mapped.
        buffer = np.empty(min(size, _READ_BACK_BYTES), np.uint8)
        while offset < end:
            read = os.preadv(self._descriptor, [buffer.data[: end - offset]], offset)
            if not read:
                raise OSError(f"{self.path} has become shorter while it was written")
            checksum = crc32c(buffer[:read], checksum)
            offset += read
        return checksum

    def close(self) -> None:
        """Close the file, which stays."""
        self._content = _NOTHING
        self._close()

    def drop(self) -> None:
        """Close and remove the file."""
        self.close()
        remove(self.path, durable=self._durable)


def remove(path: Path, *, durable: bool) -> None:
    """Remove a journal whose rows are in the store.

    Raises
    ------
    RecordingError
        Where that is not allowed.
    """
    with recording_errors(path):
        path.unlink(missing_ok=True)
        if durable:
            sync_folder(path.parent)


def _head(run_id: str, first_row: int, fields: Sequence[Field]) -> bytes:
    described = {"run_id": run_id, "first_row": first_row, "fields": [asdict(field) for field in fields]}
    text = json.dumps(described, separators=(",", ":")).encode()
    # Padded, so that every record begins where its numbers are aligned.
    text += b" " * (-(FILE_HEAD.size + len(text)) % 64)
    return FILE_HEAD.pack(MAGIC, len(text), crc32c(text)) + text
