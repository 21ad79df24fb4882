"""What an HDF5 file may make us do: checked on its metadata, before anything of it is read or unpacked.

HDF5 loads code for filters it does not know, follows links out of the file, fills what was never written,
and grows its buffers to whatever a compressed chunk unpacks to. None of that is let happen.
"""

from __future__ import annotations

import math
import zlib
from collections import deque
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import h5py

from koopscope.errors import TrajectoryError
from koopscope.trajectory import format as fmt
from koopscope.trajectory.names import clean

_DEFLATE, _SHUFFLE, _FLETCHER32, _LZF = 1, 2, 3, 32000
_FILTERS = frozenset({_DEFLATE, _SHUFFLE, _FLETCHER32, _LZF})
# Deflate packs at most 1032 to 1, LZF 88 to 1; HDF5 itself bounds neither.
_MOST_PACKED = 1100
_MAX_LZF_CHUNK = 2 * 2**20
_MAX_LINKS = fmt.MAX_TENSORS
_PIECE = 2**20


def datasets(file: h5py.File, path: Path, tied: dict[str, str]) -> Iterator[tuple[str, h5py.Dataset]]:
    """Yield every dataset once, by its path in the file; nothing outside the file is ever reached.

    Soft links are passed over, as what they point to is found under its own name.

    Parameters
    ----------
    file
        The open file.
    path
        Its place, for messages.
    tied
        Filled with second names, of hard links, to first names.

    Raises
    ------
    TrajectoryError
        Where a link leads out of the file, or there are more links than a recording can need.
    """
    seen: dict[Any, str] = {h5py.h5o.get_info(file.id).addr: ""}
    waiting: deque[tuple[str, h5py.Group]] = deque([("", file)])
    links = 0
    while waiting:
        prefix, group = waiting.popleft()
        links += len(group)
        if links > _MAX_LINKS:
            raise TrajectoryError(f"{path}: expected at most {_MAX_LINKS} tensors, groups and links")
        for key in group:
            link = group.get(key, getlink=True)
            name = f"{prefix}{key}"
            if len(name) > fmt.MAX_NAME:
                raise TrajectoryError(
                    f"{path}: {name!r:.240}: expected a name of at most {fmt.MAX_NAME} characters"
                )
            if isinstance(link, h5py.ExternalLink):
                raise TrajectoryError(
                    f"{path}: {name!r} is a link to another file, which is not followed; copy the data "
                    "into one file"
                )
            if isinstance(link, h5py.SoftLink):
                continue
            member = group[key]
            identity = h5py.h5o.get_info(member.id).addr
            # A group may hold itself, and tied weights are one dataset under two names.
            if identity in seen:
                if isinstance(member, h5py.Dataset):
                    tied[clean(name)] = clean(seen[identity])
                continue
            seen[identity] = name
            fmt.check_count(str(path), len(seen) - 1)
            if isinstance(member, h5py.Group):
                waiting.append((f"{name}/", member))
            elif isinstance(member, h5py.Dataset):
                yield name, member


