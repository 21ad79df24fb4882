"""The grid of a window, gathered by threads that read a strip of columns each.

Only rows that are used are looked at: those on the grid, and the last ones, whose line is the baseline.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from koopscope.errors import NonFiniteError
from koopscope.kernels.increment_products import increment_products
from koopscope.kernels.trend_sums import add_to_trend
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
    is_usable,
    non_finite,
    too_large,
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
        If a weight is NaN or infinite in a row that is used; names the tensor and its first such step.
    """
    steps = trajectory["step"].to_numpy()
    kept = _Kept(weights, window, steps)
    sums = [_StripSums(strip, kept) for strip in cut_into_strips(trajectory, weights)]
    read_strips(trajectory, weights, kept.wanted, [(part.strip, part.add) for part in sums], tell)
    if kept.strange:
        raise _not_finite(trajectory, weights, window, min(kept.strange))
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


def _not_finite(trajectory: xr.Dataset, weights: WeightVector, window: Window, tensor: int) -> NonFiniteError:
    """Look at every row of a tensor for the first that is not finite: it may lie between used ones."""
    wanted = np.arange(window.last_row + 1) >= window.first_row
    strips = [strip for strip in cut_into_strips(trajectory, weights) if strip.tensor == tensor]
    found: list[tuple[int, tuple[int, ...], int, float]] = []

    def look(piece: Piece) -> bool:
        strange = first_strange(piece.values.reshape(piece.stop - piece.start, -1))
        if strange is not None:
            begin = tuple(part.start for part in piece.strip.columns)
            found.append((piece.start + strange[0], begin, *strange[1:]))
        return strange is None

    read_strips(trajectory, weights, wanted, [(strip, look) for strip in strips], lambda *_: None)
    name = weights.tensors[tensor].name
    if not found:
        return too_large(name)
    row, *_, value = min(found)
    steps = trajectory["step"].to_numpy()
    return non_finite(name, value, steps[window.first_row :], row - window.first_row)


class _Kept:
    """What one pass keeps: strips write to columns of their own, from several threads."""

    def __init__(self, weights: WeightVector, window: Window, steps: npt.NDArray[np.int64]) -> None:
        self.weights, self.window = weights, window
        self.snapshots = empty_snapshots(weights, window.grid_rows.size, grid_dtype(weights, window))
        self.last, self.slope = np.empty(weights.size), np.empty(weights.size)
        self.times = TrendTimes.of(steps, window)
        self.grid_rows = window.grid_rows
        self.tail_start = max(window.first_row, window.last_row + 1 - OSCILLATION_ROWS)
        self.wanted = np.zeros(window.last_row + 1, bool)
        for before in range(window.average):
            self.wanted[self.grid_rows - before] = True
        self.wanted[min(self.times.first, self.tail_start) :] = True
        self.strange: list[int] = []  # tensors with a value that is not finite

    def columns(self, strip: Strip, flat: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Give a strip's columns of an array whose last axis is the flat order."""
        slot, offset = self.weights.tensors[strip.tensor], int(self.weights.offsets[strip.tensor])
        shape = (slot.size,) if strip.flat else slot.shape
        tensor = flat[..., offset : offset + slot.size].reshape((*flat.shape[:-1], *shape))
        return tensor[(slice(None),) * (flat.ndim - 1) + (*strip.columns, ...)]  # a view, of a scalar too


class _StripSums:
    """Sums over the rows of one strip."""

    def __init__(self, strip: Strip, kept: _Kept) -> None:
        self.strip, self._kept = strip, kept
        self.products = np.zeros(2)
        self._begun = False

    def _begin(self) -> None:
        """Make room, not before the strip is read."""
        kept, self._begun = self._kept, True
        self._origin, self._sums = np.zeros(self.strip.size), np.zeros(self.strip.size)
        n_tail = kept.window.last_row + 1 - kept.tail_start
        self._tail = np.empty((n_tail, *self.strip.shape), kept.snapshots.dtype)

    def add(self, piece: Piece) -> bool:
        """Take what is used from a piece; tell whether more of the strip is wanted."""
        kept, values = self._kept, piece.values
        if not self._begun:
            self._begin()
        snapshots = kept.columns(self.strip, kept.snapshots)
        add_snapshots(snapshots, values, piece.start, kept.grid_rows, kept.window.average)
        self._add_to_trend(piece)
        first = max(piece.start, kept.tail_start)
        tail = self._tail[max(0, first - kept.tail_start) : max(0, piece.stop - kept.tail_start)]
        tail[...] = values[first - piece.start :]
        if piece.stop > kept.window.last_row:
            self._finish()
        # What comes after a tensor that is not finite need not be looked at any more.
        return self.strip.tensor <= min(kept.strange, default=self.strip.tensor)

    def _add_to_trend(self, piece: Piece) -> None:
        times = self._kept.times
        if piece.stop <= times.first:
            return
        if piece.start <= times.first:
            self._origin[:] = piece.values[times.first - piece.start].ravel()
        centred = times.centred[max(0, piece.start - times.first) : piece.stop - times.first]
        add_to_trend(piece.rows, piece.first_column, centred, self._origin, self._sums)

    def _finish(self) -> None:
        kept, centred = self._kept, self._kept.times.centred
        snapshots, tail = kept.columns(self.strip, kept.snapshots), self._tail
        if all(map(is_usable, (self._sums, tail, snapshots))):
            slope = self._sums / (centred @ centred)
            kept.columns(self.strip, kept.slope)[...] = slope.reshape(self.strip.shape)
            kept.columns(self.strip, kept.last)[...] = tail[-1]
            self.products[:] = increment_products(tail.reshape(len(tail), -1))
        else:
            kept.strange.append(self.strip.tensor)
        del self._origin, self._sums, self._tail
        release(kept.snapshots)
