"""The metadata of a Zarr store, read by hand: every limit holds before any Zarr code acts on it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np
from numpy.typing import NDArray

from koopscope.errors import TrajectoryError
from koopscope.trajectory import format as fmt
from koopscope.trajectory.chunks import ChunkError, chunk_grid, crc32c, run_first, swapped
from koopscope.trajectory.columns import ColumnReader, FileFetch
from koopscope.trajectory.tail import Tail, find_tail

_DTYPES = {name: np.dtype(name) for name in ("float16", "float32", "float64", "int64")}
CHECKSUM_ATTR = "checksum"
# What the checksum covers besides the attrs it lists; the rest of the metadata cannot change a value unseen.
_SIGNED = ("chunk_grid", "chunk_key_encoding", "data_type", "dimension_names", "node_type", "shape")


class StoredArray:
    """One array of a store: its checked metadata, its committed rows, and how to read them.

    Parameters
    ----------
    path
        Directory of the array.
    committed
        Number of rows that are committed; later ones in the store are never shown.
    tail
        Rows after them, in the journal of an open recording.

    Attributes
    ----------
    shape
        Rows first, then runs where there are any, then the shape of the tensor.

    Raises
    ------
    TrajectoryError
        Where the metadata is not that of a recorded array, or exceeds the limits.
    """

    def __init__(self, path: Path, committed: int, tail: Tail | None = None) -> None:
        """Read and check the metadata."""
        metadata = read_metadata(path)
        if "attributes" not in metadata:
            raise TrajectoryError(
                f"{path / 'zarr.json'}: expected a JSON object under 'attributes', found none"
            )
        self.path = path
        self.attrs = json_object(metadata, "attributes", path)
        self.dtype = _dtype(metadata, path)
        shape = _shape(metadata, self.dtype.itemsize, path)
        shape = swapped(shape) if run_first(metadata) else shape
        self.grid = chunk_grid(metadata, self.dtype, str(path))
        if shape[0] < committed:
            raise TrajectoryError(
                f"{path}: expected at least the {committed} rows that were committed, found {shape[0]}; "
                "the store is damaged"
            )
        check_signature(metadata, path)
        self._committed = committed
        self._tail = tail
        self.shape = (committed if tail is None else tail.stop, *shape[1:])

    def read(self, key: tuple[slice, ...], out: NDArray[Any] | None = None) -> NDArray[Any]:
        """Read a tuple of slices with positive steps, one an axis.

        Parameters
        ----------
        key
            The slices.
        out
            Where to put what is read; not used by rows that are still in a journal.

        Raises
        ------
        TrajectoryError
            Where a chunk is missing or damaged.
        """
        rows = range(*key[0].indices(self.shape[0]))
        try:
            return self._read(rows, key[1:], out)
        except (ChunkError, FileNotFoundError) as error:
            newer = self._newer()
            if newer is None:
                raise TrajectoryError(f"{self.path}: damaged, cannot be read ({error})") from error
            return newer.read((slice(rows.start, rows.stop, rows.step), *key[1:]))
        except OSError as error:
            raise TrajectoryError(f"{self.path}: cannot be read ({error})") from error

    def _read(self, rows: range, columns: tuple[slice, ...], out: NDArray[Any] | None) -> NDArray[Any]:
        stored = rows[: len(range(rows.start, min(rows.stop, self._committed), rows.step))]
        reader = ColumnReader(self.shape, self.grid, FileFetch(self.path))
        parts = []
        if stored or not rows:
            whole = out if len(stored) == len(rows) else None
            parts.append(reader.read((slice(rows.start, stored.stop, rows.step), *columns), whole))
        if self._tail is not None and len(stored) < len(rows):
            first = rows[len(stored)]
            later = self._tail.read(self.path.name, first, self.shape[1:], self.dtype)
            parts.append(later[(slice(0, rows.stop - first, rows.step), *columns)])
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def _newer(self) -> StoredArray | None:
        """Give the same rows as they are stored now, where a writer has moved them meanwhile."""
        store = self.path.parent
        try:
            _, tail = find_tail(store, lambda: read_root(store))
            newer = StoredArray(self.path, tail.first, tail)
        except OSError:
            return None
        moved = (newer.grid, newer._tail) != (self.grid, self._tail)
        return newer if moved and newer.shape[0] >= self.shape[0] else None

    @property
    def runs(self) -> int | None:
        """Number of runs in the array; ``None`` where it has no such axis."""
        return self.shape[1] if self.grid.run_first else None

    def read_all(self) -> NDArray[Any]:
        """Read all committed rows."""
        return self.read(tuple(slice(0, length, 1) for length in self.shape))

    def text(self, attr: str, default: str) -> str:
        """Give an attr as text."""
        return str(self.attrs.get(attr, default))

    def count(self, attr: str, default: int) -> int:
        """Give an attr that must be a count.

        Raises
        ------
        TrajectoryError
            Where it is none.
        """
        value = self.attrs.get(attr, default)
        if not is_count(value):
            raise TrajectoryError(f"{self.path}: expected a count in the attr {attr!r}, found {value!r:.80}")
        return value

    def axes(self, attr: str) -> tuple[int, ...] | None:
        """Give an attr that must be a list of axes, the step axis not counted; ``None`` where it is absent.

        Raises
        ------
        TrajectoryError
            Where it is none.
        """
        axes = self.attrs.get(attr)
        rank = len(self.shape) - (2 if self.grid.run_first else 1)
        if axes is None:
            return None
        if not isinstance(axes, list) or not all(is_count(axis) and axis < rank for axis in axes):
            raise TrajectoryError(
                f"{self.path}: expected a list of axes below {rank} in the attr {attr!r}, found {axes!r:.80}"
            )
        return tuple(axes)


def read_metadata(path: Path) -> dict[str, Any]:
    """Read the ``zarr.json`` of a directory.

    Raises
    ------
    TrajectoryError
        Where it is not metadata of Zarr version 3.
    """
    file = path / "zarr.json"
    size = file.stat().st_size
    if size > fmt.MAX_METADATA_BYTES:
        raise TrajectoryError(f"{file}: expected at most {fmt.MAX_METADATA_BYTES} bytes, found {size}")
    try:
        metadata = json.loads(file.read_bytes())
    except (ValueError, RecursionError) as error:
        raise TrajectoryError(f"{file}: expected JSON ({error}); the store is damaged") from error
    if not isinstance(metadata, dict) or metadata.get("zarr_format") != 3:
        raise TrajectoryError(f"{file}: expected metadata of Zarr version 3")
    return metadata


def read_root(path: Path) -> dict[str, Any]:
    """Read and check the attrs of a recording's root.

    Raises
    ------
    TrajectoryError
        Where it is no recording, one of a version that is not read, or damaged.
    """
    metadata = read_metadata(path)
    attrs = json_object(metadata, "attributes", path)
    fmt.check_version(attrs.get(fmt.FORMAT_ATTR), str(path))
    committed = attrs.get(fmt.COMMITTED_ATTR)
    if not is_count(committed):
        raise TrajectoryError(f"{path}: expected a count in {fmt.COMMITTED_ATTR}, found {committed!r:.80}")
    fmt.check_rows(str(path), committed)
    check_signature(metadata, path)
    return attrs


def json_object(metadata: Mapping[str, Any], key: str, path: Path) -> dict[str, Any]:
    """Give the JSON object under a key, empty where there is none.

    Raises
    ------
    TrajectoryError
        Where something else is there.
    """
    value = metadata.get(key, {})
    if not isinstance(value, dict):
        raise TrajectoryError(f"{path}: expected a JSON object under {key!r}, found {value!r:.80}")
    return value


def is_count(value: object) -> TypeGuard[int]:
    """Tell whether a JSON value is a whole number of 0 or more (``true`` is not)."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def signed(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Give metadata a checksum of what tells values and their meaning; attrs added later do not break it.

    Parameters
    ----------
    metadata
        Of an array or a group, an older checksum included or not.
    """
    attrs = {name: value for name, value in metadata["attributes"].items() if name != CHECKSUM_ATTR}
    names = sorted(attrs)
    checksum = {"crc32c": _signature(metadata, attrs, names), "attributes": names}
    return {**metadata, "attributes": {**attrs, CHECKSUM_ATTR: checksum}}


def check_signature(metadata: Mapping[str, Any], path: Path) -> None:
    """Check the checksum of metadata; that of other programs has none.

    Raises
    ------
    TrajectoryError
        Where they are damaged.
    """
    attrs = json_object(metadata, "attributes", path)
    checksum = attrs.get(CHECKSUM_ATTR)
    if checksum is None:
        return
    names = checksum.get("attributes") if isinstance(checksum, dict) else None
    if not isinstance(names, list) or _signature(metadata, attrs, names) != checksum.get("crc32c"):
        raise TrajectoryError(
            f"{path / 'zarr.json'}: damaged, its checksum is wrong. If it was changed on purpose, remove the "
            f"attr {CHECKSUM_ATTR!r}"
        )


def _signature(metadata: Mapping[str, Any], attrs: Mapping[str, Any], names: list[Any]) -> int:
    covered = [metadata.get(key) for key in _SIGNED] + [[name, attrs.get(str(name))] for name in names]
    return crc32c(json.dumps(covered, sort_keys=True, separators=(",", ":")).encode())


def _dtype(metadata: Mapping[str, Any], path: Path) -> np.dtype[Any]:
    name = metadata.get("data_type")
    if not isinstance(name, str) or name not in _DTYPES:
        raise TrajectoryError(f"{path}: expected values of {', '.join(_DTYPES)}, found {name!r:.80}")
    return _DTYPES[name]


def _shape(metadata: Mapping[str, Any], itemsize: int, path: Path) -> tuple[int, ...]:
    grid = json_object(metadata, "chunk_grid", path)
    shape = metadata.get("shape")
    chunks = json_object(grid, "configuration", path).get("chunk_shape")
    if (
        not isinstance(shape, list)
        or not isinstance(chunks, list)
        or not (len(shape) == len(chunks) > (1 if run_first(metadata) else 0))
        or not all(map(is_count, shape))
        or not all(is_count(length) and length > 0 for length in chunks)
    ):
        raise TrajectoryError(
            f"{path}: expected a shape with a leading step axis and regular chunks, found {shape!r:.80} "
            f"and {chunks!r:.80}"
        )
    fmt.check_limits(str(path), tuple(shape), itemsize * math.prod(chunks))
    return tuple(shape)
