"""Reads .npz files: ZIP archives of plain arrays, within limits; nothing is unpickled."""

from __future__ import annotations

import math
import zipfile
import zlib
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from koopscope.errors import TrajectoryError
from koopscope.trajectory import format as fmt
from koopscope.trajectory.checkpoint_file import Checkpoint, Index, StoredTensor

_FLOATS = ("float16", "float32", "float64")
_MAX_DIRECTORY = 8 * 2**20
_TAIL = 2**16 + 22 + 20 + 56
_FAULTS = (OSError, ValueError, KeyError, EOFError, NotImplementedError, RuntimeError)


def read_npz(path: Path) -> Checkpoint:
    """Describe the arrays of a file.

    Raises
    ------
    TrajectoryError
        Where it is damaged, beyond the limits, or holds objects.
    """
    check_zip_directory(path)
    tensors: dict[str, StoredTensor] = {}
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            fmt.check_count(str(path), len(members))
            for member in members:
                if not member.filename.endswith(".npy"):
                    raise TrajectoryError(
                        f"{path}: expected only .npy members, found {member.filename!r:.220}"
                    )
                name = member.filename.removesuffix(".npy")
                with archive.open(member) as file:
                    tensors[name] = _described(path, name, member, file)
    except TrajectoryError:
        raise
    except (*_FAULTS, zipfile.BadZipFile, zlib.error) as error:
        raise TrajectoryError(f"{path}: cannot be read as .npz ({error}); damaged") from error
    return Checkpoint(tensors)


def check_zip_directory(path: Path) -> None:
    """Check the size of a ZIP archive's directory, which is read whole on opening it.

    Raises
    ------
    TrajectoryError
        Where it is larger than a checkpoint can need.
    """
    with path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(max(0, size - _TAIL))
        tail = file.read()
    end = tail.rfind(b"PK\x05\x06")
    if end < 0 or len(tail) < end + 22:
        raise TrajectoryError(f"{path}: expected a ZIP archive, found no directory at its end; damaged")
    length = int.from_bytes(tail[end + 12 : end + 16], "little")
    large = tail.rfind(b"PK\x06\x06", 0, end)
    if large >= 0:
        length = max(
            length if length != 2**32 - 1 else 0, int.from_bytes(tail[large + 40 : large + 48], "little")
        )
    if length > _MAX_DIRECTORY:
        raise TrajectoryError(
            f"{path}: expected a ZIP directory of at most {_MAX_DIRECTORY} bytes, found {length}"
        )


def _described(path: Path, name: str, member: zipfile.ZipInfo, file: IO[bytes]) -> StoredTensor:
    """Read the header of one array and check it against the bytes that are there."""
    where = f"{path}: {name!r:.220}"
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise TrajectoryError(f"{where}: expected it stored or deflated, found method {member.compress_type}")
    shape, fortran, dtype = _header(file)
    if dtype.hasobject or dtype.name not in _FLOATS:
        raise TrajectoryError(
            f"{where}: expected {', '.join(_FLOATS)}, found {dtype}, which is not read; leave it out with "
            f"exclude={name!r:.200}"
        )
    size = math.prod(shape) * dtype.itemsize
    fmt.check_limits(where, shape, size)
    start = file.tell()
    if start + size != member.file_size:
        raise TrajectoryError(
            f"{where}: expected {start + size} bytes for {dtype} {shape}, found {member.file_size}; damaged"
        )

    def read(path: Path, key: Index) -> NDArray[Any]:
        # An archive is read member by member from the front: a part costs as much as the whole.
        values = np.empty(shape, dtype, order="F" if fortran else "C")
        try:
            with zipfile.ZipFile(path) as archive, archive.open(f"{name}.npy") as content:
                content.seek(start)
                _fill(values.reshape(-1, order="A"), content)
        except (*_FAULTS, zipfile.BadZipFile, zlib.error) as error:
            raise TrajectoryError(f"{where}: cannot be read ({error}); damaged") from error
        native = values.astype(dtype.newbyteorder("="), copy=False)
        return native[key] if shape else native

    return StoredTensor(shape, dtype.newbyteorder("="), dtype.name, read)


def _header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    version = np.lib.format.read_magic(file)
    if version == (1, 0):
        return np.lib.format.read_array_header_1_0(file)
    if version == (2, 0):
        return np.lib.format.read_array_header_2_0(file)
    raise ValueError(f"version {version} of the .npy format")


def _fill(flat: NDArray[Any], content: IO[bytes]) -> None:
    """Read into an array piece by piece; reading the end checks the CRC of the archive."""
    view = flat.view(np.uint8)
    place = 0
    while place < view.size:
        piece = content.read(min(2**20, view.size - place))
        if not piece:
            raise EOFError(f"{view.size} bytes expected, {place} found")
        view[place : place + len(piece)] = np.frombuffer(piece, np.uint8)
        place += len(piece)
    if content.read(1):
        raise ValueError("more bytes than the header says")
