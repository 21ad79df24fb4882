"""The journal: rows that were recorded but are not in the store yet, in files beside it.

A file holds a header that describes the rows, then records of one size (see `records`).
"""

from __future__ import annotations

import json
import mmap
import os
import struct
import weakref
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from koopscope.errors import TrajectoryError
from koopscope.trajectory import format as fmt
from koopscope.trajectory.chunks import crc32c
from koopscope.trajectory.files import recording_errors, replace, sync_folder, write_all
from koopscope.trajectory.records import Field, Piece, RecordFormat

_MAGIC = b"KOOPJRN1"
_FILE_HEAD = struct.Struct("<8sII")  # magic, length of the description, its CRC-32C
_MAX_DESCRIPTION = 16 * 2**20
_READ_BACK_BYTES = 2**17  # at a time, which stays in the processor's cache
_DTYPES = ("<i8", "<f2", "<f4", "<f8")


def journal_path(store: Path, run_id: str, first_row: int) -> Path:
    """Name the journal of a run that begins with a row.

    >>> journal_path(Path("run.zarr"), "0123456789abcdef", 64).name
    'run.zarr.journal-01234567-000000000064'
    """
    return store.with_name(f"{store.name}.journal-{run_id[:8]}-{first_row:012d}")


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
    ) -> None:
        """Make the file with its header."""
        self.path = path
        self.run_id = run_id
        self.first_row = first_row
        self.rows = 0
        self.limit = limit
        self._format = record_format
        self._durable = durable
        self._buffer = np.empty(_READ_BACK_BYTES, np.uint8)
        head = _head(run_id, first_row, record_format.fields)
        self._start = len(head)
        with recording_errors(path):
            replace(path, head, durable=durable)
            descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        self._descriptor = descriptor
        self._close = weakref.finalize(self, os.close, descriptor)

    @property
    def full(self) -> bool:
        """Whether it has taken all its rows."""
        return self.rows >= self.limit

    def append(self, pieces: Iterable[Piece]) -> None:
        """Write a record and seal it; when this returns, the row survives the end of the process.

        Shared pieces are written as they lie, without a copy. Their checksum is that of what the file has by
        then, so that the record is sound even where another thread changes weights on the way.

        Parameters
        ----------
        pieces
            The record up to its seal.

        Raises
        ------
        RecordingError
            Where it cannot be written; nothing of it is kept.
        """
        begin = offset = self._start + self.rows * self._format.nbytes
        checksum = 0
        with recording_errors(self.path):
            try:
                for data, shared in pieces:
                    write_all(self._descriptor, data.data, offset)
                    if shared:
                        checksum = self._read_back(offset, data.size, checksum)
                    else:
                        checksum = crc32c(data, checksum)
                    offset += data.size
                write_all(self._descriptor, self._format.seal(checksum), offset)
                if self._durable:
                    os.fdatasync(self._descriptor)
            except OSError:
                with suppress(OSError):
                    os.ftruncate(self._descriptor, begin)
                raise
        self.rows += 1

    def _read_back(self, offset: int, size: int, checksum: int) -> int:
        """Add to a checksum what the file has in a place that was just written."""
        end = offset + size
        while offset < end:
            read = os.preadv(self._descriptor, [self._buffer.data[: end - offset]], offset)
            if not read:
                raise OSError(f"{self.path} has become shorter while it was written")
            checksum = crc32c(self._buffer[:read], checksum)
            offset += read
        return checksum

    def close(self) -> None:
        """Close the file, which stays."""
        self._close()

    def drop(self) -> None:
        """Close and remove the file."""
        self._close()
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
    text += b" " * (-(_FILE_HEAD.size + len(text)) % 64)
    return _FILE_HEAD.pack(_MAGIC, len(text), crc32c(text)) + text


