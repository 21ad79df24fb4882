"""One chunk of a recorded array: its name, its encoding, and decoding that nothing hostile gets past."""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import google_crc32c
import numpy as np
from numcodecs import blosc, zstd
from numpy.typing import NDArray

from koopscope.errors import TrajectoryError
from koopscope.trajectory import format as fmt

_COMPRESSORS = ("blosc", "zstd", "gzip")
_SPARE_BYTES = 4096  # what encoding may add to a chunk that cannot be made smaller, besides a hundredth
_BLOSC_HEADER = struct.Struct("<4B3I")
_ZSTD_MAGIC = 0xFD2FB528


class ChunkError(ValueError):
    """A chunk that is missing, damaged, or not of the size that the metadata promise."""


def crc32c(data: bytes | NDArray[np.uint8], before: int = 0) -> int:
    """Give the CRC-32C of some bytes, or of those a checksum `before` is of and these."""
    return int(google_crc32c.extend(before, data))


@dataclass(frozen=True)
class ChunkGrid:
    """How one array is cut into chunks, and how a chunk becomes bytes.

    Parameters
    ----------
    chunks
        Shape of a chunk, the leading axis counts rows.
    dtype
        Dtype of the values as stored.
    separator
        What stands between the numbers in a chunk's name.
    prefixed
        Whether names begin with ``c``.
    compressor
        ``blosc``, ``zstd``, ``gzip`` or ``None``.
    checksum
        Whether a CRC-32C ends the chunk.
    run_first
        Whether the second axis here is ``run``, which stands first on the disk. A chunk has one run, so that
        its bytes are the same either way.
    """

    chunks: tuple[int, ...]
    dtype: np.dtype[Any]
    separator: str = "/"
    prefixed: bool = True
    compressor: str | None = "blosc"
    checksum: bool = True
    run_first: bool = False

    @property
    def nbytes(self) -> int:
        """Bytes of a decoded chunk."""
        return self.dtype.itemsize * math.prod(self.chunks)

    @property
    def max_encoded(self) -> int:
        """Bytes that an encoded chunk may have at most."""
        return self.nbytes + self.nbytes // 100 + _SPARE_BYTES

    def key(self, index: tuple[int, ...]) -> str:
        """Name one chunk, relative to its array.

        >>> ChunkGrid((64, 10), np.dtype("float32")).key((3, 0))
        'c/3/0'
        """
        parts = ["c"] if self.prefixed else []
        if self.run_first:
            index = swapped(index)
        return self.separator.join([*parts, *map(str, index)])

    def encode(self, chunk: NDArray[Any]) -> tuple[bytes, bytes]:
        """Encode one chunk as koopscope writes it: what Blosc makes of it, and the checksum that follows.

        Parameters
        ----------
        chunk
            C-ordered values of the shape and dtype of a chunk.
        """
        packed = blosc.compress(chunk, fmt.BLOSC_NAME.encode(), fmt.BLOSC_LEVEL, blosc.SHUFFLE)
        return packed, struct.pack("<I", crc32c(packed))

    def decode(self, data: NDArray[np.uint8], out: NDArray[Any]) -> None:
        """Decode one chunk into an array.

        Parameters
        ----------
        data
            The encoded chunk.
        out
            C-ordered array of the shape and dtype of a chunk.

        Raises
        ------
        ChunkError
            Where the checksum or the size is wrong; the size is checked before anything is decoded.
        """
        if self.checksum:
            data, stored = data[:-4], data[-4:]
            if stored.size < 4 or crc32c(data) != int.from_bytes(stored.tobytes(), "little"):
                raise ChunkError("its checksum (CRC-32C) is wrong")
        target = out.reshape(-1).view(np.uint8)
        if self.compressor is None:
            _require_size(data.size, target.size)
            target[:] = data
            return
        try:
            _DECODERS[self.compressor](data, target)
        except (RuntimeError, ValueError, zlib.error) as error:
            raise ChunkError(str(error)) from error


def _require_size(found: int, expected: int) -> None:
    if found != expected:
        raise ChunkError(f"expected {expected} bytes when decoded, found {found}")


def _decode_blosc(data: NDArray[np.uint8], target: NDArray[np.uint8]) -> None:
    if data.size < _BLOSC_HEADER.size:
        raise ChunkError("it is cut short")
    *_, n_decoded, _, n_encoded = _BLOSC_HEADER.unpack(data[: _BLOSC_HEADER.size].tobytes())
    _require_size(n_decoded, target.size)
    if n_encoded != data.size:
        raise ChunkError(f"expected {n_encoded} bytes, found {data.size}")
    blosc.decompress(data, target)


