"""One record of a journal: where the fields of a row lie in it, and the seal that tells it is whole.

A record is a header (16 bytes: ``ROW``, five zeros, the row's number as a 64-bit integer), the row, and a
trailer (16 bytes: length of the row as a 64-bit integer, CRC-32C of all before it, four zeros). Numbers are
little-endian.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from koopscope.trajectory.chunks import crc32c

_HEAD = struct.Struct("<4s4xQ")
_TAIL = struct.Struct("<QI4x")
_LENGTH, _CHECKSUM = struct.Struct("<Q"), struct.Struct("<I4x")  # its two parts
_MAGIC = b"ROW\0"
_ALIGNMENT = 8
MARK_BYTES = 8  # ``ROW`` and five zeros; records begin where these never straddle two pages


@dataclass(frozen=True)
class Field:
    """One value of a row: name, little-endian dtype and shape."""

    name: str
    dtype: str
    shape: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        """Bytes it takes in a row."""
        return np.dtype(self.dtype).itemsize * math.prod(self.shape)


class Piece(NamedTuple):
    """Some bytes of a record, in the order they are written.

    Parameters
    ----------
    data
        The bytes.
    shared
        Whether they are memory of the framework, which another thread may change at any moment.
    """

    data: NDArray[np.uint8]
    shared: bool


@dataclass(frozen=True)
class RecordFormat:
    """Where the fields of a row lie in a record."""

    fields: tuple[Field, ...]

    @cached_property
    def offsets(self) -> tuple[int, ...]:
        """Start of each field in the record, and the end of the row last."""
        offsets = [_HEAD.size]
        for field in self.fields:
            offsets.append(offsets[-1] + -(-field.nbytes // _ALIGNMENT) * _ALIGNMENT)
        return tuple(offsets)

    @property
    def nbytes(self) -> int:
        """Bytes of a record."""
        return self.offsets[-1] + _TAIL.size

    def views(self, buffer: NDArray[np.uint8], start: int, rows: int) -> dict[str, NDArray[Any]]:
        """See the fields of `rows` records in a buffer, leading axis row.

        Parameters
        ----------
        buffer
            Bytes that hold the records.
        start
            Where the first record begins.
        rows
            Number of records.
        """
        views: dict[str, NDArray[Any]] = {}
        for field, offset in zip(self.fields, self.offsets, strict=False):
            dtype, shape = np.dtype(field.dtype), (rows, *field.shape)
            if 0 in shape:
                views[field.name] = np.empty(shape, dtype)
                continue
            within = [dtype.itemsize * math.prod(field.shape[i + 1 :]) for i in range(len(field.shape))]
            strides = (self.nbytes, *within)
            views[field.name] = np.ndarray(shape, dtype, buffer, start + offset, strides)
        return views

    def begin(self, record: NDArray[np.uint8], row: int) -> None:
        """Write the head of a record."""
        _HEAD.pack_into(record.data, 0, _MAGIC, row)

    def seal(self, last: NDArray[np.uint8], checksum: int) -> None:
        """Write the trailer into the last piece of a record.

        Parameters
        ----------
        last
            The piece, which ends with room for it.
        checksum
            CRC-32C of the pieces before.
        """
        place = last.size - _TAIL.size
        _LENGTH.pack_into(last.data, place, self.offsets[-1] - _HEAD.size)
        sealed = place + _LENGTH.size
        _CHECKSUM.pack_into(last.data, sealed, crc32c(last[:sealed], checksum))

    def is_sealed(self, record: NDArray[np.uint8], row: int) -> bool:
        """Tell whether a record is whole, unharmed, and that of a row."""
        end = self.offsets[-1]
        magic, number = _HEAD.unpack_from(record.data, 0)
        length, checksum = _TAIL.unpack_from(record.data, end)
        return bool(
            (magic, number, length) == (_MAGIC, row, end - _HEAD.size)
            and checksum == crc32c(record[: end + 8])
        )
