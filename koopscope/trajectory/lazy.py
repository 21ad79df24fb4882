"""Arrays on disk behind xarray variables: nothing is read before it is indexed and asked for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from xarray.backends import BackendArray
from xarray.core import indexing

Read = Callable[[tuple[slice, ...]], NDArray[Any]]
ReadInto = Callable[[tuple[slice, ...], NDArray[Any]], NDArray[Any]]


class DiskArray(BackendArray):
    """The committed rows of one array on disk, read by basic slices.

    Parameters
    ----------
    read
        Reads a tuple of slices with positive steps, one an axis.
    shape
        Shape that is shown; the array on disk may have more rows, which stay unseen.
    dtype
        Dtype of the values.
    chunks
        Shape of what is decoded at once, where that is known.
    into
        Reads into an array that is given, to save a copy; gives what it has read, there or elsewhere.
    """

    def __init__(
        self,
        read: Read,
        shape: tuple[int, ...],
        dtype: np.dtype[Any],
        chunks: tuple[int, ...] | None = None,
        into: ReadInto | None = None,
    ) -> None:
        """Remember how to read; nothing is read."""
        self.into = into
        self._read = read
        self.shape = shape
        self.dtype = dtype
        self.chunks = chunks

    def __getitem__(self, key: indexing.ExplicitIndexer) -> Any:
        """Read one selection; fancy parts of it are cut from the smallest slices that hold them."""
        return indexing.explicit_indexing_adapter(
            key, self.shape, indexing.IndexingSupport.BASIC, self._basic
        )

    def _basic(self, key: tuple[int | slice, ...]) -> NDArray[Any]:
        slices = []
        drop: list[int | slice] = []
        for length, part in zip(self.shape, key, strict=True):
            if isinstance(part, slice):
                start, stop, step = part.indices(length)
                slices.append(slice(start, max(start, stop), step))
                drop.append(slice(None))
            else:
                slices.append(slice(int(part), int(part) + 1, 1))
                drop.append(0)
        return self._read(tuple(slices))[tuple(drop)]


def lazily(
    read: Read,
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    chunks: tuple[int, ...] | None = None,
    into: ReadInto | None = None,
) -> indexing.LazilyIndexedArray:
    """Wrap an array on disk so that xarray slices it without reading.

    Parameters
    ----------
    read
        Reads a tuple of slices with positive steps, one an axis.
    shape, dtype
        What is shown of the array.
    chunks, into
        As for `DiskArray`.
    """
    return indexing.LazilyIndexedArray(DiskArray(read, shape, dtype, chunks, into))


def read_into(variable: xr.Variable, key: slice, out: NDArray[Any]) -> None:
    """Put some rows of a variable into an array, decoding them there where that can be done.

    Parameters
    ----------
    variable
        On disk or in memory.
    key
        The rows.
    out
        Of the shape of the rows.
    """
    selected = variable[key]
    data = selected._data
    disk = getattr(data, "array", None)
    if isinstance(data, indexing.LazilyIndexedArray) and isinstance(disk, DiskArray) and disk.into:
        slices = [part for part in data.key.tuple if isinstance(part, slice) and (part.step or 1) > 0]
        if len(slices) == len(disk.shape) and out.dtype == disk.dtype:
            found = disk.into(tuple(slices), out)
            if found is not out:
                out[...] = found
            return
    out[...] = selected.values


def encoding_of(dims: tuple[str, ...], array: Any) -> dict[str, Any]:
    """Tell the chunks of a lazy array in the place where xarray keeps them; empty where they are unknown."""
    disk = getattr(array, "array", None)
    chunks = disk.chunks if isinstance(disk, DiskArray) else None
    return {} if chunks is None else {"preferred_chunks": dict(zip(dims, chunks, strict=True))}
