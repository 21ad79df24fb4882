"""Which recorded rows a fit looks at: the window t1..t2, its lag, and the grid of snapshots inside it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from koopscope.errors import StepError, UsageError, WindowError
from koopscope.whole_numbers import whole_number


@dataclass(frozen=True)
class Window:
    """Recorded rows from t1 to t2, and the grid of snapshots one lag apart that ends exactly on t2.

    Attributes
    ----------
    t1, t2
        First and last training step of the window; both are recorded.
    lag
        Training steps between snapshots of the grid.
    spacing
        Training steps between recorded rows.
    first_row, last_row
        Rows of ``t1`` and ``t2`` in the recording.
    average
        Recorded rows averaged into one snapshot, the last of which gives the snapshot its step.
    """

    t1: int
    t2: int
    lag: int
    spacing: int
    first_row: int
    last_row: int
    average: int = 1

    @property
    def stride(self) -> int:
        """Rows between snapshots of the grid."""
        return self.lag // self.spacing

    @property
    def grid_rows(self) -> npt.NDArray[np.int64]:
        """Rows of the snapshots, counted back from t2 so that they share its phase."""
        first_whole = self.first_row + self.average - 1
        backwards = np.arange(self.last_row, first_whole - 1, -self.stride, dtype=np.int64)
        return backwards[::-1]

    @property
    def n_snapshots(self) -> int:
        """Number of snapshots in the grid."""
        return (self.last_row - self.first_row - self.average + 1) // self.stride + 1

    @property
    def origin_offset(self) -> float:
        """Training steps from the middle of the last snapshot's rows to t2; 0 without averaging."""
        return (self.average - 1) * self.spacing / 2


def choose_window(
    steps: npt.NDArray[np.int64],
    *,
    t1: int | None = None,
    t2: int | None = None,
    lag: int | None = None,
    average: int = 1,
    lags_per_window: int | None = None,
    min_snapshots: int = 3,
) -> Window:
    """Settle the window on the recorded steps.

    Parameters
    ----------
    steps
        Recorded training steps, strictly increasing.
    t1, t2
        Bounds in training steps; by default the first recorded step, and the end of the first four
        fifths of the recording. Bounds between recorded steps move inwards.
    lag
        Training steps between snapshots, a multiple of the spacing. By default one spacing, or where
        ``lags_per_window`` is given, the multiple nearest to ``(t2 - t1) / lags_per_window``.
    average
        Recorded rows averaged into one snapshot; the lag must hold at least as many.
    min_snapshots
        Fewest snapshots that the fit can use.

    Raises
    ------
    WindowError
        If the bounds lie outside the recording, or hold too few snapshots.
    StepError
        If the steps inside the window are not evenly spaced.
    UsageError
        If a bound or the lag is no whole number, or cannot be used.

    Examples
    --------
    >>> choose_window(np.arange(0, 1001, 5), t1=3, lags_per_window=100)
    Window(t1=5, t2=800, lag=10, spacing=5, first_row=1, last_row=160, average=1)
    """
    t1, t2, lag = whole_number("t1", t1), whole_number("t2", t2), whole_number("lag", lag)
    average = whole_number("average", average)
    if steps.size < 3:
        raise WindowError(f"the recording holds {steps.size} rows, a fit needs at least 3 snapshots")
    first, last = int(steps[0]), int(steps[-1])
    start = first if t1 is None else int(t1)
    end = first + 4 * (last - first) // 5 if t2 is None else int(t2)
    _check_bounds(start, end, first, last)
    first_row = int(np.searchsorted(steps, start, side="left"))
    last_row = int(np.searchsorted(steps, end, side="right")) - 1
    rows = last_row - first_row + 1
    if rows < 3:
        raise WindowError(
            f"t1={start}..t2={end} holds {max(0, rows)} recorded snapshots, a fit needs "
            f"at least 3; the recording has {steps.size} rows from step {first} to {last}"
        )
    spacing = _even_spacing(steps, first_row, last_row)
    if 3 * average > rows:
        raise WindowError(
            f"averages of {average} rows each leave fewer than 3 snapshots of the {rows} rows in "
            f"t1={start}..t2={end}; use --average {rows // 3} or less"
        )
    begin, finish = int(steps[first_row]), int(steps[last_row])
    chosen = _choose_lag(lag, finish - begin, spacing, lags_per_window, average)
    window = Window(begin, finish, chosen, spacing, first_row, last_row, average)
    if window.n_snapshots < min_snapshots:
        largest = (last_row - first_row - average + 1) // (min_snapshots - 1) * spacing
        raise WindowError(
            f"a lag of {chosen} steps leaves {window.n_snapshots} snapshots in t1={begin}..t2={finish}, "
            f"this fit needs at least {min_snapshots}; "
            + (f"use --lag {largest} or less" if largest >= average * spacing else "use a longer window")
        )
    return window


def _check_bounds(start: int, end: int, first: int, last: int) -> None:
    inside = f"the recording holds steps {first} to {last}"
    if start < first or start > last:
        raise WindowError(f"t1={start} is outside the recording; {inside}")
    if end < first or end > last:
        raise WindowError(f"t2={end} is outside the recording; {inside}")
    if start >= end:
        raise WindowError(f"t1={start} must come before t2={end}; {inside}")


def _even_spacing(steps: npt.NDArray[np.int64], first_row: int, last_row: int) -> int:
    differences = np.diff(steps[first_row : last_row + 1])
    if np.all(differences == differences[0]):
        return int(differences[0])
    # Longest run of equal differences: between the places where the difference changes.
    changes = np.flatnonzero(np.diff(differences)) + 1
    bounds = np.concatenate([[0], changes, [differences.size]])
    longest = int(np.argmax(np.diff(bounds)))
    start = int(steps[first_row + bounds[longest]])
    end = int(steps[first_row + bounds[longest + 1]])
    where = int(steps[first_row + changes[0]])
    long_enough = bounds[longest + 1] - bounds[longest] >= 2
    remedy = (
        f"the longest even stretch is --t1 {start} --t2 {end}"
        if long_enough
        else "no 3 steps in a row are even"
    )
    raise StepError(
        f"recorded steps are unevenly spaced inside t1..t2 (the spacing changes at step {where}); {remedy}"
    )


def check_lag(lag: int, spacing: int) -> None:
    """Check that a lag in training steps is a whole number of recorded rows.

    Raises
    ------
    UsageError
        If it is not positive.
    StepError
        If it is no multiple of the spacing; names the nearest.
    """
    if lag < 1:
        raise UsageError(f"lag must be a positive number of training steps, got {lag}")
    if lag % spacing:
        nearest = max(1, round(lag / spacing)) * spacing
        raise StepError(
            f"lag={lag} is not a multiple of the recorded spacing of {spacing} steps; "
            f"the nearest is {nearest}"
        )


def _choose_lag(lag: int | None, length: int, spacing: int, lags_per_window: int | None, average: int) -> int:
    if average < 1:
        raise UsageError(
            f"average counts recorded rows in one snapshot and must be at least 1, got {average}"
        )
    if lag is None:
        if lags_per_window is None:
            return average * spacing
        return max(average, round(length / lags_per_window / spacing)) * spacing
    check_lag(lag, spacing)
    if lag < average * spacing:
        raise UsageError(
            f"a lag of {lag} steps is shorter than the {average} rows averaged into one snapshot; "
            f"use a lag of at least {average * spacing}, or average fewer rows"
        )
    return int(lag)
