"""Reading a journal: its rows up to the first that is not whole, and what is wrong after them."""

from __future__ import annotations

import json
import mmap
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from koopscope.errors import TrajectoryError
from koopscope.trajectory import format as fmt
from koopscope.trajectory.chunks import crc32c
from koopscope.trajectory.journal import FILE_HEAD, MAGIC
from koopscope.trajectory.records import MARK_BYTES, Field, RecordFormat

_MAX_DESCRIPTION = 16 * 2**20
_DTYPES = ("<i8", "<f2", "<f4", "<f8")


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

    @property
    def starts(self) -> range:
        """Where the records of its rows begin in the file."""
        size = self.record_format.nbytes
        return range(self.start, self.start + self.rows * size, size)

    def views(self) -> dict[str, NDArray[Any]]:
        """See the rows of each field, in the file: nothing is read before it is looked at.

        A writer uses the file for other rows after it has renamed it: what was read holds if
        `require_in_place` passes afterwards.

        Raises
        ------
        FileNotFoundError
            Where the journal is gone, as its rows are in the store by now.
        """
        needed = self.start + self.rows * self.record_format.nbytes
        with self.path.open("rb") as file:
            return self.record_format.views(_mapped(self.path, file, needed), self.start, self.rows)

    def require_in_place(self) -> None:
        """Check that what was read before this call are the rows of this journal.

        Raises
        ------
        FileNotFoundError
            Where the journal is gone, as its rows are in the store by now.
        """
        self.path.stat()


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
        head = file.read(FILE_HEAD.size)
        try:
            described, start = _description(path, head, file.read(_description_length(path, head)))
            fields = tuple(_fields(path, described.get("fields")))
            run_id, first_row = described.get("run_id"), described.get("first_row")
            if not isinstance(run_id, str) or not isinstance(first_row, int) or first_row < 0:
                raise TrajectoryError(f"{path}: the header of this journal is not understood")
            record_format = RecordFormat(fields)
            whole = (size - start) // record_format.nbytes
            content = _mapped(path, file, start + whole * record_format.nbytes)
            records = content[start:].reshape(whole, record_format.nbytes)
            rows, damage = _whole_rows(records, record_format, first_row)
        finally:
            path.stat()  # gone: another journal uses the file by now, and what was read means nothing
    return JournalRows(path, run_id, first_row, record_format, start, rows, damage)


def _whole_rows(
    records: NDArray[np.uint8], record_format: RecordFormat, first_row: int
) -> tuple[int, str | None]:
    """Count the records that are sealed, up to the first that is not; say what is wrong after them."""
    begun = np.flatnonzero(records[:, :MARK_BYTES].any(axis=1))
    for row in range(len(begun)):
        if begun[row] != row or not record_format.is_sealed(records[row], first_row + row):
            lost = int(begun[-1]) + 1 - row
            return row, f"row {first_row + row} is damaged, and {lost} rows from there on are not readable"
    return len(begun), None


def _mapped(path: Path, file: BufferedReader, size: int) -> NDArray[np.uint8]:
    if os.fstat(file.fileno()).st_size < size:
        raise TrajectoryError(f"{path}: this journal has become shorter; open the recording again")
    return np.frombuffer(mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ), np.uint8)


def _description_length(path: Path, head: bytes) -> int:
    if len(head) < FILE_HEAD.size or not head.startswith(MAGIC):
        raise TrajectoryError(f"{path}: no journal of a recording, or one whose header is damaged")
    length = int(FILE_HEAD.unpack(head)[1])
    if length > _MAX_DESCRIPTION:
        raise TrajectoryError(
            f"{path}: expected a header of at most {_MAX_DESCRIPTION} bytes, found {length}"
        )
    return length


def _description(path: Path, head: bytes, text: bytes) -> tuple[Mapping[str, Any], int]:
    _, length, checksum = FILE_HEAD.unpack(head)
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