@dataclass(frozen=True)
class JournalRows:
    """The rows of one journal that are whole and unharmed.

    Parameters
    ----------
    path, run_id, first_row
        The file, the run it belongs to, and the number of its first row.
    record_format
        What a record holds.
    start
        Where the records begin.
    rows
        Number of whole records before the first that is not.
    damage
        What is wrong after them; ``None`` where nothing follows but the beginning of a record.
    """

    path: Path
    run_id: str
    first_row: int
    record_format: RecordFormat
    start: int
    rows: int
    damage: str | None

    @property
    def stop(self) -> int:
        """Number of the row after the last."""
        return self.first_row + self.rows

    def views(self) -> dict[str, NDArray[Any]]:
        """See the rows of each field, in the file: nothing is read before it is looked at.

        Raises
        ------
        FileNotFoundError
            Where the journal is gone, as its rows are in the store by now.
        """
        needed = self.start + self.rows * self.record_format.nbytes
        return self.record_format.views(_mapped(self.path, needed), self.start, self.rows)


def read_journal(path: Path) -> JournalRows:
    """Read and check a journal: every record's number, length and checksum.

    Raises
    ------
    TrajectoryError
        Where its header is damaged.
    FileNotFoundError
        Where it is gone.
    """
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        head = file.read(_FILE_HEAD.size)
        described, start = _description(path, head, file.read(_description_length(path, head)))
    fields = tuple(_fields(path, described.get("fields")))
    run_id, first_row = described.get("run_id"), described.get("first_row")
    if not isinstance(run_id, str) or not isinstance(first_row, int) or first_row < 0:
        raise TrajectoryError(f"{path}: the header of this journal is not understood")
    record_format = RecordFormat(fields)
    whole = (size - start) // record_format.nbytes
    content = _mapped(path, start + whole * record_format.nbytes)
    rows, damage = 0, None
    while rows < whole and damage is None:
        begin = start + rows * record_format.nbytes
        if record_format.is_sealed(content[begin : begin + record_format.nbytes], first_row + rows):
            rows += 1
        else:
            damage = (
                f"row {first_row + rows} is damaged, and {whole - rows} rows from there on are not readable"
            )
    return JournalRows(path, run_id, first_row, record_format, start, rows, damage)


def _mapped(path: Path, size: int) -> NDArray[np.uint8]:
    with path.open("rb") as file:
        if os.fstat(file.fileno()).st_size < size:
            raise TrajectoryError(f"{path}: this journal has become shorter; open the recording again")
        return np.frombuffer(mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ), np.uint8)


def _description_length(path: Path, head: bytes) -> int:
    if len(head) < _FILE_HEAD.size or not head.startswith(_MAGIC):
        raise TrajectoryError(f"{path}: no journal of a recording, or one whose header is damaged")
    length = int(_FILE_HEAD.unpack(head)[1])
    if length > _MAX_DESCRIPTION:
        raise TrajectoryError(
            f"{path}: expected a header of at most {_MAX_DESCRIPTION} bytes, found {length}"
        )
    return length


def _description(path: Path, head: bytes, text: bytes) -> tuple[Mapping[str, Any], int]:
    _, length, checksum = _FILE_HEAD.unpack(head)
    if len(text) != length or crc32c(text) != checksum:
        raise TrajectoryError(f"{path}: the header of this journal is damaged")
    try:
        described = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise TrajectoryError(f"{path}: the header of this journal is no JSON ({error})") from error
    if not isinstance(described, dict):
        raise TrajectoryError(f"{path}: the header of this journal is not understood")
    return described, len(head) + len(text)


def _fields(path: Path, listed: Any) -> Iterator[Field]:
    for item in listed if isinstance(listed, list) and listed else [None]:
        known = item if isinstance(item, dict) else {}
        name, dtype, shape = known.get("name"), known.get("dtype"), known.get("shape")
        sizes = shape if isinstance(shape, list) and len(shape) <= fmt.MAX_RANK else [-1]
        usable = all(isinstance(n, int) and 0 <= n < 2**40 for n in sizes)
        if not isinstance(name, str) or dtype not in _DTYPES or not usable:
            raise TrajectoryError(f"{path}: the header of this journal lists a field {item!r:.80}")
        yield Field(name, dtype, tuple(sizes))
