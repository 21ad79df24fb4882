"""How good a forecast is by lead: true errors, the baselines', what a backtest promised, the horizon."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes

from koopscope.errors import ResultError
from koopscope.fit_tree import require_kind
from koopscope.plots import style
from koopscope.plots.reading import Floats

_LOOKS: dict[str, dict[str, Any]] = {
    "fit": {"color": style.PALETTE[3], "marker": "o", "linewidth": 2.0},
    "hold": {"color": style.GREY, "marker": None, "linewidth": 1.0},
    "linear": {"color": style.PALETTE[0], "marker": "s", "linewidth": 1.0},
    "mean": {"color": style.PALETTE[2], "marker": "^", "linewidth": 1.0},
}
_CEILING = 10.0  # a relative error beyond it says nothing more
_FLOOR = 1e-6  # and below it neither


def plot_skill(
    result: xr.DataTree | xr.Dataset, *, backtest: xr.Dataset | None = None, ax: Axes | None = None
) -> Axes:
    """Draw the relative error by lead, beside the baselines, with the stated error and the horizon.

    ``|error|_2 / |evolution|_2`` is one less the skill against ``hold``: 1 is no better than to stay at
    w(t2). With a backtest, a band leads from its predicted error to its bound, and a line stands at the
    horizon, the largest lead whose bound stays within the tolerance.

    Parameters
    ----------
    result
        Result of `koopscope.verify`, or of `koopscope.backtest` alone where nothing was recorded after t2.
    backtest
        Of the fit that was verified: ``fit["backtest"].to_dataset()``.
    ax
        Where to draw; by default a figure of its own.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    ResultError
        If ``result`` or ``backtest`` is something else.

    Examples
    --------
    >>> import koopscope
    >>> from koopscope.simulation import linear_run
    >>> run = linear_run("network")
    >>> fit = koopscope.fit(run, method="auto", t2=800)
    >>> verification = koopscope.verify(fit, run, [50, 100, 200])
    >>> ax = plot_skill(verification, backtest=fit["backtest"].to_dataset())
    >>> ax.get_xlabel()
    'lead (training steps after t2)'
    """
    if isinstance(result, xr.Dataset):
        backtest, verification = result, None
    else:
        verification = require_kind(result, "verification")
    if backtest is not None and backtest.attrs.get("koopscope_result") != "backtest":
        raise ResultError(
            "expected a backtest; koopscope.backtest(...) makes one, fit(method='auto') keeps one"
        )
    axes = style.axes_for(ax)
    lines = ["error of the forecast by lead"]
    if verification is not None:
        _draw_errors(axes, verification)
        partition = style.shortened(str(verification.attrs["partition"]))
        lines = [f"{partition}, {verification.attrs['method']}: error of the forecast by lead"]
    if backtest is not None:
        lines.append(_draw_promise(axes, backtest))
    axes.set_yscale("log")
    axes.set_ylim(*_limits(axes))
    style.label_log_axis(axes.yaxis)
    axes.set_xlabel("lead (training steps after t2)")
    axes.set_ylabel("|error| / |evolution|")
    style.legend_beside(axes, axes.get_legend_handles_labels()[0])
    style.title(axes, *lines)
    return axes


def _draw_errors(ax: Axes, verification: xr.DataTree) -> None:
    figures = verification.to_dataset().sortby("lead")
    leads = figures["lead"].to_numpy()
    for name in figures["forecast"].to_numpy().tolist():
        errors = figures["relative_l2"].sel(forecast=name).to_numpy()
        label = "forecast" if name == "fit" else name
        beyond = ~np.isfinite(errors) | (errors > _CEILING)
        ax.plot(leads, np.where(beyond, np.nan, np.maximum(errors, _FLOOR)), label=label, **_LOOKS[name])
        if beyond.any():
            edge = np.full(np.count_nonzero(beyond), 0.97)
            colour = _LOOKS[name]["color"]
            ax.plot(leads[beyond], edge, "^", color=colour, transform=ax.get_xaxis_transform(), label=None)


def _draw_promise(ax: Axes, backtest: xr.Dataset) -> str:
    """Draw what the backtest stated, and say its horizon in words."""
    leads = backtest["lead"].to_numpy()
    predicted, bound = (_drawable(backtest[name].to_numpy()) for name in ("predicted_error", "error_bound"))
    ax.fill_between(leads, predicted, bound, color=style.PALETTE[1], alpha=0.35, linewidth=0)
    ax.plot(leads, predicted, color=style.PALETTE[1], linewidth=1.0, label="stated: predicted\nto bound")
    tolerance, horizon = float(backtest.attrs["tolerance"]), int(backtest.attrs["horizon"])
    ax.axhline(tolerance, color="black", linewidth=0.8, linestyle=":", label=f"tolerance {tolerance:g}")
    if not horizon:
        return f"no lead with a bound within {tolerance:g}"
    ax.axvline(horizon, color="black", linewidth=1.0, linestyle="--", label="horizon")
    least = "at least " if backtest.attrs["horizon_censored"] else ""
    return f"horizon at a tolerance of {tolerance:g}: {least}{style.counted(horizon, 'step')}"


def _drawable(errors: Floats) -> Floats:
    return np.clip(np.where(np.isfinite(errors), errors, _CEILING), _FLOOR, _CEILING)


def _limits(ax: Axes) -> tuple[float, float]:
    drawn = np.concatenate([np.asarray(line.get_ydata(), np.float64) for line in ax.lines])
    seen = drawn[np.isfinite(drawn) & (drawn > 0)]
    smallest = float(seen.min()) if seen.size else _FLOOR
    return max(_FLOOR, smallest / 2), max(2.0, min(_CEILING, float(seen.max(initial=1.0)) * 1.5))
