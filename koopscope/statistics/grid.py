"""The one pass over the weights: snapshots on the grid, the last rows' trend, and a check of what is used."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from koopscope.errors import NonFiniteError
from koopscope.kernels.accelerate import whole_rows
from koopscope.kernels.increment_products import increment_products
from koopscope.kernels.trend_sums import add_to_trend
from koopscope.statistics.reading import RowBlock
from koopscope.statistics.spilling import release, roomy_zeros
from koopscope.statistics.windows import Window
from koopscope.threads import in_threads, n_cores
from koopscope.weight_vector import WeightVector

LINEAR_SHARE = 5  # the linear baseline is fitted on the last fifth of the window
THREAD_BYTES = 8 * 2**20  # less is looked at before threads have started
TREND_WEIGHTS = 4096  # whose sums a thread keeps in its cache
LARGEST = 1e150  # sums of the squares of larger numbers may be infinite
OSCILLATION_ROWS = 64  # rows before t2 that tell whether the run alternates from row to row


@dataclass(frozen=True)
class Grid:
    """What one pass over the window keeps.

    Attributes
    ----------
    snapshots
        Weights at the grid's steps, shape ``(snapshot, weight)``, in the recorded precision; float64 means
        where rows are averaged. Of fits to every pair only the first and the last row are kept.
    last
        Weights at t2 as recorded, shape ``(weight,)``.
    slope
        Least-squares change per training step, shape ``(weight,)``: over the last fifth of the window, or
        over all of it where rows are averaged.
    increment_products
        Sums of squares of the increments just before t2, and of products of consecutive ones.
    fingerprint
        Hash of tensors, steps and the window's end rows: tells one recording from another.
    """

    weights: WeightVector
    window: Window
    snapshots: npt.NDArray[Any]
    last: npt.NDArray[np.float64]
    slope: npt.NDArray[np.float64]
    increment_products: tuple[float, float]
    fingerprint: str

    @property
    def increment_correlation(self) -> float:
        """Correlation of consecutive increments just before t2: near -1 where the run alternates."""
        power, products = self.increment_products
        n = min(OSCILLATION_ROWS, self.window.last_row - self.window.first_row + 1) - 1
        return products / power * n / (n - 1) if n >= 2 and power > 0 else 0.0

    @property
    def origin(self) -> npt.NDArray[np.float64]:
        """Where forecasts start, shape ``(weight,)``: the last snapshot, w(t2) unless rows are averaged."""
        return np.asarray(self.snapshots[-1], np.float64)


class GridSums:
    """The grid, filled block by block of rows as the recording is read.

    Parameters
    ----------
    weights, window, steps
        What is read.
    dtype
        Precision of the snapshots.
    grid_rows
        Rows that are kept.
    """

    def __init__(
        self,
        weights: WeightVector,
        window: Window,
        steps: npt.NDArray[np.int64],
        dtype: np.dtype[Any],
        grid_rows: npt.NDArray[np.int64],
    ) -> None:
        self._weights, self._window, self._steps, self._rows = weights, window, steps, grid_rows
        self._snapshots = empty_snapshots(weights, grid_rows.size, dtype)
        self._slope = np.zeros(weights.size)
        self._tail_rows = min(OSCILLATION_ROWS, window.last_row - window.first_row + 1)
        self._tails: dict[int, npt.NDArray[Any]] = {}
        self._last = np.empty(weights.size)
        self._products = np.zeros(2)
        self._times = TrendTimes.of(steps, window)
        self._trend: dict[int, _LinearTrend] = {}

    def add(self, block: RowBlock) -> None:
        """Take what belongs to the grid from a block of rows."""
        columns, window = block.batch.columns, self._window
        add_snapshots(self._snapshots[:, columns], block.rows, block.start, self._rows, window.average)
        trend = self._trend.setdefault(columns.start, _LinearTrend(self._times))
        if block.stop > self._times.first:
            start = max(block.start, self._times.first)
            trend.add(block.rows[start - block.start :], start)
        tail_start = window.last_row + 1 - self._tail_rows
        if block.stop > tail_start:
            first = max(block.start, tail_start)
            empty = np.empty((self._tail_rows, block.rows.shape[1]), self._snapshots.dtype)
            tail = self._tails.setdefault(columns.start, empty)
            tail[first - tail_start : block.stop - tail_start] = block.rows[first - block.start :]
        if block.stop == window.last_row + 1:
            self._slope[columns] = trend.slope()
            tail = self._tails.pop(columns.start)  # kept for one batch at a time
            self._last[columns] = tail[-1]
            self._products += increment_products(tail)
        release(self._snapshots)

    def finish(self) -> Grid:
        """Give the grid, when every block has been added."""
        return Grid(
            self._weights,
            self._window,
            self._snapshots,
            self._last,
            self._slope,
            (float(self._products[0]), float(self._products[1])),
            fingerprint(self._weights, self._steps, self._snapshots),
        )

    def require_finite(self, block: RowBlock, total: float | None = None) -> None:
        """Check a block of rows; ``total`` is a sum that every value went into, where there is one already.

        Raises
        ------
        NonFiniteError
            If a weight is NaN or infinite; names the tensor and the first such step.
        """
        if np.isfinite(block.rows).all() if total is None else np.isfinite(total):
            return
        for index in block.batch.tensors:
            first = int(self._weights.offsets[index]) - block.batch.columns.start
            slot = self._weights.tensors[index]
            found = first_strange(block.rows[:, first : first + slot.size])
            if found is not None:
                row, _, value = found
                begin = self._window.first_row
                raise non_finite(slot.name, value, self._steps[begin:], block.start + row - begin)


def empty_snapshots(weights: WeightVector, count: int, dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    """Make room for snapshots, beyond half the memory budget in a temporary file."""
    return roomy_zeros(
        (count, weights.size),
        dtype,
        f"a grid of {count} snapshots of {weights.size} weights",
        "use a larger --lag, a shorter window, or fewer tensors (--include, --exclude)",
    )


def grid_dtype(weights: WeightVector, window: Window) -> np.dtype[Any]:
    """Precision of snapshots: float16 is widened, exactly, since kernels know float32 and float64 only."""
    return np.dtype(np.result_type(weights.dtype, np.float32 if window.average == 1 else np.float64))


def add_snapshots(
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


@dataclass(frozen=True)
class TrendTimes:
    """The end of the window, from row ``first`` on, and its steps about their mean."""

    first: int
    centred: npt.NDArray[np.float64]

    @classmethod
    def of(cls, steps: npt.NDArray[np.int64], window: Window) -> TrendTimes:
        """Take the last fifth of the window, or all of it where rows are averaged."""
        # Noise that calls for averaging also calls for the longest line there is.
        share = LINEAR_SHARE if window.average == 1 else 1
        begin = window.t2 - (window.t2 - window.t1) // share
        first = min(int(np.searchsorted(steps, begin, side="left")), window.last_row - 1)
        # Counted from the first before they are floats, as steps may be nanoseconds since 1970.
        times = (steps[first : window.last_row + 1] - steps[first]).astype(np.float64)
        return cls(first, times - times.mean())


class _LinearTrend:
    """Least-squares slope of every weight over the end of the window, summed block by block."""

    def __init__(self, times: TrendTimes) -> None:
        self._times = times
        self._origin: npt.NDArray[np.float64] = np.empty(0)
        self._sum: npt.NDArray[np.float64] = np.empty(0)

    def add(self, rows: npt.NDArray[Any], start: int) -> None:
        if not self._sum.size:
            # Measured from one row: weights barely move, and their size would cost the sum its digits.
            self._origin, self._sum = rows[0].astype(np.float64), np.zeros(rows.shape[1])
        position = start - self._times.first
        centred = self._times.centred[position : position + len(rows)]

        n_weights, rows = rows.shape[1], whole_rows(rows)
        width = max(1, n_weights)
        if rows.nbytes > THREAD_BYTES:
            # In stretches of like lengths, which threads end with at the same time.
            rounds = -(-n_weights // (TREND_WEIGHTS * n_cores()))
            width = -(-n_weights // (rounds * n_cores()))

        def add(first: int) -> None:
            part = slice(first, first + width)
            add_to_trend(rows, first, centred, self._origin[part], self._sum[part])

        in_threads(add, range(0, n_weights, width))

    def slope(self) -> npt.NDArray[np.float64]:
        return np.asarray(self._sum / (self._times.centred @ self._times.centred))


def first_strange(rows: npt.NDArray[Any]) -> tuple[int, int, float] | None:
    """Find the first value that is not finite: its row, its column, and the value."""
    bad = ~np.isfinite(rows)
    if not bad.any():
        return None
    row = int(np.argmax(bad.any(axis=1)))
    column = int(np.argmax(bad[row]))
    return row, column, float(rows[row, column])


def non_finite(name: str, value: float, steps: npt.NDArray[np.int64], row: int) -> NonFiniteError:
    """Say where a value is not finite; ``steps`` begin with that of the first row one could end with."""
    end = f"; end the window before it: --t2 {int(steps[row - 1])}" if row else ""
    return NonFiniteError(
        f"{name} holds {value} at step {int(steps[row])}, inside the window; a diverged run or a damaged "
        f"recording cannot be fitted{end}"
    )


def is_usable(values: npt.NDArray[Any]) -> bool:
    """Tell whether values are finite, and sums of their squares are too."""
    if values.dtype.itemsize < 8 or not values.size:
        return bool(np.isfinite(values).all())
    return bool(max(values.max(), -values.min()) < LARGEST)  # NaN is not


def too_large(name: str) -> NonFiniteError:
    """Say that sums over finite values are not finite."""
    return NonFiniteError(
        f"{name} holds numbers so large that sums of their squares are infinite; scale them down"
    )


def fingerprint(weights: WeightVector, steps: npt.NDArray[np.int64], snapshots: npt.NDArray[Any]) -> str:
    """Hash tensors, steps and the window's end rows."""
    digest = hashlib.sha256(json.dumps(weights.to_attrs()).encode())
    for part in (steps, snapshots[0], snapshots[-1]):
        digest.update(np.ascontiguousarray(part).tobytes())
    return digest.hexdigest()
