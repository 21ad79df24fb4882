"""Reads .safetensors files: a JSON header with limits, then plain bytes that are mapped, never unpacked."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from koopscope.errors import TrajectoryError
from koopscope.trajectory import format as fmt
from koopscope.trajectory.checkpoint_file import Checkpoint, Index, StoredTensor
from koopscope.trajectory.zarr_metadata import is_count

_DTYPES = {"F16": "float16", "F32": "float32", "F64": "float64", "BF16": "bfloat16"}


def read_safetensors(path: Path, like: Checkpoint | None = None) -> Checkpoint:
    """Describe the tensors of a file.

    Parameters
    ----------
    path
        The file.
    like
        The description of a file that is probably alike; it is given again where the headers are equal.

    Raises
    ------
    TrajectoryError
        Where the header is damaged, beyond the limits, or promises what the file does not hold.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or length > size - 8:
            raise TrajectoryError(
                f"{path}: expected a header of {length} bytes, the file has {size}; damaged"
            )
        if length > fmt.MAX_METADATA_BYTES:
            raise TrajectoryError(
                f"{path}: expected a header of at most {fmt.MAX_METADATA_BYTES} bytes, found {length}"
            )
        text = file.read(length)
    if like is not None and like.signature == (size, text):
        return like
    header = _parsed(text, path)
    metadata = header.pop("__metadata__", {})
    fmt.check_count(str(path), len(header))
    tensors: dict[str, StoredTensor] = {}
    tied: dict[str, str] = {}
    places: dict[tuple[Any, ...], str] = {}
    for name, entry in header.items():
        dtype, shape, begin, end = _checked(name, entry, size - 8 - length, path)
        # Two names for the same bytes are one tied tensor.
        first = places.setdefault((dtype, shape, begin, end), name) if end > begin else name
        if first != name:
            tied[name] = first
        else:
            tensors[name] = _tensor(dtype, shape, 8 + length + begin)
    if isinstance(metadata, dict):
        # Programs that save a tied tensor once note its other names here.
        named = {name: first for name, first in metadata.items() if isinstance(first, str)}
        tied |= {name: first for name, first in named.items() if first in tensors and name not in tensors}
    return Checkpoint(tensors, tied, (size, text))


def _parsed(text: bytes, path: Path) -> dict[str, Any]:
    try:
        header = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise TrajectoryError(f"{path}: expected a JSON header ({error}); damaged") from error
    if not isinstance(header, dict):
        raise TrajectoryError(f"{path}: expected a JSON object as header, found {type(header).__name__}")
    return header


def _checked(name: str, entry: Any, available: int, path: Path) -> tuple[str, tuple[int, ...], int, int]:
    """Check one entry of the header against the bytes that are there."""
    where = f"{path}: {name!r:.220}"
    fields = entry if isinstance(entry, dict) else {}
    code, shape, offsets = fields.get("dtype"), fields.get("shape"), fields.get("data_offsets")
    if (
        not isinstance(shape, list)
        or not isinstance(offsets, list)
        or len(offsets) != 2
        or not all(map(is_count, [*shape, *offsets]))
        or not offsets[0] <= offsets[1] <= available
    ):
        raise TrajectoryError(
            f"{where}: expected a shape and two offsets inside the file, found {entry!r:.160}"
        )
    if not isinstance(code, str) or code not in _DTYPES:
        raise TrajectoryError(
            f"{where}: expected values of {', '.join(_DTYPES)}, found {code!r:.40}; leave it out with "
            f"exclude={name!r:.200}"
        )
    fmt.check_limits(where, tuple(shape), 0)
    itemsize = 2 if code == "BF16" else np.dtype(_DTYPES[code]).itemsize
    if math.prod(shape) * itemsize != offsets[1] - offsets[0]:
        raise TrajectoryError(
            f"{where}: expected {math.prod(shape) * itemsize} bytes for {code} {shape}, found "
            f"{offsets[1] - offsets[0]}; damaged"
        )
    return _DTYPES[code], tuple(shape), offsets[0], offsets[1]


def _tensor(dtype: str, shape: tuple[int, ...], offset: int) -> StoredTensor:
    stored = np.dtype("<u2") if dtype == "bfloat16" else np.dtype(dtype).newbyteorder("<")
    shown = np.dtype(np.float32) if dtype == "bfloat16" else np.dtype(dtype)

    def read(path: Path, key: Index) -> NDArray[Any]:
        if not math.prod(shape):
            return np.zeros(shape, shown)[key]
        part = np.array(np.memmap(path, stored, "r", offset, shape or (1,))[key if shape else slice(0, 1)])
        part = part if shape else part.reshape(())
        if dtype == "bfloat16":
            return (part.astype(np.uint32) << 16).view(np.float32)
        return part.astype(shown, copy=False)

    return StoredTensor(shape, shown, dtype, read)
