"""A window read strip by strip: a few columns of one tensor from the first row to the last, many at a time.

A thread decodes a piece of its strip and works on it while it is in the cache. Strips are cut where the
recorded chunks are, whatever the memory budget and the number of threads. Chunks none of whose rows is
wanted are not read at all.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from koopscope.kernels.accelerate import are_cut_from_wider, whole_rows
from koopscope.parallel import memory_budget, require_memory
from koopscope.progress import Listener
from koopscope.statistics.reading import Pace
from koopscope.threads import as_they_come, in_threads, n_cores
from koopscope.trajectory.columns import decoding_here
from koopscope.weight_vector import WeightVector

STRIP_BYTES = 2**20  # of the rows of a chunk, at least: less takes no longer than the Python between pieces
PIECE_BYTES = 4 * 2**20  # decoded at once
UNKNOWN_BYTES = 32 * 2**20  # the same where nobody knows the chunks, and rows must not be decoded twice
UNKNOWN_ROWS = 64
HELD_WEIGHTS = 4096  # of a strip of arrays in memory, at most: long stretches of a row, read in their order
HELD_BYTES = 64 * 2**20  # of such a strip that are looked at together, where they lie
HELD_ROWS = 256  # pieces of such a strip hold whole multiples of it
FEW_BYTES = 32 * 2**20  # less is read before threads have started
HELD_AT_ONCE = 3  # a piece, a chunk it is cut from, and that before it is decoded
THREADS_PER_CORE = 2  # as some wait for the disk
STRIPS_PER_CORE = 32  # of arrays in memory, before progress is told
MANY_THREADS = 8  # decode as fast on their own as the reader's


@dataclass(frozen=True)
class Strip:
    """Some columns of one tensor.

    Attributes
    ----------
    tensor
        Index of the tensor.
    columns
        Slices along its axes; along its flat order where ``flat``, which arrays in memory are read in.
    rows
        Rows that are read at once, at most: whole chunks.
    chunk_rows
        Rows that can only be read together.
    shape
        Lengths along the axes.
    itemsize
        Bytes of a weight.
    n_bytes
        What reading a piece holds.
    """

    tensor: int
    columns: tuple[slice, ...]
    rows: int
    chunk_rows: int
    flat: bool
    itemsize: int
    n_bytes: int

    @property
    def shape(self) -> tuple[int, ...]:
        """Lengths along the axes."""
        return tuple(part.stop - part.start for part in self.columns)

    @property
    def size(self) -> int:
        """Number of weights."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class Piece:
    """Consecutive rows of a strip, as ``rows[first_row:, first_column : first_column + strip.size]``.

    Attributes
    ----------
    strip
        Where it lies.
    start
        Number, in the recording, of its first row.
    rows
        Shape ``(row, weight)``, C-ordered; more rows and columns around it where they lie in memory.
    first_row, first_column
        Where the piece begins in ``rows``.
    """

    strip: Strip
    start: int
    rows: npt.NDArray[Any]
    first_row: int = 0
    first_column: int = 0

    @property
    def stop(self) -> int:
        """Row after the last."""
        return self.start + int(self.rows.shape[0]) - self.first_row

    @property
    def values(self) -> npt.NDArray[Any]:
        """The piece alone, shape ``(row, *strip.shape)``."""
        columns = slice(self.first_column, self.first_column + self.strip.size)
        return self.rows[self.first_row :, columns].reshape(-1, *self.strip.shape)


def cut_into_strips(trajectory: xr.Dataset, weights: WeightVector) -> list[Strip]:
    """Cut every tensor along the borders of its chunks."""
    return [
        strip
        for index, slot in enumerate(weights.tensors)
        for strip in _strips(index, trajectory[slot.name].variable)
    ]


