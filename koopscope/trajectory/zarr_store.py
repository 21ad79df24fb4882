"""The Zarr store behind the writer: created whole, grown together, committed by one counter."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.codecs import BloscCodec, BytesCodec, Crc32cCodec

from koopscope.errors import OutputExistsError
from koopscope.trajectory import format as fmt


@dataclass(frozen=True)
class ArraySpec:
    """What one array of the store is: trailing shape, dtype, chunks, dims and attrs."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    chunks: tuple[int, ...]
    dims: tuple[str, ...]
    attrs: Mapping[str, Any]

    @property
    def fill(self) -> float | int:
        """Value of rows never written; the float one is NaN so that a lost chunk cannot pass for weights."""
        return fmt.STEP_FILL if self.dtype.kind == "i" else float("nan")


def check_target(path: Path, *, overwrite: bool) -> None:
    """Refuse a target that exists, unless it is a recording and overwriting was asked for.

    Raises
    ------
    OutputExistsError
        Where something is in the way.
    """
    if not path.exists():
        return
    if not overwrite:
        raise OutputExistsError(f"{path} exists; choose another path, or say overwrite=True to replace it")
    if not _is_recording(path):
        raise OutputExistsError(
            f"{path} exists and is not a recording made by koopscope, so overwrite=True does not replace it; "
            "choose another path, or remove it yourself"
        )


def _is_recording(path: Path) -> bool:
    try:
        attrs = zarr.open_group(path, mode="r", zarr_format=3, use_consolidated=False).attrs
    except (OSError, ValueError, KeyError, TypeError):
        return False
    return str(attrs.get(fmt.FORMAT_ATTR, "")).startswith("trajectory/")


class ZarrStore:
    """Arrays that grow together under one group, with the committed length kept last.

    Parameters
    ----------
    path
        Directory to create.
    specs
        The arrays, ``step`` among them; all have chunks of `block` rows.
    attrs
        Attrs of the group.
    block
        Rows in a chunk.
    overwrite
        Replace a recording that is there.
    """

    def __init__(
        self,
        path: Path,
        specs: Mapping[str, ArraySpec],
        attrs: Mapping[str, Any],
        *,
        block: int,
        overwrite: bool,
    ) -> None:
        """Create the store, empty, and open its arrays."""
        self._path = path
        self._block = block
        self._capacity = block
        self._create(specs, attrs, overwrite=overwrite)
        self._group = zarr.open_group(path, mode="r+", zarr_format=3, use_consolidated=False)
        self._arrays = {name: self._array(name) for name in specs}

    def _array(self, name: str) -> zarr.Array[Any]:
        array = zarr.open_array(self._path / name, mode="r+", zarr_format=3)
        return array.with_config({"write_empty_chunks": True})

    def _create(self, specs: Mapping[str, ArraySpec], attrs: Mapping[str, Any], *, overwrite: bool) -> None:
        """Create the empty store beside its place and rename it in, so that no half-made one is ever seen."""
        check_target(self._path, overwrite=overwrite)
        self._path.parent.mkdir(parents=True, exist_ok=True)
        token = uuid.uuid4().hex[:12]
        fresh = self._path.with_name(f".{self._path.name}.{token}.new")
        try:
            group = zarr.create_group(fresh, zarr_format=3, attributes=dict(attrs))
            for name, spec in specs.items():
                _create_array(group, name, spec, self._capacity)
            if self._path.exists():
                old = self._path.with_name(f".{self._path.name}.{token}.old")
                self._path.rename(old)
                fresh.rename(self._path)
                shutil.rmtree(old)
            else:
                fresh.rename(self._path)
        finally:
            shutil.rmtree(fresh, ignore_errors=True)

    def write_block(self, index: int, rows: Mapping[str, NDArray[Any]], committed: int) -> None:
        """Write one whole block of every array, then the committed length.

        Parameters
        ----------
        index
            Number of the block.
        rows
            Array names to `block` rows each; rows beyond the committed ones hold the fill value.
        committed
            Number of rows that readers may see from now on.
        """
        start, stop = index * self._block, (index + 1) * self._block
        while stop > self._capacity:
            self._capacity *= 2
        for array in self._arrays.values():
            if array.shape[0] < self._capacity:
                array.resize((self._capacity, *array.shape[1:]))
        # The step numbers and the counter come last: a row they count has all its weights on disk.
        for name in sorted(rows, key=lambda name: name == fmt.STEP):
            self._arrays[name][start:stop] = rows[name]
        self._group.update_attributes({fmt.COMMITTED_ATTR: committed})

    def close(self, committed: int) -> None:
        """Trim every array to the committed rows and mark the recording as closed."""
        for array in self._arrays.values():
            array.resize((committed, *array.shape[1:]))
        self._group.update_attributes({fmt.STATUS_ATTR: "closed"})


def _create_array(group: zarr.Group, name: str, spec: ArraySpec, rows: int) -> None:
    blosc = BloscCodec(
        typesize=spec.dtype.itemsize,
        cname=fmt.BLOSC_NAME,
        clevel=fmt.BLOSC_LEVEL,
        shuffle=fmt.BLOSC_SHUFFLE,
    )
    group.create_array(
        name,
        shape=(rows, *spec.shape),
        dtype=spec.dtype,
        chunks=spec.chunks,
        serializer=BytesCodec(endian=fmt.ENDIAN),
        compressors=(blosc, Crc32cCodec()),
        fill_value=spec.fill,
        dimension_names=spec.dims,
        attributes=dict(spec.attrs),
        config={"write_empty_chunks": True},
    )
