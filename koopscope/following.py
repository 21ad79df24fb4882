"""Judging a run while it is being recorded: a ring of the last windows, at a cost that does not grow."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from koopscope.basin import NOISY, WINDOWS, noise_level, rounding_errors, settle
from koopscope.basin_criteria import CONSECUTIVE, ON_CIRCLE, Judged
from koopscope.basin_table import ENTRY, basin_table, judge_noisy, judge_quiet
from koopscope.errors import NonFiniteError, StepError, UsageError
from koopscope.operators import Floats
from koopscope.parallel import single_threaded_blas
from koopscope.partition import Partition
from koopscope.recent_windows import RecentWindows
from koopscope.trajectory import open_trajectory
from koopscope.variables import check
from koopscope.weight_vector import WeightVector

_BYTES_AT_ONCE = 64 * 2**20  # of recorded rows read at a time, however many are waiting


class BasinFollower:
    """Takes snapshots as they come and judges the windows that they complete.

    Kept are the increments of the last five windows and their inner products per group, so that a snapshot
    costs the same whenever it comes. A window's verdict is the one that `koopscope.find_basin` gives it;
    noisy runs are judged over the last five windows instead of the whole run.

    Parameters
    ----------
    weights
        Flat order of the weights.
    partition
        As in `koopscope.find_basin`.
    lag
        Training steps between snapshots.
    m
        Lags in a window.
    stochastic
        As in `koopscope.find_basin`.
    """

    def __init__(
        self, weights: WeightVector, partition: str | Partition, lag: int, m: int, stochastic: bool | None
    ) -> None:
        self._weights, self._lag, self._m, self._stochastic = weights, lag, m, stochastic
        self._partition = Partition.parse(partition)
        self._blocks = self._partition.blocks(weights)
        self._members = [members for block in self._blocks for members in block.members]
        self._n_groups = len(self._members)
        if stochastic is None and (self._n_groups > 1 or self._members[0].size < weights.size):
            self._members.append(np.arange(weights.size))  # the network tells whether the run is noisy
        self._recent = [RecentWindows(each.size, m, WINDOWS * m) for each in self._members]
        self._last: Floats | None = None
        self._first_step = 0  # of the oldest increment kept
        self._entered: dict[str, Floats] = {}

    def add(self, snapshots: npt.NDArray[Any], first_step: int) -> xr.Dataset | None:
        """Take snapshots one lag apart, the first of which was recorded at a step.

        Returns
        -------
        xr.Dataset or None
            As `koopscope.find_basin` returns, for the windows that these snapshots complete; None where
            they complete none.
        """
        tables = []
        with single_threaded_blas():  # the products are too narrow to be worth a second thread
            for start in range(0, snapshots.shape[0], self._m):
                chunk = snapshots[start : start + self._m].astype(np.float64)
                if self._last is None:
                    self._first_step, self._last, chunk = first_step, chunk[0], chunk[1:]
                if chunk.shape[0]:
                    self._extend(chunk)
                    tables.append(self._judge(chunk.shape[0]))
        found = [table for table in tables if table is not None]
        if len(found) < 2:
            return found[0] if found else None
        windows = xr.concat(found, "window", data_vars="minimal", coords="minimal", compat="override")
        return windows.assign_attrs(found[-1].attrs)

    def _extend(self, chunk: Floats) -> None:
        new = np.diff(np.concatenate([np.atleast_2d(np.asarray(self._last)), chunk]), axis=0)
        self._last = chunk[-1]
        dropped = max(0, self._recent[0].kept + new.shape[0] - WINDOWS * self._m)
        self._first_step += dropped * self._lag
        for own, members, rounding in zip(self._recent, self._members, self._roundings(), strict=True):
            own.extend(new if members.size == new.shape[1] else new[:, members], rounding)

    def _roundings(self) -> list[float]:
        errors = rounding_errors(self._weights, np.asarray(self._last))
        return [float(errors[members].sum()) for members in self._members]

    def _judge(self, n_new: int) -> xr.Dataset | None:
        """Judge the windows that the last ``n_new`` increments complete, with the past that this takes."""
        kept, m = self._recent[0].kept, self._m
        new_windows = min(n_new, kept - m + 1)
        if new_windows < 1:
            return None
        noisy, rule, judged = self._windows(max(0, kept - CONSECUTIVE * m - n_new))
        groups = [
            # Noisy runs are judged over all that is kept.
            judge_noisy(recent.products, m, own) if noisy else judge_quiet(own, m)
            for recent, own in zip(self._recent[: self._n_groups], judged, strict=True)
        ]
        n_windows = judged[0].in_basin.size
        first = self._first_step + (kept - m + 1 - n_windows) * self._lag
        attrs = {
            "koopscope_result": "basin",
            "partition": str(self._partition),
            "stochastic": noisy,
            "stochastic_rule": rule,
            "window": m * self._lag,
            "lag": self._lag,
            "tolerance": ON_CIRCLE,
        }
        table = basin_table(groups, self._blocks, first + np.arange(n_windows) * self._lag, attrs)
        for name in ENTRY:
            held = self._entered.get(name, np.full(len(groups), np.nan))
            self._entered[name] = np.where(np.isnan(held), table[name], held)  # the first entry stays
            table[name] = ("group", self._entered[name])
        return check(table.isel(window=slice(-new_windows, None)))

    def _windows(self, start: int) -> tuple[bool, str, list[Judged]]:
        """Judge windows from an increment on: of all that is kept where the run is noisy."""
        roundings = self._roundings()
        noisy, rule = self._is_noisy(start, roundings[-1])
        first = 0 if noisy else start
        own = zip(self._recent[: self._n_groups], roundings[: self._n_groups], strict=True)
        return noisy, rule, [recent.judge(first, rounding) for recent, rounding in own]

    def _is_noisy(self, start: int, rounding: float) -> tuple[bool, str]:
        if self._stochastic is not None:
            return self._stochastic, "asked for"
        error = noise_level(self._recent[-1].judge(start, rounding).fits)
        return error > NOISY, f"median one-step error {error:.3g} {'>' if error > NOISY else '<='} {NOISY:g}"


def follow_basin(
    path: str | Path,
    partition: str | Partition = "network",
    *,
    stochastic: bool | None = None,
    window: int | None = None,
    lag: int | None = None,
    poll: float = 1.0,
    patience: float = 60.0,
) -> Iterator[xr.Dataset]:
    """Judge a recording while it is being written: yields the windows completed since the last time.

    Parameters
    ----------
    path
        A recording that `open_trajectory` reads.
    partition, stochastic
        As in `koopscope.find_basin`.
    window, lag
        As in `koopscope.find_basin`, but settled on the rows that are there at the start; give ``window``
        where these are few.
    poll
        Seconds between two looks.
    patience
        Seconds without a new row after which the iterator ends.

    Yields
    ------
    xr.Dataset
        As `koopscope.find_basin` returns, for the new windows alone, and without suggestions. An entry is
        kept once it is found.

    Raises
    ------
    WindowError
        If the windows cannot be settled on what is there at the start.
    NonFiniteError
        If a weight is NaN or infinite.
    UsageError
        If ``poll`` or ``patience`` is negative.

    Examples
    --------
    >>> for windows in follow_basin("run.zarr", window=3000):  # doctest: +SKIP
    ...     print(windows["window_end"].values[-1], windows["in_basin"].values[:, -1])
    """
    if not (poll >= 0 and patience >= 0):  # nor are they NaN
        raise UsageError(f"poll and patience are seconds and cannot be negative, got {poll} and {patience}")
    follower: BasinFollower | None = None
    next_row, stride, chosen, last_news = 0, 1, 0, time.monotonic()
    while True:
        run = open_trajectory(path)
        steps = run["step"].to_numpy().astype(np.int64)
        if follower is None and steps.size > 1:
            _, chosen, m = settle(steps, window, lag)
            stride = chosen // int(steps[-1] - steps[-2])
            follower = BasinFollower(WeightVector.of(run), partition, chosen, m, stochastic)
        if follower is not None and steps.size > next_row:
            last_news = time.monotonic()
            waiting = np.arange(next_row, steps.size, stride)
            next_row = int(waiting[-1]) + stride
            _require_even(steps, waiting, chosen)
            for rows in _portions(waiting, run, stride):
                news = follower.add(_read_rows(run, rows), int(steps[rows[0]]))
                if news is not None:
                    yield news
        elif time.monotonic() - last_news >= patience:
            return
        time.sleep(poll)


def _portions(rows: npt.NDArray[np.int64], run: xr.Dataset, stride: int) -> Iterator[npt.NDArray[np.int64]]:
    """Cut rows into portions that fit into memory with all that lies between them."""
    bytes_a_row = stride * sum(
        slot.size * np.dtype(slot.dtype).itemsize for slot in WeightVector.of(run).tensors
    )
    at_once = max(1, _BYTES_AT_ONCE // bytes_a_row)
    for start in range(0, rows.size, at_once):
        yield rows[start : start + at_once]


def _require_even(steps: npt.NDArray[np.int64], rows: npt.NDArray[np.int64], lag: int) -> None:
    uneven = np.flatnonzero(np.diff(steps[rows]) != lag)
    if uneven.size:
        raise StepError(
            f"recorded steps are unevenly spaced after step {int(steps[rows[uneven[0]]])}; a lag of {lag} "
            "steps cannot be kept"
        )


def _read_rows(run: xr.Dataset, rows: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
    """Read snapshots, shape ``(row, weight)``; rows between them are not decoded one by one."""
    pieces = []
    for slot in WeightVector.of(run).tensors:
        values = np.asarray(run[slot.name].variable[rows[0] : rows[-1] + 1].values)[:: _step_of(rows)]
        if not np.isfinite(values).all():
            bad = rows[int(np.argmax(~np.isfinite(values).reshape(rows.size, -1).all(axis=1)))]
            raise NonFiniteError(
                f"{slot.name} is not finite at step {int(run['step'][bad])}: the run diverged; restart it "
                "from an earlier checkpoint"
            )
        pieces.append(values.reshape(rows.size, -1))
    return np.concatenate(pieces, axis=1)


def _step_of(rows: npt.NDArray[np.int64]) -> int:
    return int(rows[1] - rows[0]) if rows.size > 1 else 1
