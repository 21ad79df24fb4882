"""One pass over the weights of a window: blocks of rows that fit the memory budget, read one ahead.

Sums over rows are made of *runs* of rows, whose borders depend on the tensors alone. Blocks hold whole
runs, so that any memory budget gives the same statistics, bit for bit.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from koopscope.kernels.accelerate import are_cut_from_wider
from koopscope.parallel import memory_budget, require_memory
from koopscope.progress import Listener
from koopscope.statistics.windows import Window
from koopscope.threads import one_ahead
from koopscope.trajectory.lazy import read_into
from koopscope.weight_vector import WeightVector

BLOCK_BYTES = 32 * 2**20  # a block that is read at once: more gains nothing
HELD_BYTES = 256 * 2**20  # a block of what is in memory, looked at where it lies: so that progress is told
BLOCK_ROWS = 512  # at least, of wide rows: fewer are waited for too often, and chunks of them decoded again
BLOCKS_IN_FLIGHT = 3  # one computed on, one read ahead, and what decoding and widening take


@dataclass(frozen=True, eq=False)
class Batch:
    """Tensors that are read together, neighbours in the flat order.

    Attributes
    ----------
    tensors
        Indices of the tensors.
    columns
        Their place in the flat order.
    rows_per_run
        Rows of a run.
    """

    tensors: tuple[int, ...]
    columns: slice
    rows_per_run: int

    @classmethod
    def of(cls, weights: WeightVector, tensors: Sequence[int], rows_per_run: int) -> Batch:
        """Find the place of some tensors."""
        columns = slice(int(weights.offsets[tensors[0]]), int(weights.offsets[tensors[-1] + 1]))
        return cls(tuple(tensors), columns, rows_per_run)

    def pieces(self, weights: WeightVector) -> list[Batch]:
        """Cut off the larger of the first and the last tensor: what is one tensor need not be copied."""
        sizes = [weights.tensors[index].size for index in self.tensors]
        if len(sizes) == 1:
            return [self]
        cut = 1 if sizes[0] >= sizes[-1] else len(sizes) - 1
        parts = self.tensors[:cut], self.tensors[cut:]
        return [Batch.of(weights, part, self.rows_per_run) for part in parts]

    def holds(self, members: npt.NDArray[np.int64]) -> bool:
        """Tell whether a block of groups lies in this batch."""
        return bool(self.columns.start <= members.min() and members.max() < self.columns.stop)

    def rows_per_held_block(self, row_bytes: int) -> int:
        """Rows that are looked at together where they lie in memory: whole runs."""
        return self._runs_within(HELD_BYTES, row_bytes)

    def rows_per_block(self, row_bytes: int) -> int:
        """Rows that are read at once: whole runs, as the memory budget allows.

        Raises
        ------
        MemoryBudgetError
            If not even one run fits.
        """
        require_memory(
            BLOCKS_IN_FLIGHT * self.rows_per_run * row_bytes,
            f"reading {self.rows_per_run} rows of {self.columns.stop - self.columns.start} weights at a time",
            "use fewer tensors (--include, --exclude)",
        )
        share = memory_budget() // 4  # two of them take turns, in half of it
        return self._runs_within(min(share, max(BLOCK_BYTES, BLOCK_ROWS * row_bytes)), row_bytes)

    def _runs_within(self, n_bytes: int, row_bytes: int) -> int:
        """Rows of so many bytes, at least one run."""
        runs = max(1, n_bytes // (row_bytes * self.rows_per_run))
        # Powers of two, as runs are: borders of blocks are then borders of recorded chunks.
        return int(self.rows_per_run << (int(runs).bit_length() - 1))


@dataclass(frozen=True)
class RowBlock:
    """Consecutive rows of a batch, shape ``(row, weight)``; gone when the next block is asked for.

    ``overlapping`` has the rows just before them in front, as many as were asked for and have been read.
    """

    batch: Batch
    start: int
    rows: npt.NDArray[Any]
    overlapping: npt.NDArray[Any]

    @property
    def stop(self) -> int:
        """Row after the last."""
        return self.start + int(self.rows.shape[0])


class Pace:
    """Tells how much has been read, how fast, and how long the rest takes.

    Parameters
    ----------
    tell
        Whom it tells.
    total
        Bytes there are to read.
    """

    def __init__(self, tell: Listener, total: int) -> None:
        """Begin with nothing."""
        self._tell, self._total, self._done = tell, total, 0
        self._first, self._since = 0, math.nan
        tell("reading weights", 0, total)

    def add(self, n_bytes: int) -> None:
        """Tell that so many more have been read; kernels may be compiled for the first, so it has no pace."""
        now = time.perf_counter()
        if not self._done:
            self._first, self._since = n_bytes, now
        self._done += n_bytes
        if self._done > self._first and now - self._since > 1:
            rate = (self._done - self._first) / (now - self._since)
            left = (self._total - self._done) / rate
            self._tell(f"reading {rate / 1e6:.0f} MB/s, {left:.0f} s left", 0, 0)
        self._tell("reading weights", self._done, self._total)


def row_blocks(
    trajectory: xr.Dataset,
    weights: WeightVector,
    window: Window,
    batches: Sequence[Batch],
    dtype: np.dtype[Any],
    tell: Listener,
    overlap: int = 0,
) -> Iterator[list[RowBlock]]:
    """Read the window batch by batch, block by block of rows, always one block ahead of the caller.

    With an ``overlap``, batches come in one or two pieces of neighbouring columns.
    """
    n_rows = window.last_row + 1 - window.first_row
    total = n_rows * weights.size * dtype.itemsize
    pace = Pace(tell, total)
    found = _read_all(trajectory, weights, window, batches, dtype, overlap)
    if total > BLOCK_BYTES:  # what one block holds is read before a thread has started
        found = one_ahead(found)
    for blocks in found:
        yield blocks
        pace.add(sum(block.rows.size for block in blocks) * dtype.itemsize)


def _read_all(
    trajectory: xr.Dataset,
    weights: WeightVector,
    window: Window,
    batches: Sequence[Batch],
    dtype: np.dtype[Any],
    overlap: int,
) -> Iterator[list[RowBlock]]:
    for batch in batches:
        pieces = batch.pieces(weights) if overlap else [batch]
        readers = [_BatchReader(trajectory, weights, window, piece, overlap > 0) for piece in pieces]
        held = all(reader.lies_in_memory(dtype) for reader in readers)
        rows_at_once = batch.rows_per_held_block if held else batch.rows_per_block
        length = rows_at_once(row_bytes(weights, batch, dtype))
        blocks = [_read_piece(reader, length, dtype, overlap) for reader in readers]
        yield from map(list, zip(*blocks, strict=True))


def _read_piece(read: _BatchReader, length: int, dtype: np.dtype[Any], overlap: int) -> Iterator[RowBlock]:
    batch, window = read.batch, read.window
    if read.is_one_tensor and (not overlap or read.in_memory):
        for start, stop in _borders(window, length):
            kept = min(overlap, start - window.first_row)
            rows = read.tensor(0, start - kept, stop).astype(dtype, copy=False)
            yield RowBlock(batch, start, rows[kept:], rows)
        return
    # Two pieces of memory take turns: one is read into while the other is computed on.
    longest = overlap + min(length, window.last_row + 1 - window.first_row)
    width = batch.columns.stop - batch.columns.start
    memory, other = np.empty((longest, width), dtype), np.empty((longest, width), dtype)
    filled = 0
    for start, stop in _borders(window, length):
        kept = min(overlap, filled)
        memory[:kept] = other[filled - kept : filled]
        filled = kept + stop - start
        read.into(memory[kept:filled], start, stop)
        yield RowBlock(batch, start, memory[kept:filled], memory[:filled])
        memory, other = other, memory


class _BatchReader:
    """Reads the rows of a batch, small tensors at once where they are read together with others."""

    def __init__(
        self, trajectory: xr.Dataset, weights: WeightVector, window: Window, batch: Batch, together: bool
    ) -> None:
        self._slots = [weights.tensors[index] for index in batch.tensors]
        self._variables = [trajectory[slot.name].variable for slot in self._slots]
        self.batch, self.window, self._first = batch, window, window.first_row
        self._whole: dict[int, npt.NDArray[Any]] = {}
        held = [variable._in_memory for variable in self._variables]
        if together:
            for index, slot in enumerate(self._slots):
                # A chunk of a small tensor holds so many rows that it would be decoded for many blocks.
                n_bytes = (window.last_row + 1 - self._first) * slot.size * np.dtype(slot.dtype).itemsize
                if not held[index] and n_bytes <= min(BLOCK_BYTES, memory_budget() // 32):
                    self._whole[index] = self.tensor(index, self._first, window.last_row + 1)
                    held[index] = True
        self.in_memory, self.is_one_tensor = all(held), len(batch.tensors) == 1

    def lies_in_memory(self, dtype: np.dtype[Any]) -> bool:
        """Tell whether blocks of rows are views of what is in memory."""
        if not self.in_memory or not self.is_one_tensor or np.dtype(self._slots[0].dtype) != dtype:
            return False
        if 0 in self._whole:
            return True
        rows = self._variables[0][:2].values
        # Else they would be copied: weights that are not neighbours, and rows that do not follow one another.
        return rows[0].flags.c_contiguous and are_cut_from_wider(rows.reshape(len(rows), -1))

    def tensor(self, index: int, start: int, stop: int) -> npt.NDArray[Any]:
        """Rows of one tensor, flat."""
        if index in self._whole:
            return self._whole[index][start - self._first : stop - self._first]
        rows = np.asarray(self._variables[index][start:stop].values)
        return rows.reshape(stop - start, self._slots[index].size)

    def into(self, out: npt.NDArray[Any], start: int, stop: int) -> None:
        """Put rows of all tensors side by side."""
        column = 0
        for index, slot in enumerate(self._slots):
            place = out[:, column : column + slot.size]
            if index in self._whole:
                place[...] = self.tensor(index, start, stop)
            else:
                read_into(
                    self._variables[index], slice(start, stop), place.reshape(stop - start, *slot.shape)
                )
            column += slot.size


def row_bytes(weights: WeightVector, batch: Batch, dtype: np.dtype[Any]) -> int:
    """Bytes of one row of a batch."""
    return max(1, int(batch.columns.stop - batch.columns.start) * dtype.itemsize)


def _borders(window: Window, length: int) -> Iterator[tuple[int, int]]:
    """First row of each block and the one after its last: multiples of the length, in the recording."""
    start = window.first_row
    while start <= window.last_row:
        stop = min((start // length + 1) * length, window.last_row + 1)
        yield start, stop
        start = stop
