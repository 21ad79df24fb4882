"""The grid of a window, gathered by threads that read a strip of columns each."""

from __future__ import annotations

from threading import Lock
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from koopscope.kernels.row_look import look_at_rows
from koopscope.progress import Listener
from koopscope.statistics.grid import (
    OSCILLATION_ROWS,
    Grid,
    TrendTimes,
    add_snapshots,
    empty_snapshots,
    fingerprint,
    first_strange,
    grid_dtype,
    increment_products,
    non_finite,
)
from koopscope.statistics.spilling import release
from koopscope.statistics.strips import Piece, Strip, cut_into_strips, read_strips
from koopscope.statistics.windows import Window
from koopscope.weight_vector import WeightVector


def read_grid(trajectory: xr.Dataset, weights: WeightVector, window: Window, tell: Listener) -> Grid:
    """Read the window once and keep the snapshots on its grid.

    Raises
    ------
    NonFiniteError
        If a weight is NaN or infinite; names the tensor and the first such step.
    """
    steps = trajectory["step"].to_numpy()
    kept = _Kept(weights, window, steps)
    sums = [_StripSums(strip, kept) for strip in cut_into_strips(trajectory, weights)]
    read_strips(trajectory, weights, window, [(part.strip, part.add) for part in sums], tell)
    if kept.strange:
        tensor, row, *_, value = min(kept.strange)
        first = window.first_row
        raise non_finite(weights.tensors[tensor].name, value, steps[first:], row - first)
    products = np.sum([part.products for part in sums], axis=0)
    return Grid(
        weights,
        window,
        kept.snapshots,
        kept.last,
        kept.slope,
        (float(products[0]), float(products[1])),
        fingerprint(weights, steps, kept.snapshots),
    )


class _Kept:
    """What one pass keeps: strips write to columns of their own, from several threads."""

    def __init__(self, weights: WeightVector, window: Window, steps: npt.NDArray[np.int64]) -> None:
        self.weights, self.window = weights, window
        self.snapshots = empty_snapshots(weights, window.grid_rows.size, grid_dtype(weights, window))
        self.last, self.slope = np.empty(weights.size), np.empty(weights.size)
        self.times = TrendTimes.of(steps, window)
        self.grid_rows = window.grid_rows
        self.tail_start = max(window.first_row, window.last_row + 1 - OSCILLATION_ROWS)
        # The first of each strip that is not finite: tensor, row, where the strip is, column, value.
        self.strange: list[tuple[int, int, tuple[int, ...], int, float]] = []
        self._lock = Lock()

    def columns(self, strip: Strip, flat: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Give a strip's columns of an array whose last axis is the flat order."""
        slot, offset = self.weights.tensors[strip.tensor], int(self.weights.offsets[strip.tensor])
        shape = (slot.size,) if strip.flat else slot.shape
        tensor = flat[..., offset : offset + slot.size].reshape(*flat.shape[:-1], *shape)
        return tensor[(slice(None),) * (flat.ndim - 1) + strip.columns]

    def note(self, piece: Piece) -> None:
        """Note the first value of a piece that is not finite."""
        found = first_strange(piece.values.reshape(piece.stop - piece.start, -1))
        assert found is not None, "the kernel and NumPy do not agree"
        row, column, value = found
        begin = tuple(part.start for part in piece.strip.columns)
        with self._lock:
            self.strange.append((piece.strip.tensor, piece.start + row, begin, column, value))

    def is_over(self, piece: Piece) -> bool:
        """Tell whether what is wrong comes before a piece, which need not be looked at any more."""
        with self._lock:
            return bool(self.strange) and min(self.strange)[:2] < (piece.strip.tensor, piece.start)


class _StripSums:
    """Sums over the rows of one strip."""

    def __init__(self, strip: Strip, kept: _Kept) -> None:
        self.strip, self._kept = strip, kept
        self.products = np.zeros(2)

    def add(self, piece: Piece) -> bool:
        """Take what belongs to the grid from a piece; tell whether more of the strip is wanted."""
        kept, window, times = self._kept, self._kept.window, self._kept.times
        if piece.start == window.first_row:
            self._origin, self._sums = np.zeros(self.strip.size), np.zeros(self.strip.size)
            n_tail = window.last_row + 1 - kept.tail_start
            self._tail = np.empty((n_tail, *self.strip.shape), kept.snapshots.dtype)
        values = piece.values
        if piece.start <= times.first < piece.stop:
            self._origin[:] = values[times.first - piece.start].ravel()
        centred = times.centred[max(0, piece.start - times.first) : max(0, piece.stop - times.first)]
        place = piece.first_row, piece.first_column
        if not look_at_rows(piece.rows, *place, centred, self._origin, self._sums):
            kept.note(piece)
            return False
        columns = kept.columns(self.strip, kept.snapshots)
        add_snapshots(columns, values, piece.start, kept.grid_rows, window.average)
        first = max(piece.start, kept.tail_start)
        if piece.stop > first:
            tail = slice(first - kept.tail_start, piece.stop - kept.tail_start)
            self._tail[tail] = values[first - piece.start :]
        if piece.stop > window.last_row:
            self._finish()
        return not kept.is_over(piece)

    def _finish(self) -> None:
        kept, centred = self._kept, self._kept.times.centred
        slope = self._sums / (centred @ centred)
        kept.columns(self.strip, kept.slope)[...] = slope.reshape(self.strip.shape)
        kept.columns(self.strip, kept.last)[...] = self._tail[-1]
        self.products = increment_products(self._tail.reshape(len(self._tail), -1))
        del self._origin, self._sums, self._tail
        release(kept.snapshots)
