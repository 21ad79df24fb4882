"""Arrays on disk behind xarray variables: nothing is read before it is indexed and asked for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from xarray.backends import BackendArray
from xarray.core import indexing

Read = Callable[[tuple[slice, ...]], NDArray[Any]]


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
    """

    def __init__(self, read: Read, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        """Remember how to read; nothing is read."""
        self._read = read
        self.shape = shape
        self.dtype = dtype

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


def lazily(read: Read, shape: tuple[int, ...], dtype: np.dtype[Any]) -> indexing.LazilyIndexedArray:
    """Wrap an array on disk so that xarray slices it without reading.

    Parameters
    ----------
    read
        Reads a tuple of slices with positive steps, one an axis.
    shape, dtype
        What is shown of the array.
    """
    return indexing.LazilyIndexedArray(DiskArray(read, shape, dtype))