def check_dataset(path: Path, name: str, data: h5py.Dataset) -> None:
    """Check the metadata of one dataset against what a recording can need.

    Raises
    ------
    TrajectoryError
        Where its values lie elsewhere, are no numbers, were never written, or are packed beyond the limits.
    """
    where = f"{path}: {name!r}"
    leave_out = f"leave it out with exclude={clean(name)!r:.200}"
    if data.is_virtual or data.external:
        raise TrajectoryError(f"{where}: its values lie in other files, which are not followed; {leave_out}")
    if data.dtype.kind not in ("f" if data.ndim > 1 else "fiub"):
        raise TrajectoryError(f"{where}: expected floating-point values, found {data.dtype}; {leave_out}")
    if data.dtype.kind == "f" and data.dtype.itemsize not in (2, 4, 8):
        raise TrajectoryError(f"{where}: expected 16, 32 or 64 bits a value, found {data.dtype}; {leave_out}")
    if data.ndim == 0:
        raise TrajectoryError(f"{where}: expected a leading step axis, found a single value; {leave_out}")
    chunk_bytes = data.dtype.itemsize * math.prod(data.chunks or (0,))
    fmt.check_limits(where, data.shape, chunk_bytes)
    if {"scale_factor", "add_offset"} & set(data.attrs):
        raise TrajectoryError(
            f"{where}: values are packed with scale_factor or add_offset; store them plainly"
        )
    if not set(_filters(data)) <= _FILTERS or (_LZF in _filters(data) and chunk_bytes > _MAX_LZF_CHUNK):
        raise TrajectoryError(
            f"{where}: expected chunks packed with deflate (gzip), shuffle, fletcher32 or, up to 2 MiB, LZF; "
            f"found filters {_filters(data)}. Write it again: h5repack -f GZIP=4 IN OUT"
        )
    _check_written(where, data, chunk_bytes)


def _filters(data: h5py.Dataset) -> list[int]:
    settings = data.id.get_create_plist()
    return [settings.get_filter(place)[0] for place in range(settings.get_nfilters())]


def _check_written(where: str, data: h5py.Dataset, chunk_bytes: int) -> None:
    """Refuse shapes that the bytes in the file cannot fill: HDF5 would make the rest up."""
    claimed, stored = math.prod(data.shape) * data.dtype.itemsize, data.id.get_storage_size()
    if claimed > _MOST_PACKED * stored + max(chunk_bytes, 2**16):
        raise TrajectoryError(
            f"{where}: expected the values of shape {data.shape}, {claimed} bytes, found {stored} in the "
            "file; most of them were never written"
        )


def check_unpacking(where: str, data: h5py.Dataset, key: tuple[slice, ...]) -> None:
    """Unpack the deflated chunks of a selection piece by piece, keeping nothing, to see that they fit.

    Parameters
    ----------
    where
        Place, for messages.
    data
        The dataset.
    key
        Slices with positive steps, one an axis.

    Raises
    ------
    TrajectoryError
        Where a chunk unpacks to more than its own size, or not at all.
    """
    filters = _filters(data)
    if _DEFLATE not in filters or data.chunks is None:
        return
    # What stands behind deflate in the pipeline wraps the packed bytes: only a checksum may.
    trailing = 4 * filters[filters.index(_DEFLATE) + 1 :].count(_FLETCHER32)
    size = data.dtype.itemsize * math.prod(data.chunks)
    for offset in _chunk_offsets(data, key):
        info = data.id.get_chunk_info_by_coord(offset)
        if info.byte_offset is None or info.filter_mask & (1 << filters.index(_DEFLATE)):
            continue
        if info.size > size + size // 8 + 1024:
            raise TrajectoryError(f"{where}: the chunk at {offset} has {info.size} bytes for {size}; damaged")
        _, packed = data.id.read_direct_chunk(offset)
        _measure(f"{where}: the chunk at {offset}", packed[: len(packed) - trailing or None], size)


def _chunk_offsets(data: h5py.Dataset, key: tuple[slice, ...]) -> Iterator[tuple[int, ...]]:
    """Give the corners of the chunks that a selection touches."""
    return product(
        *(
            range(part.start // length * length, part.stop, length)
            for part, length in zip(key, data.chunks, strict=True)
        )
    )


def _measure(where: str, packed: bytes, size: int) -> None:
    machine = zlib.decompressobj()
    total, rest = 0, packed
    try:
        while rest and not machine.eof:
            total += len(machine.decompress(rest, _PIECE))
            rest = machine.unconsumed_tail
            if total > size:
                raise TrajectoryError(f"{where} unpacks to more than its {size} bytes; damaged or hostile")
    except zlib.error as error:
        raise TrajectoryError(f"{where} cannot be unpacked ({error}); damaged") from error