def _decode_zstd(data: NDArray[np.uint8], target: NDArray[np.uint8]) -> None:
    _require_size(_zstd_size(data[:18].tobytes().ljust(18)), target.size)
    zstd.decompress(data, target)


def _zstd_size(head: bytes) -> int:
    """Read the decoded size off the header of a Zstandard frame (RFC 8878, section 3.1.1.1)."""
    if int.from_bytes(head[:4], "little") != _ZSTD_MAGIC:
        raise ChunkError("expected a Zstandard frame")
    size_flag, single, dictionary = head[4] >> 6, head[4] >> 5 & 1, head[4] & 3
    n_bytes = (single, 2, 4, 8)[size_flag]
    if n_bytes == 0:
        raise ChunkError("expected a Zstandard frame that tells its decoded size")
    start = 5 + (1 - single) + (0, 1, 2, 4)[dictionary]
    return int.from_bytes(head[start : start + n_bytes], "little") + (256 if n_bytes == 2 else 0)


def _decode_gzip(data: NDArray[np.uint8], target: NDArray[np.uint8]) -> None:
    decoder = zlib.decompressobj(wbits=31)
    decoded = decoder.decompress(data.data, target.size + 1)
    _require_size(len(decoded), target.size)
    if not decoder.eof:
        raise ChunkError("it is cut short")
    target[:] = np.frombuffer(decoded, np.uint8)


_DECODERS = {"blosc": _decode_blosc, "zstd": _decode_zstd, "gzip": _decode_gzip}


def run_first(metadata: Mapping[str, Any]) -> bool:
    """Tell whether the axes of an array on the disk are run, step and those of a tensor."""
    names = metadata.get("dimension_names")
    return isinstance(names, list) and names[:2] == [fmt.RUN, fmt.STEP]


def swapped(lengths: Sequence[int]) -> tuple[int, ...]:
    """Swap the first two lengths of a shape: run and step."""
    return (lengths[1], lengths[0], *lengths[2:])


def chunk_grid(metadata: Mapping[str, Any], dtype: np.dtype[Any], where: str) -> ChunkGrid:
    """Read the grid off the metadata of an array, whose shape of a chunk was checked before.

    Raises
    ------
    TrajectoryError
        Where chunks are encoded or named in a way that is not read here.
    """
    codecs = metadata.get("codecs")
    listed = codecs if isinstance(codecs, list) else []
    names = [codec.get("name") if isinstance(codec, dict) else codec for codec in listed]
    rest = names[1:]
    checksum = rest[-1:] == ["crc32c"]
    rest = rest[:-1] if checksum else rest
    compressor = rest[0] if rest else None
    if names[:1] != ["bytes"] or len(rest) > 1 or compressor not in (None, *_COMPRESSORS):
        raise TrajectoryError(
            f"{where}: expected codecs bytes, then one of {', '.join(_COMPRESSORS)} or none, then crc32c or "
            f"none, found {names!r:.80}; write it again with those"
        )
    endian = _configuration(listed[0]).get("endian", "little")
    encoding = metadata.get("chunk_key_encoding")
    kind = encoding.get("name") if isinstance(encoding, dict) else None
    separator = _configuration(encoding).get("separator", "/" if kind == "default" else ".")
    if endian not in ("little", "big") or kind not in ("default", "v2") or separator not in ("/", "."):
        raise TrajectoryError(
            f"{where}: expected little- or big-endian values in chunks named as 'default' or 'v2', found "
            f"{endian!r:.40} and {encoding!r:.80}"
        )
    chunks = tuple(metadata["chunk_grid"]["configuration"]["chunk_shape"])
    runs = run_first(metadata)
    if runs and chunks[0] != 1:
        raise TrajectoryError(f"{where}: expected chunks of one run, found {chunks[0]}")
    return ChunkGrid(
        chunks=swapped(chunks) if runs else chunks,
        dtype=dtype.newbyteorder("<" if endian == "little" else ">"),
        separator=separator,
        prefixed=kind == "default",
        compressor=compressor,
        checksum=checksum,
        run_first=runs,
    )


def _configuration(part: Any) -> Mapping[str, Any]:
    configuration = part.get("configuration") if isinstance(part, dict) else None
    return configuration if isinstance(configuration, dict) else {}
