"""Many runs under the same settings: figures a run, and their medians and quantiles over the runs."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from koopscope.errors import KoopscopeError, ResultError, UsageError
from koopscope.fitting import fit
from koopscope.forecasting import predict
from koopscope.loss import METRIC, check_smoothing
from koopscope.partition import Partition
from koopscope.progress import Listener, listener
from koopscope.statistics.collecting import AUTO
from koopscope.trajectory import open_trajectory
from koopscope.variables import check
from koopscope.verification import LossFunction, verify

Run = str | os.PathLike[str] | xr.Dataset

QUANTILES = (0.1, 0.25, 0.5, 0.75, 0.9)
# What one recording may raise without losing hours of work on the others.
_SURVIVABLE = (KoopscopeError, OSError, MemoryError, np.linalg.LinAlgError)
_WORTHLESS = ("t_eq", "t_eq_ratio", "t_eq_filtered", "t_eq_ratio_filtered", "speed_up")
_DIVERGED = ("relative_l2", "error_to_evolution", "loss_forecast", "loss_filtered")


def ensemble(
    trajectories: Sequence[Run] | Mapping[str, Run],
    partition: str | Partition | None = None,
    *,
    lead: int | Sequence[int] | None = None,
    loss: LossFunction | None = None,
    metric: str = METRIC,
    smooth: int = 1,
    drop: str | None = None,
    seconds_per_step: float | None = None,
    opening: Mapping[str, Any] | None = None,
    progress: bool | Listener | None = None,
    **settings: Any,
) -> xr.Dataset:
    """Fit and verify many runs one after another, under the same settings.

    A run that fails is named in ``problem`` and loses nothing of the others.

    Parameters
    ----------
    trajectories
        Paths or datasets, or a mapping of names to them. Paths are named by their stems; runs that were
        recorded together, as the dim ``run``, count one by one, as ``name[0]``, ``name[1]``, ...
    partition, settings
        As in `koopscope.fit`: ``method``, ``t1``, ``t2``, ``lag`` and so on.
    lead, loss, metric, smooth, drop
        As in `koopscope.verify`. By default the lead reaches the last recorded step of the first run. Where
        it is given, ``method="auto"`` also chooses for the largest.
    seconds_per_step
        Time of one optimiser step, measured on the same machine; gives ``speed_up``.
    opening
        Keywords of `koopscope.open_trajectory` for runs given as paths, such as ``layout``.
    progress
        ``True`` for lines on stderr, or a listener (see `koopscope.progress`).

    Returns
    -------
    xr.Dataset
        Dim ``run`` before those of `koopscope.verify`: ``relative_l2``, ``error_to_evolution``,
        ``skill_hold``, ``skill_linear``, the losses, ``success`` and ``t_eq_ratio``; also ``seconds_read``,
        ``seconds_fit`` and ``seconds_forecast``, and
        ``speed_up = t_eq seconds_per_step / (read + fit + forecast)``. ``problem`` is empty where all went
        well; the other figures are NaN where it is not.

    Raises
    ------
    UsageError
        If there are no runs, or two of one name; if metric or smooth are given without a loss.
    KoopscopeError
        The error of the first run, if every run failed.

    Examples
    --------
    >>> from koopscope.simulation import linear_run
    >>> runs = {f"seed {seed}": linear_run(seed=seed) for seed in range(3)}
    >>> table = ensemble(runs, "node", t2=800, lag=10)
    >>> table["relative_l2"].sel(forecast="fit").dims
    ('run', 'lead')
    >>> bool(quantiles(table)["relative_l2"].sel(forecast="fit", quantile=0.5) < 1e-8)
    True
    """
    tell = listener(progress)
    runs = _named(trajectories)
    if settings.get("method") == AUTO and lead is not None:
        settings = {**settings, "lead": int(np.max(lead))}
    smooth = check_smoothing(loss, metric, smooth)
    judging = {"loss": loss, "metric": metric, "smooth": smooth, "drop": drop}
    done: dict[str, xr.Dataset] = {}
    errors: dict[str, Exception] = {}
    names: list[str] = []
    for number, (name, run) in enumerate(runs.items()):
        tell("fitting runs", number, len(runs))
        for member, opened in _members(name, run, opening or {}).items():
            names.append(member)
            try:
                dataset = opened()
                done[member] = _figures(dataset, partition, lead, judging, seconds_per_step, settings)
            except _SURVIVABLE as error:
                errors[member] = error
                tell(f"{member} failed: {error}", 0, 0)
                continue
            if lead is None:
                lead = done[member]["lead"].to_numpy().tolist()
    tell("fitting runs", len(runs), len(runs))
    if not done:
        raise next(iter(errors.values()))
    return _combined(names, done, errors)


def quantiles(table: xr.Dataset, at: Sequence[float] = QUANTILES) -> xr.Dataset:
    """Take the quantiles of an ensemble's figures over its runs.

    Runs that failed do not count; a forecast that diverged counts as infinitely wrong, and as worth no
    steps. Quantiles of a T_eq that is censored in some runs are lower bounds.

    Parameters
    ----------
    table
        Result of `ensemble`.
    at
        Shares of the runs.

    Returns
    -------
    xr.Dataset
        The figures of ``table`` with dim ``quantile`` in place of ``run``; where a share falls between two
        runs, as the median of an even number does, their mean. ``success`` is the share of runs.

    Raises
    ------
    ResultError
        If ``table`` is something else.
    """
    if not isinstance(table, xr.Dataset) or table.attrs.get("koopscope_result") != "ensemble":
        raise ResultError(f"expected an ensemble, got a {type(table).__name__}; koopscope.ensemble makes one")
    good = table.isel(run=np.flatnonzero(table["problem"].to_numpy() == "")).drop_vars("problem")
    taken = {}
    for name, values in good.data_vars.items():
        if values.dtype.kind == "b":
            continue
        if name in _WORTHLESS:
            values = values.fillna(0.0)
        if name in _DIVERGED:
            values = values.fillna(np.inf)
        if str(name).startswith("skill_"):  # NaN of baselines without an error stays
            values = values.where(good["relative_l2"].sel(forecast="fit", drop=True).notnull(), -np.inf)
        taken[name] = _quantile(values.astype(np.float64), at)
    result = xr.Dataset(taken, attrs={"runs": good.sizes["run"]})
    return result.assign({name: good[name].mean("run") for name in ("success",) if name in good})


def _quantile(values: xr.DataArray, at: Sequence[float]) -> xr.DataArray:
    # Between two runs lies their mean, as in a median; other shares of infinities would not be numbers.
    ordered = np.sort(values.transpose("run", ...).to_numpy(), axis=0)
    place = np.round(np.asarray(at) * len(ordered), 9)
    low, high = (
        np.clip(rows, 0, len(ordered) - 1).astype(int) for rows in (np.ceil(place) - 1, np.floor(place))
    )
    dims = ("quantile", *(dim for dim in values.dims if dim != "run"))
    coords = {name: coord for name, coord in values.coords.items() if "run" not in coord.dims}
    return xr.DataArray(
        (ordered[low] + ordered[high]) / 2, {**coords, "quantile": list(at)}, dims, attrs=values.attrs
    )


def _named(trajectories: Sequence[Run] | Mapping[str, Run]) -> dict[str, Run]:
    if isinstance(trajectories, (str, os.PathLike, xr.Dataset)):
        raise UsageError(
            "ensemble takes a list of runs, or a mapping of names to runs; koopscope.fit takes one"
        )
    if isinstance(trajectories, Mapping):
        named = {str(name): run for name, run in trajectories.items()}
    else:
        names = [
            f"run {number}" if isinstance(run, xr.Dataset) else Path(run).stem
            for number, run in enumerate(trajectories)
        ]
        if len(set(names)) < len(names):  # stems that are the same: the paths tell them apart
            names = [
                name if isinstance(run, xr.Dataset) else str(run)
                for name, run in zip(names, trajectories, strict=True)
            ]
        if len(set(names)) < len(names):
            raise UsageError(
                f"a run is given twice: {', '.join(sorted({n for n in names if names.count(n) > 1}))}"
            )
        named = dict(zip(names, trajectories, strict=True))
    if not named:
        raise UsageError("an ensemble needs at least one run")
    return named


def _members(name: str, run: Run, opening: Mapping[str, Any]) -> dict[str, Callable[[], xr.Dataset]]:
    """Name the runs that were recorded together, and how to get each; one that cannot be opened is one."""
    try:
        dataset = run if isinstance(run, xr.Dataset) else open_trajectory(os.fspath(run), **opening)
    except _SURVIVABLE as error:
        return {name: partial(_fail, error)}
    if "run" not in dataset.dims:
        return {name: lambda: dataset}
    return {f"{name}[{index}]": partial(dataset.isel, run=index) for index in range(dataset.sizes["run"])}


def _fail(error: Exception) -> xr.Dataset:
    raise error


def _figures(
    trajectory: xr.Dataset,
    partition: str | Partition | None,
    lead: int | Sequence[int] | None,
    judging: Mapping[str, Any],
    seconds_per_step: float | None,
    settings: Mapping[str, Any],
) -> xr.Dataset:
    """Fit and verify one run; all figures as one dataset without the dim ``run``."""
    started = time.perf_counter()
    fitted = fit(trajectory, partition, **settings)
    fit_done = time.perf_counter()
    verification = verify(fitted, trajectory, lead, **judging)
    leads = verification["lead"].to_numpy()
    forecast_started = time.perf_counter()
    predict(fitted, leads, drop=judging["drop"])
    seconds = {
        "seconds_read": float(fitted.attrs["seconds_read"]),
        "seconds_fit": fit_done - started - float(fitted.attrs["seconds_read"]),
        "seconds_forecast": time.perf_counter() - forecast_started,
    }
    figures = verification.to_dataset().assign({name: ((), value) for name, value in seconds.items()})
    if "loss" in verification.children:
        figures = figures.merge(verification["loss"].to_dataset().drop_dims("step_recorded", errors="ignore"))
    if seconds_per_step is not None and "t_eq" in figures:
        figures["speed_up"] = figures["t_eq"] * seconds_per_step / sum(seconds.values())
    kept = ("partition", "method", "t1", "t2", "lag")
    figures.attrs = {name: fitted.attrs[name] for name in kept}
    return figures.drop_vars("step")


def _combined(names: list[str], done: dict[str, xr.Dataset], errors: Mapping[str, Exception]) -> xr.Dataset:
    first = next(iter(done.values()))
    runs = xr.Variable(("run",), np.array(list(done), dtype=object))
    together = xr.concat(list(done.values()), dim=runs, join="exact", combine_attrs="drop_conflicts")
    empty: dict[Any, Any] = {"b": False, "i": 0}
    fill = {name: empty.get(values.dtype.kind, np.nan) for name, values in together.data_vars.items()}
    whole = together.reindex(run=np.array(names, dtype=object), fill_value=fill)
    problems = [_problem(errors[name]) if name in errors else "" for name in names]
    whole["problem"] = ("run", np.array(problems, dtype=object))
    whole.attrs = {"koopscope_result": "ensemble", **first.attrs, **together.attrs, "failed": list(errors)}
    return check(whole)


def _problem(error: Exception) -> str:
    code = error.code if isinstance(error, KoopscopeError) else type(error).__name__
    return f"{code}: {error}"