def _strips(tensor: int, variable: xr.Variable) -> Iterator[Strip]:
    shape, item = variable.shape[1:], variable.dtype.itemsize
    if variable._in_memory:
        yield from _held_strips(tensor, variable)
        return
    known = variable.encoding.get("preferred_chunks", {})
    if variable.dims[0] in known:
        rows = known[variable.dims[0]]
        lengths = zip(variable.dims[1:], shape, strict=True)
        widths = [max(1, min(known.get(dim, length), length)) for dim, length in lengths]
    else:
        rows, widths = UNKNOWN_ROWS, list(shape)
    at_once = rows * item * math.prod(widths)
    for axis in reversed(range(len(shape))):
        width = widths[axis]
        widths[axis] = max(1, min(shape[axis], width * max(1, STRIP_BYTES // max(1, at_once))))
        at_once = at_once // width * widths[axis]
    row_bytes = max(1, item * math.prod(widths))
    chunk_rows = rows
    if variable.dims[0] in known:
        rows *= max(1, PIECE_BYTES // (row_bytes * rows))
    else:
        share = memory_budget() // (2 * HELD_AT_ONCE)
        chunk_rows = rows = max(1, min(share, max(UNKNOWN_BYTES, rows * row_bytes)) // row_bytes)
    for columns in _cuts(shape, widths):
        yield Strip(tensor, columns, rows, chunk_rows, False, item, HELD_AT_ONCE * rows * row_bytes)


def _held_strips(tensor: int, variable: xr.Variable) -> Iterator[Strip]:
    """Cut an array in memory into stretches of like lengths, which threads end with at the same time."""
    n_weights, item = math.prod(variable.shape[1:]), variable.dtype.itemsize
    n_strips = max(1, math.ceil(n_weights / HELD_WEIGHTS))
    width = max(1, math.ceil(n_weights / n_strips))
    ready = _lies_ready(variable.values)
    rows = HELD_ROWS * max(1, (HELD_BYTES if ready else PIECE_BYTES) // (width * item * HELD_ROWS))
    for columns in _cuts((n_weights,), (width,)):
        yield Strip(tensor, columns, rows, rows if ready else HELD_ROWS, True, item, 0)


def _lies_ready(values: npt.NDArray[Any]) -> bool:
    """Tell whether kernels can read an array where it lies; they know float32 and float64 only."""
    flat = values.reshape(values.shape[0], -1)
    return values.dtype.itemsize >= np.dtype(np.float32).itemsize and are_cut_from_wider(flat)


def _cuts(shape: Sequence[int], widths: Sequence[int]) -> Iterator[tuple[slice, ...]]:
    if not shape:
        yield ()
        return
    for start in range(0, shape[0], max(1, widths[0])):
        for rest in _cuts(shape[1:], widths[1:]):
            yield (slice(start, min(start + widths[0], shape[0])), *rest)


def read_strips(
    trajectory: xr.Dataset,
    weights: WeightVector,
    wanted: npt.NDArray[np.bool_],
    strips: Sequence[tuple[Strip, Callable[[Piece], bool]]],
    tell: Listener,
) -> None:
    """Read strips in threads.

    Parameters
    ----------
    wanted
        Which rows of the recording are wanted, up to the last of them; others come along in pieces.
    strips
        Each with what is called with every piece of it, row by row, and says whether to go on.

    Raises
    ------
    MemoryBudgetError
        If not even one piece fits.
    """
    largest = max((strip for strip, _ in strips), key=lambda strip: strip.n_bytes)
    what = f"{largest.rows} rows of {largest.size} weights of {weights.tensors[largest.tensor].name}"
    require_memory(
        largest.n_bytes,
        f"reading {what} at once",
        "record with fewer rows in a chunk (block_steps=), or convert it (koopscope convert)",
    )
    fitting = max(1, memory_budget() // max(1, 2 * largest.n_bytes))
    cuts = {(strip.rows, strip.chunk_rows) for strip, _ in strips}
    borders = {cut: _borders(wanted, *cut) for cut in cuts}
    n_rows = {cut: sum(stop - start for start, stop in found) for cut, found in borders.items()}
    sizes = ((n_rows[strip.rows, strip.chunk_rows], strip) for strip, _ in strips)
    total = sum(rows * strip.size * strip.itemsize for rows, strip in sizes)
    few = total <= FEW_BYTES
    held = all(strip.flat for strip, _ in strips)
    threads = 1 if few else min(THREADS_PER_CORE * n_cores(), fitting, len(strips))
    # Enough of them to decode what they work on while it is in the cache; else the reader has others do it.
    alone = not held and 1 < threads >= min(n_cores(), MANY_THREADS)
    decoding = decoding_here if alone else nullcontext

    def read(job: tuple[Strip, Callable[[Piece], bool]]) -> Iterator[int]:
        strip, add = job
        with decoding():
            for piece in _pieces(trajectory, weights, strip, borders[strip.rows, strip.chunk_rows]):
                going_on, n_bytes = add(piece), (piece.stop - piece.start) * strip.size * strip.itemsize
                del piece  # the next is decoded into its memory
                yield n_bytes
                if not going_on:
                    return

    pace = Pace(tell, total)
    if few or not held:
        for n_bytes in as_they_come(read, strips, threads):
            pace.add(n_bytes)
        return
    # What is in memory nobody waits for: the caller's thread looks at some of it too.
    at_once = STRIPS_PER_CORE * n_cores()
    for first in range(0, len(strips), at_once):
        for n_bytes in in_threads(lambda job: sum(read(job)), strips[first : first + at_once]):
            pace.add(n_bytes)


def _borders(wanted: npt.NDArray[np.bool_], rows: int, chunk_rows: int) -> list[tuple[int, int]]:
    """First row of each piece and the one after its last: neighbouring chunks with rows that are wanted."""
    found = np.flatnonzero(wanted)
    chunks = np.unique(found // chunk_rows)
    begins = (np.diff(chunks, prepend=-2) != 1) | (chunks % (rows // chunk_rows) == 0)
    ends = np.append(begins[1:], True)
    starts = np.maximum(chunks[begins] * chunk_rows, found[0])
    stops = np.minimum((chunks[ends] + 1) * chunk_rows, found[-1] + 1)
    return list(zip(starts.tolist(), stops.tolist(), strict=True))


def _pieces(
    trajectory: xr.Dataset, weights: WeightVector, strip: Strip, borders: list[tuple[int, int]]
) -> Iterator[Piece]:
    variable = trajectory[weights.tensors[strip.tensor].name].variable
    held = variable.values.reshape(variable.shape[0], -1) if strip.flat else None
    for start, stop in borders:
        yield _piece(variable, held, strip, start, stop)


def _piece(
    variable: xr.Variable, held: npt.NDArray[Any] | None, strip: Strip, start: int, stop: int
) -> Piece:
    # Kernels know float32 and float64 only; float16 is widened, exactly.
    dtype = np.result_type(variable.dtype, np.float32)
    if held is not None and are_cut_from_wider(held) and held.dtype == dtype:
        return Piece(strip, start, whole_rows(held[:stop]), start, strip.columns[0].start)
    part = (slice(start, stop), *strip.columns)
    rows = np.asarray(variable[part].values) if held is None else held[part]
    rows = np.ascontiguousarray(rows, dtype)
    return Piece(strip, start, rows.reshape(stop - start, strip.size))
