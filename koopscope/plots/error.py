"""The error of each weight's forecast against how far that weight moved."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from koopscope.fit_tree import fitted_weights, require_kind
from koopscope.plots import style
from koopscope.plots.reading import Floats, flat_at, lead_position

_CEILING = 1e4  # errors beyond this multiple of the largest evolution are drawn at it


def plot_error_vs_evolution(
    verification: xr.DataTree, *, lead: int | None = None, ax: Axes | None = None
) -> Axes:
    """Draw |error| against |evolution|, one point a weight, on logarithmic axes.

    On the line ``error = evolution`` a forecast is worth no more than ``hold``; below it, it gains. The
    large cross marks the medians over the weights that moved. Above 5 000 weights their density is
    drawn in grey, and each layer's medians in its colour.

    Parameters
    ----------
    verification
        Result of `koopscope.verify`.
    lead
        Training steps after t2, one of the verification's; by default its largest.
    ax
        Where to draw; by default a figure of its own.

    Returns
    -------
    matplotlib.axes.Axes
        Weights that a logarithm cannot show (they did not move, or their error is zero or not finite)
        are counted in the legend.

    Raises
    ------
    ResultError
        If ``verification`` is something else.
    UsageError
        If it does not hold ``lead``.

    Examples
    --------
    >>> import koopscope
    >>> from koopscope.simulation import linear_run
    >>> run = linear_run()
    >>> fitted = koopscope.fit(run, "node", method="paper", t2=800)
    >>> ax = plot_error_vs_evolution(koopscope.verify(fitted, run, [100, 200]), lead=100)
    >>> ax.get_xlabel()
    '|evolution| of each weight over 100 steps'
    """
    require_kind(verification, "verification")
    weights = fitted_weights(verification)
    position = lead_position(verification, lead)
    error = np.abs(flat_at(verification, "error", position))
    evolution = np.abs(flat_at(verification, "evolution", position))
    layers = np.repeat([slot.layer for slot in weights.tensors], [slot.size for slot in weights.tensors])
    shown = np.isfinite(error) & (error > 0) & (evolution > 0)
    axes = style.axes_for(ax, place=(0.12, 0.12, 0.57, 0.78))
    steps = style.counted(int(verification["lead"].to_numpy()[position]), "step")
    axes.set(
        xscale="log",
        yscale="log",
        xlabel=f"|evolution| of each weight over {steps}",
        ylabel="|error| of its forecast",
    )
    colours = style.LayerColours.of(map(str, layers))
    handles = _draw(axes, evolution[shown], error[shown], layers[shown], colours) if shown.any() else []
    handles += _draw_median(axes, error, evolution)
    style.label_log_axis(axes.xaxis)
    style.label_log_axis(axes.yaxis)
    style.legend_beside(axes, [*colours.handles(), *handles, *_remarks(error, evolution)])
    _report_divergence(axes, error, shown)
    style.title(axes, *_title(verification, position, steps))
    return axes


def _draw(
    ax: Axes, evolution: Floats, error: Floats, layers: npt.NDArray[Any], colours: style.LayerColours
) -> list[Artist]:
    low, high = float(evolution.min()), float(evolution.max())
    drawn = np.minimum(error, _CEILING * high)
    handles: list[Artist] = list(
        ax.plot([low, high], [low, high], color=style.GREY, linestyle="--", label="error = evolution\n(hold)")
    )
    if evolution.size > style.MANY:
        handles += _draw_density(ax, evolution, drawn, layers, colours)
    else:
        for layer, colour in colours.by_layer.items():
            mine = layers == layer
            ax.scatter(evolution[mine], drawn[mine], s=14, color=colour, alpha=0.7, linewidths=0, label=layer)
    beyond = error > drawn
    if beyond.any():
        ax.scatter(
            evolution[beyond], drawn[beyond], s=30, marker="^", color=style.ALARM, label="beyond", zorder=3
        )
        text = f"{np.count_nonzero(beyond)} beyond the view,\nlargest {error.max():.3g}"
        handles.append(style.marker_entry(text, style.ALARM, marker="^"))
    return handles


def _draw_density(
    ax: Axes, evolution: Floats, error: Floats, layers: npt.NDArray[Any], colours: style.LayerColours
) -> list[Artist]:
    cells = ax.hexbin(
        evolution,
        error,
        gridsize=60,
        xscale="log",
        yscale="log",
        mincnt=1,
        bins="log",
        cmap=style.DENSITY,
        linewidths=0.2,
    )
    for layer, colour in colours.by_layer.items():
        mine = layers == layer
        if mine.any():
            x, y = float(np.median(evolution[mine])), float(np.median(error[mine]))
            ax.scatter(
                [x], [y], s=50, color=colour, edgecolors="white", linewidths=0.8, label=layer, zorder=5
            )
    densest = style.densest(cells)
    return [
        style.marker_entry(f"1 to {densest} weights a cell;\ncolours: layers' medians", "#BDBDBD", marker="h")
    ]


def _draw_median(ax: Axes, error: Floats, evolution: Floats) -> list[Artist]:
    moved = evolution > 0
    if not moved.any():
        return []
    # A forecast that is not finite is as wrong as can be, and counts as such.
    x, y = (
        float(np.median(evolution[moved])),
        float(np.median(np.where(np.isnan(error), np.inf, error)[moved])),
    )
    if not (np.isfinite(y) and 0 < y <= _CEILING * float(evolution.max())):
        return []
    point = Line2D(
        [x],
        [y],
        linestyle="none",
        marker="P",
        markersize=12,
        markerfacecolor="white",
        markeredgecolor="black",
        label=f"medians:\n{y:.2g} against {x:.2g}",
        zorder=4,
    )
    ax.add_line(point)
    return [point]


def _remarks(error: Floats, evolution: Floats) -> list[Artist]:
    still = evolution == 0
    counts = {
        "did not move": np.count_nonzero(still),
        "forecast exactly": np.count_nonzero((error == 0) & ~still),
    }
    return [style.remark(f"{count} {what}\n(not drawn)") for what, count in counts.items() if count]


def _report_divergence(ax: Axes, error: Floats, shown: npt.NDArray[np.bool_]) -> None:
    diverged = np.count_nonzero(~np.isfinite(error))
    if diverged:
        style.message(ax, f"forecast diverged:\n{diverged} of {error.size} weights are not finite")
    elif not shown.any():
        style.message(ax, "nothing to draw: no weight both moved and missed")


def _title(verification: xr.DataTree, position: int, steps: str) -> tuple[str, str]:
    summary = verification.to_dataset().isel(lead=position)
    ratio = float(summary["error_to_evolution"].sel(forecast="fit"))
    skills = [float(summary[f"skill_{name}"]) for name in ("hold", "linear")]
    partition = style.shortened(str(verification.attrs["partition"]), 24)
    first = f"{partition}, {verification.attrs['method']}, lead {steps}: error / evolution {_figure(ratio)}"
    return first, f"skill {_figure(skills[0])} against hold, {_figure(skills[1])} against linear"


def _figure(value: float) -> str:
    return f"{value:.3g}" if np.isfinite(value) else "undefined"
