"""Backtest: forecast from earlier origins inside the window, and so learn which settings to trust how far."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from koopscope.errors import UsageError, WindowError
from koopscope.hindcast import Candidate
from koopscope.members import Forecasts
from koopscope.operators import Floats
from koopscope.partition import Partition
from koopscope.progress import Listener, listener
from koopscope.race import Race, run_race
from koopscope.statistics import IncrementGrams, Statistics, collect, gram_about_last
from koopscope.variables import check
from koopscope.whole_numbers import whole_number

LEAD_SHARES = (0.1, 0.2, 0.4, 0.6, 0.8, 1.0)  # of the largest lead
LARGEST_LEAD = 4  # a quarter of the window: beyond it too little is left to fit the earliest origins on
BOUND = 2.0  # times the worst of the origins bounds the true error in most runs
TOLERANCE = 0.1


@dataclass(frozen=True)
class Verdict:
    """What a race decided: the fits whose mean forecasts, their lag in training steps, and the record."""

    fits: tuple[Candidate, ...]
    partition: str
    lag: int
    table: xr.Dataset
    forecasts: Forecasts


def backtest(
    trajectory: xr.Dataset | Statistics,
    partition: str | Partition = "auto",
    *,
    t1: int | None = None,
    t2: int | None = None,
    lead: int | None = None,
    average: int = 1,
    tolerance: float = TOLERANCE,
    progress: bool | Listener | None = None,
) -> xr.Dataset:
    """Race settings on the window itself, and predict the error of the best.

    From nine origins in the second half of the window, every candidate forecasts what the rest of the
    window holds: affine fits of the whole network over two lags, one to thirty delays, six tolerances and
    two window lengths, a few of the same per layer, beside ``hold`` and ``linear``. Candidates are ranked by
    their mean relative error at the largest lead; layers have to be better by a quarter. What wins is the
    mean of five out of the fifteen best: those whose forecasts from t2 agree most with the others. Fits
    that there go farther than the run ever did are passed over, and so is what ``hold`` beats; of five or
    fewer the best wins alone where their mean scores no better. Nothing after t2 is looked at, and no weight
    is read twice.

    Parameters
    ----------
    trajectory
        Dataset from `open_trajectory`, or `Statistics` collected with ``method="auto"``.
    partition
        ``"auto"`` races the network against its layers; any other `Partition` races within itself.
    t1, t2
        Window in training steps; by default the first four fifths of the recording.
    lead
        Training steps that forecasts shall reach; by default, and at most, a quarter of the window.
    average
        Recorded rows averaged into one snapshot.
    tolerance
        Relative error that a forecast may have; settles ``horizon``.
    progress
        ``True`` for lines on stderr, or a listener (see `koopscope.progress`).

    Returns
    -------
    xr.Dataset
        ``backtest_error(candidate, origin, lead)`` and its ``score(candidate)``; ``predicted_error(lead)``,
        the worst of the origins for the winner, and ``error_bound(lead)``, twice the largest up to
        that lead. Attributes: ``chosen`` with the winner's settings (a mean has the lag that those of its
        fits divide) and ``members``, the fits whose mean it is; ``horizon``, the largest lead whose bound
        stays within ``tolerance`` (0 if none does), and ``horizon_censored`` where that is the largest lead
        tried.

    Raises
    ------
    WindowError
        If the window is too short to be divided.
    InvalidDataError
        If the recording cannot serve the window or the partition.

    Examples
    --------
    >>> from koopscope.simulation import linear_run
    >>> table = backtest(linear_run("network"), t2=800)
    >>> table.attrs["chosen"]["kind"], table.attrs["horizon"]
    ('affine', 200)
    """
    tell = listener(progress)
    lead = whole_number("lead", lead)
    _require_sense(lead, tolerance)
    if isinstance(trajectory, Statistics):
        statistics = trajectory
    else:
        statistics = collect(
            trajectory, partition, method="auto", t1=t1, t2=t2, average=average, progress=progress
        )
    return judge(statistics, lead=lead, tolerance=tolerance, tell=tell).table


def judge(statistics: Statistics, *, lead: int | None, tolerance: float, tell: Listener) -> Verdict:
    """Run the race on collected statistics."""
    _require_sense(lead, tolerance)
    window = statistics.grid.window
    leads = _leads(window.n_snapshots, window.lag, lead)
    names, grams = raced_grams(statistics)
    tell("racing candidates", 0, 1)
    race = run_race(grams, leads)
    tell("racing candidates", 1, 1)
    winner = race.candidates[race.chosen]
    table = _table(statistics, race, names, tolerance)
    return Verdict(race.fits, names[winner.partition], winner.multiple * window.lag, table, race.forecasts)


def _require_sense(lead: int | None, tolerance: float) -> None:
    if not 0 < tolerance < 1:
        raise UsageError(f"tolerance is a relative error and must lie between 0 and 1, got {tolerance}")
    if lead is not None and lead < 1:
        raise UsageError(f"lead must be at least 1 training step, got {lead}")


def raced_grams(statistics: Statistics) -> tuple[list[str], list[Floats]]:
    """List the partitions in the race, and the Gram matrices of all their groups about t2."""
    kinds = [block.kind for block in statistics.blocks]
    if not all(isinstance(kind, IncrementGrams) for kind in kinds):
        raise UsageError('a backtest needs statistics collected with method="auto"')
    groups = np.concatenate([gram_about_last(kind) for kind in kinds if isinstance(kind, IncrementGrams)])
    if statistics.partition != "auto":
        return [statistics.partition], [groups]
    # Gram matrices add up over weights: the network's is the sum of its layers'.
    return ["network", "layer"], [groups.sum(axis=0, keepdims=True), groups]


def _leads(n_snapshots: int, lag: int, lead: int | None) -> npt.NDArray[np.int64]:
    largest = (n_snapshots - 1) // LARGEST_LEAD
    if largest < 2:
        raise WindowError(
            f"a backtest divides the window, and {n_snapshots} snapshots are too few; use a longer window "
            "(--t1, --t2) or a fixed --method"
        )
    target = largest if lead is None else min(largest, max(1, round(lead / lag)))
    # Even numbers: between multiples of its lag a fit of two base lags is interpolated.
    even = 2 * np.round(target * np.array(LEAD_SHARES[:-1]) / 2)
    return np.unique([*np.maximum(1, even), target]).astype(np.int64)


def _table(statistics: Statistics, race: Race, names: list[str], tolerance: float) -> xr.Dataset:
    window = statistics.grid.window
    worst = race.worst()
    # Where a run oscillates, relative errors fall with the lead; the bound does not rely on that.
    bound = BOUND * np.maximum.accumulate(worst)
    n_within = int(np.count_nonzero(bound <= tolerance))
    horizon = int(race.leads[n_within - 1] * window.lag) if n_within else 0
    candidates = race.candidates
    columns: dict[str, list[Any]] = {
        "kind": [candidate.kind for candidate in candidates],
        "partition": [names[candidate.partition] for candidate in candidates],
        "lag": [candidate.multiple * window.lag for candidate in candidates],
        "delays": [candidate.delays for candidate in candidates],
        "rtol": [candidate.rtol for candidate in candidates],
        "window_share": [candidate.share for candidate in candidates],
    }
    coords: dict[str, Any] = {
        name: ("candidate", np.array(values, dtype=object if isinstance(values[0], str) else None))
        for name, values in columns.items()
    }
    first = int(window.t2 - (window.n_snapshots - 1) * window.lag)
    coords |= {"origin": first + race.origins * window.lag, "lead": race.leads * window.lag}
    data: dict[str, Any] = {
        "backtest_error": (("candidate", "origin", "lead"), race.errors),
        "score": (("candidate",), race.scores),
        "predicted_error": (("lead",), worst),
        "error_bound": (("lead",), bound),
    }
    attrs = {
        "koopscope_result": "backtest",
        "chosen": {name: values[race.chosen] for name, values in columns.items()},
        "members": [
            {
                "kind": fit.kind,
                "lag": fit.multiple * window.lag,
                "delays": fit.delays,
                "rtol": fit.rtol,
                "window_share": fit.share,
            }
            for fit in race.fits
        ],
        "tolerance": tolerance,
        "horizon": horizon,
        "horizon_censored": bool(n_within == race.leads.size),
        "t1": window.t1,
        "t2": window.t2,
        "average": window.average,
    }
    return check(xr.Dataset(data, coords, attrs))
