"""The metadata of a Zarr store, read by hand: every limit holds before any Zarr code acts on it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np
import zarr
from numpy.typing import NDArray

from koopscope.errors import TrajectoryError
from koopscope.trajectory import format as fmt

_DTYPES = {name: np.dtype(name) for name in ("float16", "float32", "float64", "int64")}
_CODECS = frozenset({"bytes", "blosc", "zstd", "gzip", "crc32c", "transpose", "sharding_indexed"})


class StoredArray:
    """One array of a store: its checked metadata, its committed rows, and how to read them.

    Parameters
    ----------
    path
        Directory of the array.
    committed
        Number of rows that are committed; later ones are never shown.

    Raises
    ------
    TrajectoryError
        Where the metadata is not that of a recorded array, or exceeds the limits.
    """

    def __init__(self, path: Path, committed: int) -> None:
        """Read and check the metadata."""
        metadata = read_metadata(path)
        self.path = path
        self.attrs = json_object(metadata, "attributes", path)
        self.dtype = _dtype(metadata, path)
        _check_codecs(metadata, path)
        shape = _shape(metadata, self.dtype.itemsize, path)
        if shape[0] < committed:
            raise TrajectoryError(
                f"{path}: expected at least the {committed} rows that were committed, found {shape[0]}; "
                "the store is damaged"
            )
        self.shape = (committed, *shape[1:])

    @cached_property
    def _array(self) -> zarr.Array[Any]:
        return zarr.open_array(self.path, mode="r", zarr_format=3)

    def read(self, key: tuple[slice, ...]) -> NDArray[Any]:
        """Read a tuple of slices with positive steps, one an axis.

        Raises
        ------
        TrajectoryError
            Where a chunk is damaged.
        """
        try:
            return np.asarray(self._array[key])
        except (ValueError, RuntimeError, OSError) as error:
            raise TrajectoryError(f"{self.path}: damaged, cannot be read ({error})") from error

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
        rank = len(self.shape) - 1
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


def _dtype(metadata: Mapping[str, Any], path: Path) -> np.dtype[Any]:
    name = metadata.get("data_type")
    if not isinstance(name, str) or name not in _DTYPES:
        raise TrajectoryError(f"{path}: expected values of {', '.join(_DTYPES)}, found {name!r:.80}")
    return _DTYPES[name]


def _check_codecs(metadata: Mapping[str, Any], path: Path) -> None:
    """Let only codecs pass that turn bytes into numbers and can do nothing else."""
    codecs = metadata.get("codecs")
    names = [codec.get("name") for codec in codecs if isinstance(codec, dict)] if codecs else []
    strange = [name for name in names if not isinstance(name, str) or name not in _CODECS]
    if strange or not names:
        raise TrajectoryError(
            f"{path}: expected codecs of {', '.join(sorted(_CODECS))}, found {strange or 'none'!r:.80}"
        )


def _shape(metadata: Mapping[str, Any], itemsize: int, path: Path) -> tuple[int, ...]:
    grid = json_object(metadata, "chunk_grid", path)
    shape = metadata.get("shape")
    chunks = json_object(grid, "configuration", path).get("chunk_shape")
    if (
        not isinstance(shape, list)
        or not isinstance(chunks, list)
        or not (len(shape) == len(chunks) > 0)
        or not all(map(is_count, shape))
        or not all(is_count(length) and length > 0 for length in chunks)
    ):
        raise TrajectoryError(
            f"{path}: expected a shape with a leading step axis and regular chunks, found {shape!r:.80} "
            f"and {chunks!r:.80}"
        )
    fmt.check_limits(str(path), tuple(shape), itemsize * math.prod(chunks))
    return tuple(shape)
