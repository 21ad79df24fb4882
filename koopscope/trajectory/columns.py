"""The fast reader of recorded arrays: any slices, chunks decoded in threads, every check on."""

from __future__ import annotations

import math
import os
import threading
import weakref
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from koopscope.errors import TrajectoryError
from koopscope.parallel import memory_budget, require_memory
from koopscope.threads import n_cores
from koopscope.trajectory.chunks import ChunkError, ChunkGrid

Fetch = Callable[[str, NDArray[np.uint8]], int]
Key = tuple[slice, ...]

MAX_THREADS = 8
_FEW_BYTES = 2**18  # less than this is decoded by one thread
_LARGE_BYTES = 2**24  # of a chunk: memory for it is given back
_MAX_KEPT_BYTES = 2**27  # of one result, and of all small ones together
_MAX_KEPT = 2  # of any size: one read while the other is worked on


class ColumnReader:
    """The chunks of one array, read by slices.

    Parameters
    ----------
    shape
        Shape of the array that is read.
    grid
        How it is cut into chunks.
    fetch
        Puts the bytes of a named chunk into a buffer and tells how many there are; raises
        `FileNotFoundError` where there is none.
    """

    def __init__(self, shape: tuple[int, ...], grid: ChunkGrid, fetch: Fetch) -> None:
        """Remember what to read; nothing is read."""
        self._shape = shape
        self._grid = grid
        self._fetch = fetch

    def read(self, key: Key, out: NDArray[Any] | None = None) -> NDArray[Any]:
        """Read a tuple of slices with positive steps, one an axis, where one likes: into ``out``.

        Raises
        ------
        ChunkError
            Where a chunk is missing or damaged.
        TrajectoryError
            Where the result would not fit into memory.
        MemoryBudgetError
            Where a chunk alone is beyond the memory budget.
        """
        parts = [part.indices(length) for part, length in zip(key, self._shape, strict=True)]
        shape = tuple(len(range(*part)) for part in parts)
        out = _output(shape, self._grid.dtype.newbyteorder("=")) if out is None else out
        if not out.size:
            return out
        pieces = _Pieces(parts, self._grid.chunks)
        if getattr(_local, "decodes", False):
            self._read_pieces(pieces, out)
            return out
        few = pieces.at_most * self._grid.nbytes < _FEW_BYTES
        threads = 1 if few else min(_threads(), pieces.at_most, self._fitting())
        # Never in the calling thread: there Blosc would start threads of its own.
        tasks = [_pool(os.getpid()).submit(self._read_pieces, pieces, out) for _ in range(threads)]
        for task in tasks:
            task.exception()
        for task in tasks:
            task.result()
        return out

    def _fitting(self) -> int:
        """Count the chunks to decode at the same time: of half the memory budget, and at least one."""
        n_bytes = self._grid.nbytes + self._grid.max_encoded
        require_memory(
            n_bytes,
            f"decoding a chunk of shape {self._grid.chunks}",
            "record with fewer rows in a chunk (block_steps=)",
        )
        return max(1, memory_budget() // (2 * n_bytes))

    def _read_pieces(self, pieces: _Pieces, out: NDArray[Any]) -> None:
        try:
            while (piece := pieces.take()) is not None:
                self._read_piece(piece, out)
        finally:
            pieces.stop()
            if self._grid.nbytes > _LARGE_BYTES:
                _forget_scratch()

    def _read_piece(self, piece: tuple[_Crossing, ...], out: NDArray[Any]) -> None:
        grid = self._grid
        encoded = _scratch("encoded", grid.max_encoded)
        target = out[tuple(crossing.outside for crossing in piece)]
        # Blocks of rows with all their columns are decoded in place, which saves a copy.
        direct = target.shape == grid.chunks and target.flags.c_contiguous and target.dtype == grid.dtype
        decoded = target if direct else _scratch("decoded", grid.nbytes).view(grid.dtype).reshape(grid.chunks)
        name = grid.key(tuple(crossing.chunk for crossing in piece))
        try:
            length = self._fetch(name, encoded)
            grid.decode(encoded[:length], decoded)
        except FileNotFoundError as error:
            raise ChunkError(f"chunk {name}: it is missing") from error
        except ChunkError as error:
            raise ChunkError(f"chunk {name}: {error}") from error
        if not direct:
            target[...] = decoded[tuple(crossing.inside for crossing in piece)]


class _Crossing(NamedTuple):
    """Where a slice meets a chunk, along one axis: number of the chunk, slice of it, slice of the result."""

    chunk: int
    inside: slice
    outside: slice


class _Pieces:
    """The pieces of one reading, handed out to threads; never listed, as a hostile shape has 2^40 of them."""

    def __init__(self, parts: list[tuple[int, int, int]], chunks: tuple[int, ...]) -> None:
        self._lock = threading.Lock()
        self._pieces = _pieces(parts, chunks)
        self.at_most = math.prod(
            (stop - 1) // length - start // length + 1
            for (start, stop, _), length in zip(parts, chunks, strict=True)
        )

    def take(self) -> tuple[_Crossing, ...] | None:
        with self._lock:
            return next(self._pieces, None)

    def stop(self) -> None:
        with self._lock:
            self._pieces.close()


def _pieces(
    parts: list[tuple[int, int, int]], chunks: tuple[int, ...]
) -> Generator[tuple[_Crossing, ...], None, None]:
    if not parts:
        yield ()
        return
    for crossing in _crossings(parts[0], chunks[0]):
        for rest in _pieces(parts[1:], chunks[1:]):
            yield (crossing, *rest)


def _crossings(part: tuple[int, int, int], length: int) -> Iterator[_Crossing]:
    start, stop, step = part
    position, count = start, 0
    while position < stop:
        chunk = position // length
        end = min(stop, (chunk + 1) * length)
        n = math.ceil((end - position) / step)
        inside = slice(position - chunk * length, end - chunk * length, step)
        yield _Crossing(chunk, inside, slice(count, count + n))
        count += n
        position += n * step


class FileFetch:
    """Fetches the chunks of one array from its directory.

    Parameters
    ----------
    path
        Directory of the array.
    """

    def __init__(self, path: Path) -> None:
        """Remember the directory."""
        self._path = path

    def __call__(self, name: str, buffer: NDArray[np.uint8]) -> int:
        """Read a chunk into a buffer.

        Raises
        ------
        ChunkError
            Where it does not fit, as nothing that decodes to the right size would be so large.
        """
        with open(f"{self._path}/{name}", "rb", buffering=0) as file:
            size = os.fstat(file.fileno()).st_size
            if size > buffer.size:
                raise ChunkError(f"expected at most {buffer.size} bytes, found {size}")
            read = 0
            while read < size and (n := file.readinto(buffer.data[read:size])):
                read += n
            return read


_local = threading.local()


@contextmanager
def decoding_here() -> Iterator[None]:
    """Decode in the calling thread, one of several that read at the same time; not in the main thread."""
    _local.decodes = True
    try:
        yield
    finally:
        _local.decodes = False


def _scratch(name: str, size: int) -> NDArray[np.uint8]:
    """Give this thread's buffer of a name, as large as was ever asked for."""
    buffer: NDArray[np.uint8] | None = getattr(_local, name, None)
    if buffer is None or buffer.size < size:
        buffer = np.empty(size, np.uint8)
        setattr(_local, name, buffer)
    return buffer[:size]


def _forget_scratch() -> None:
    for name in ("encoded", "decoded"):
        if hasattr(_local, name):
            delattr(_local, name)


_Kept = tuple[NDArray[np.uint8], weakref.ref[NDArray[np.uint8]]]
_kept: list[_Kept] = []
_kept_lock = threading.Lock()


def _output(shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Make an array for a result, of memory whose last result is gone with all its views.

    Blocks are read one after another: fresh memory for each would cost about as much as decoding.
    """
    size = dtype.itemsize * math.prod(shape)
    if not _FEW_BYTES <= size <= _MAX_KEPT_BYTES:
        try:
            return np.empty(shape, dtype)
        except (MemoryError, ValueError) as error:
            raise TrajectoryError(
                f"expected a selection that fits into memory, got one of shape {shape}, {size} bytes; select "
                "fewer rows or fewer weights"
            ) from error
    with _kept_lock:
        free = [memory for memory, user in _kept if user() is None and size <= memory.size <= 2 * size]
        memory = free[0] if free else np.empty(size, np.uint8)
        # Over a memoryview, for NumPy to have every view of it refer to this array, and not to `memory`.
        user = np.frombuffer(memory.data, np.uint8, size)
        others = [pair for pair in _kept if pair[0] is not memory]
        _kept[:] = _worth_keeping([(memory, weakref.ref(user)), *others])
    return user.view(dtype).reshape(shape)


def _worth_keeping(found: list[_Kept]) -> list[_Kept]:
    """Keep the latest two, and one for each thread that reads as long as they stay small together."""
    sizes = [memory.size for memory, _ in found]
    return [
        pair
        for index, pair in enumerate(found[: _MAX_KEPT + _threads()])
        if index < _MAX_KEPT or sum(sizes[: index + 1]) <= _MAX_KEPT_BYTES
    ]


def _threads() -> int:
    """Twice the cores, as some of the threads wait for the disk."""
    return min(MAX_THREADS, 2 * n_cores())


@lru_cache(maxsize=1)
def _pool(process: int) -> ThreadPoolExecutor:
    """Give the threads of this process; the child of a fork has none of its parent's."""
    return ThreadPoolExecutor(MAX_THREADS, thread_name_prefix=f"koopscope-read-{process}")
