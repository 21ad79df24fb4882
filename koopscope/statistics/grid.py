"""The one pass over the weights: snapshots on the grid, the last rows' trend, and a check of every row."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from koopscope.errors import NonFiniteError
from koopscope.parallel import READ_BLOCK, require_memory
from koopscope.progress import Listener
from koopscope.statistics.windows import Window
from koopscope.weight_vector import TensorSlot, WeightVector

LINEAR_SHARE = 5  # the linear baseline is fitted on the last fifth of the window
OSCILLATION_ROWS = 64  # rows before t2 that tell whether the run alternates from row to row


@dataclass(frozen=True)
class Grid:
    """What one pass over the window keeps.

    Attributes
    ----------
    snapshots
        Weights at the grid's steps, shape ``(snapshot, weight)``, in the recorded precision; float64 means
        where rows are averaged.
    last
        Weights at t2 as recorded, shape ``(weight,)``.
    slope
        Least-squares change per training step, shape ``(weight,)``: over the last fifth of the window, or
        over all of it where rows are averaged.
    increment_correlation
        Correlation of consecutive increments just before t2: near -1 where the run alternates.
    fingerprint
        Hash of tensors, steps and the window's end rows: tells one recording from another.
    """

    weights: WeightVector
    window: Window
    snapshots: npt.NDArray[Any]
    last: npt.NDArray[np.float64]
    slope: npt.NDArray[np.float64]
    increment_correlation: float
    fingerprint: str

    @property
    def origin(self) -> npt.NDArray[np.float64]:
        """Where forecasts start, shape ``(weight,)``: the last snapshot, w(t2) unless rows are averaged."""
        return np.asarray(self.snapshots[-1], np.float64)


def read_grid(trajectory: xr.Dataset, weights: WeightVector, window: Window, tell: Listener) -> Grid:
    """Read the window once, in blocks of rows.

    Raises
    ------
    NonFiniteError
        If a weight inside the window is NaN or infinite; names the tensor and the first such step.
    MemoryBudgetError
        If the snapshots alone exceed the memory budget.
    """
    # float16 is widened: kernels know float32 and float64 only, and widening is exact.
    dtype = np.result_type(weights.dtype, np.float32 if window.average == 1 else np.float64)
    require_memory(
        window.n_snapshots * weights.size * dtype.itemsize,
        f"a grid of {window.n_snapshots} snapshots of {weights.size} weights",
        "use a larger --lag, a shorter window, or fewer tensors (--include, --exclude)",
    )
    steps = trajectory["step"].to_numpy()
    snapshots = np.zeros((window.n_snapshots, weights.size), dtype)
    slope = np.zeros(weights.size)
    tail_rows = min(OSCILLATION_ROWS, window.last_row - window.first_row + 1)
    tail = np.empty((tail_rows, weights.size), dtype)
    for index, slot in enumerate(weights.tensors):
        tell("reading weights", int(weights.offsets[index]), weights.size)
        columns = slice(int(weights.offsets[index]), int(weights.offsets[index + 1]))
        _read_tensor(trajectory, slot, window, steps, snapshots[:, columns], slope[columns], tail[:, columns])
    tell("reading weights", weights.size, weights.size)
    return Grid(
        weights,
        window,
        snapshots,
        tail[-1].astype(np.float64),
        slope,
        _increment_correlation(tail),
        _fingerprint(weights, steps, snapshots),
    )


def _read_tensor(
    trajectory: xr.Dataset,
    slot: TensorSlot,
    window: Window,
    steps: npt.NDArray[np.int64],
    snapshots: npt.NDArray[Any],
    slope: npt.NDArray[np.float64],
    tail: npt.NDArray[Any],
) -> None:
    """Read one tensor's rows and fill its columns of the results."""
    variable = trajectory[slot.name].variable
    row_bytes = max(1, slot.size * np.dtype(slot.dtype).itemsize)
    rows_at_once = max(1, READ_BLOCK // row_bytes)
    trend = _LinearTrend(steps, window)
    tail_start = window.last_row + 1 - tail.shape[0]
    grid_rows = window.grid_rows
    for start in range(window.first_row, window.last_row + 1, rows_at_once):
        stop = min(start + rows_at_once, window.last_row + 1)
        rows = np.asarray(variable[start:stop].values).reshape(stop - start, slot.size)
        _require_finite(rows, slot.name, steps[start:stop])
        _add_snapshots(snapshots, rows, start, grid_rows, window.average)
        trend.add(rows, start)
        if stop > tail_start:
            first = max(start, tail_start)
            tail[first - tail_start : stop - tail_start] = rows[first - start :]
    slope[:] = trend.slope()


def _add_snapshots(
    snapshots: npt.NDArray[Any],
    rows: npt.NDArray[Any],
    start: int,
    grid_rows: npt.NDArray[np.int64],
    average: int,
) -> None:
    """Put a block of rows where it belongs in the snapshots: copied, or as its share of a mean."""
    if average == 1:
        inside = slice(*np.searchsorted(grid_rows, [start, start + rows.shape[0]]))
        snapshots[inside] = rows[grid_rows[inside] - start]
        return
    number = np.arange(start, start + rows.shape[0])
    snapshot = np.minimum(np.searchsorted(grid_rows, number), grid_rows.size - 1)
    distance = grid_rows[snapshot] - number
    used = (distance >= 0) & (distance < average)
    np.add.at(snapshots, snapshot[used], rows[used].astype(np.float64) / average)


class _LinearTrend:
    """Least-squares slope of every weight over the end of the window, summed block by block."""

    def __init__(self, steps: npt.NDArray[np.int64], window: Window) -> None:
        # Noise that calls for averaging also calls for the longest line there is.
        share = LINEAR_SHARE if window.average == 1 else 1
        begin = window.t2 - (window.t2 - window.t1) / share
        first = min(int(np.searchsorted(steps, begin, side="left")), window.last_row - 1)
        times = steps[first : window.last_row + 1].astype(np.float64)
        self._first = first
        self._centred = times - times.mean()
        self._origin: npt.NDArray[np.float64] | None = None
        self._sum: npt.NDArray[np.float64] | float = 0.0

    def add(self, rows: npt.NDArray[Any], start: int) -> None:
        skip = max(0, self._first - start)
        if skip >= rows.shape[0]:
            return
        values = rows[skip:].astype(np.float64)
        if self._origin is None:
            # Measured from one row: weights barely move, and their size would cost the sum its digits.
            self._origin = values[0].copy()
        values -= self._origin
        position = start + skip - self._first
        self._sum = self._sum + self._centred[position : position + values.shape[0]] @ values

    def slope(self) -> npt.NDArray[np.float64]:
        return np.asarray(self._sum / (self._centred @ self._centred))


def _require_finite(rows: npt.NDArray[Any], name: str, steps: npt.NDArray[np.int64]) -> None:
    finite = np.isfinite(rows)
    if finite.all():
        return
    bad = ~finite.all(axis=1)
    first = int(np.argmax(bad))
    value = rows[first][~finite[first]][0]
    end = f"; end the window before it: --t2 {int(steps[first - 1])}" if first else ""
    raise NonFiniteError(
        f"{name} holds {value} at step {int(steps[first])}, inside the window; a diverged run or a damaged "
        f"recording cannot be fitted{end}"
    )


def _increment_correlation(tail: npt.NDArray[Any]) -> float:
    increments = np.diff(tail.astype(np.float64), axis=0)
    power = float(np.sum(increments * increments))
    if increments.shape[0] < 2 or power == 0.0:
        return 0.0
    products = float(np.sum(increments[1:] * increments[:-1]))
    n = increments.shape[0]
    return float(products / power * n / (n - 1))


def _fingerprint(weights: WeightVector, steps: npt.NDArray[np.int64], snapshots: npt.NDArray[Any]) -> str:
    digest = hashlib.sha256(json.dumps(weights.to_attrs()).encode())
    for part in (steps, snapshots[0], snapshots[-1]):
        digest.update(np.ascontiguousarray(part).tobytes())
    return digest.hexdigest()
