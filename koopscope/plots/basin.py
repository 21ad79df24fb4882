"""Whether a run has settled: spectral radius, criteria and loss over training; eigenvalues over training."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from koopscope.errors import ResultError
from koopscope.plots import style

FEW = 8  # groups drawn as lines of their own; more are drawn as quantiles
_PLACE = (0.2, 0.6, 0.54, 0.31)
_STRIP, _BELOW = (0.0, -0.62, 1.0, 0.52), (0.0, -1.4, 1.0, 0.68)  # in units of the upper axes
_REACH = 1.5  # a larger modulus is drawn there
_CRITERIA = {
    "predictable": "predictable",
    "contracting": "contracting",
    "fixed_point_agrees": "fixed point agrees",
    "in_basin": "in a basin",
    "on_unit_circle": "(on unit circle)",
}


def plot_basin(result: xr.Dataset, *, ax: Axes | None = None) -> Axes:
    """Draw the spectral radius over training, the criteria of a basin below it, and the loss below these.

    Windows stand at their end. Above eight groups the radius is drawn as median, middle 80 % and range. In
    the strip a darker cell means more of the groups meet the criterion; the raw unit-circle indicator
    stands in brackets, since it also holds for runs that drift. A line marks the entry (the median over
    groups), a band its interval.

    Parameters
    ----------
    result
        Result of `koopscope.find_basin`.
    ax
        Where to draw the radius; strip and loss hang below it. By default a figure of its own.

    Returns
    -------
    matplotlib.axes.Axes
        Those of the radius; the strip and the loss are its child axes.

    Raises
    ------
    ResultError
        If ``result`` is not a basin result.

    Examples
    --------
    >>> import koopscope
    >>> from koopscope.simulation import settling_run
    >>> ax = plot_basin(koopscope.find_basin(settling_run("contraction")))
    >>> ax.get_ylabel()
    'spectral radius\\nper lag of 10 steps'
    """
    _require(result)
    axes = style.axes_for(ax, place=_PLACE)
    ends = result["window_end"].to_numpy()
    span = (float(result["window_start"][0]), float(ends[-1]))
    handles = _radius(axes, result, ends)
    lag = style.counted(int(result.attrs["lag"]), "step")
    axes.set(xlim=span, ylabel=f"spectral radius\nper lag of {lag}")
    axes.tick_params(labelbottom=False)
    strip = axes.inset_axes(_STRIP)
    _criteria(strip, result, span)
    lowest = strip
    if "recorded_loss" in result:
        strip.tick_params(labelbottom=False)
        lowest = axes.inset_axes(_BELOW)
        _loss(lowest, result, span)
    for panel in (axes, strip, lowest):  # the same ticks, so that steps can be read downwards
        style.label_steps(panel)
    for panel in (axes, strip) if lowest is not strip else (axes,):
        panel.set_xlabel("")
    if result.sizes["group"] > 1:
        handles.append(style.remark("below: the darker,\nthe more groups"))
    handles += _entry([axes, lowest], result)
    style.legend_beside(axes, handles)
    style.title(axes, *_title(result))
    return axes


def plot_eigs_over_time(result: xr.Dataset, *, ax: Axes | None = None) -> Axes:
    """Draw the modulus of every window's eigenvalues over training, coloured by layer.

    Above 5 000 eigenvalues their density is drawn. Eigenvalues beyond 1.5 sit at the border.

    Parameters
    ----------
    result
        Result of `koopscope.find_basin`.
    ax
        Where to draw; by default a figure of its own.

    Raises
    ------
    ResultError
        If ``result`` is not a basin result.

    Examples
    --------
    >>> import koopscope
    >>> from koopscope.simulation import settling_run
    >>> ax = plot_eigs_over_time(koopscope.find_basin(settling_run("drift")))
    >>> ax.get_xlabel()
    'training step'
    """
    _require(result)
    axes = style.axes_for(ax, place=(0.12, 0.12, 0.62, 0.74))
    modulus = np.abs(result["window_eigenvalue"].to_numpy())
    group, window, _ = found = np.nonzero(np.isfinite(modulus))
    values = np.minimum(modulus[found], _REACH)
    steps = result["window_end"].to_numpy()[window]
    layers = result["layer"].to_numpy()[group]
    colours = style.LayerColours.of(map(str, result["layer"].to_numpy()))
    axes.axhline(1.0, color=style.GREY, linewidth=0.8, zorder=0.5)
    handles: list[Artist] = [*colours.handles()]
    if values.size > style.MANY:
        cells = axes.hexbin(
            steps, values, gridsize=60, mincnt=1, bins="log", cmap=style.DENSITY, linewidths=0.2
        )
        handles = [style.marker_entry(f"1 to {style.densest(cells)} a cell", style.GREY, marker="h")]
    elif values.size:
        axes.scatter(
            steps, values, s=6, c=colours.of_points(layers), linewidths=0, alpha=0.7, label="eigenvalues"
        )
    beyond = int(np.count_nonzero(modulus[found] > _REACH))
    if beyond:
        handles.append(style.remark(f"{beyond} beyond {_REACH:g},\ndrawn there"))
    lag = style.counted(int(result.attrs["lag"]), "step")
    axes.set(ylabel=f"|λ| per lag of {lag}", ylim=(0, max(1.05, 1.03 * float(values.max(initial=1.0)))))
    style.label_steps(axes)
    style.legend_beside(axes, handles)
    style.title(axes, f"{style.shortened(str(result.attrs['partition']))}, windows at their end")
    return axes


def _require(result: object) -> None:
    kind = result.attrs.get("koopscope_result") if isinstance(result, (xr.Dataset, xr.DataTree)) else None
    if kind != "basin":
        what = f"a {kind} result" if kind else f"a {type(result).__name__}"
        raise ResultError(f"expected a basin result, got {what}; koopscope.find_basin(...) makes one")


def _radius(ax: Axes, result: xr.Dataset, ends: npt.NDArray[Any]) -> list[Artist]:
    radius = result["spectral_radius"].to_numpy()
    m = result.attrs["window"] // result.attrs["lag"]
    ax.axhline(1.0, color=style.GREY, linewidth=0.8)
    ax.axhline(1 - 1 / m, color=style.GREY, linewidth=0.8, linestyle="--")
    limits: list[Artist] = [
        Line2D([], [], color=style.GREY, linewidth=0.8, label="1: does not decay"),
        Line2D([], [], color=style.GREY, linewidth=0.8, linestyle="--", label="one e-folding\na window"),
    ]
    top = float(np.clip(np.quantile(radius, 0.98), 1.0, 1.5))
    low = float(np.quantile(radius, 0.01))
    margin = 0.08 * max(top - low, 1 / m)
    ax.set_ylim(min(low, 1 - 1 / m) - margin, top + margin)
    above = int(np.count_nonzero(radius > top + margin))
    if above:
        limits.append(style.remark(f"{above} above the view"))
    if radius.shape[0] <= FEW:
        colours = style.LayerColours.of(map(str, result["layer"].to_numpy()))
        for values, layer in zip(radius, result["layer"].to_numpy(), strict=True):
            ax.plot(ends, values, color=colours.by_layer[str(layer)], linewidth=1.2)
        return [*colours.handles(), *limits]
    colour = style.PALETTE[0]
    for low_share, high_share, alpha in ((0.0, 1.0, 0.15), (0.1, 0.9, 0.3)):
        edges = np.quantile(radius, [low_share, high_share], axis=0)
        ax.fill_between(ends, *edges, color=colour, alpha=alpha, linewidth=0)
    ax.plot(ends, np.median(radius, axis=0), color=colour, linewidth=1.2)
    groups = style.counted(radius.shape[0], "group")
    return [
        Line2D([], [], color=colour, label=f"median of\n{groups}"),
        Patch(color=colour, alpha=0.4, label="middle 80 %"),
        Patch(color=colour, alpha=0.15, label="range"),
        *limits,
    ]


def _criteria(ax: Axes, result: xr.Dataset, span: tuple[float, float]) -> None:
    shares = np.stack([result[name].to_numpy().mean(axis=0) for name in _CRITERIA])
    ends = result["window_end"].to_numpy().astype(float)
    half = (ends[-1] - ends[0]) / max(ends.size - 1, 1) / 2
    edges = np.append(ends - half, ends[-1] + half)
    ax.pcolormesh(edges, np.arange(len(_CRITERIA) + 1), shares, cmap="Blues", vmin=0, vmax=1, rasterized=True)
    ax.set(xlim=span, ylim=(len(_CRITERIA), 0))
    ax.set_yticks(np.arange(len(_CRITERIA)) + 0.5, list(_CRITERIA.values()), fontsize=style.SMALL)
    ax.tick_params(axis="y", length=0)
    for row in range(1, len(_CRITERIA)):
        ax.axhline(row, color="white", linewidth=1.5)


def _loss(ax: Axes, result: xr.Dataset, span: tuple[float, float]) -> None:
    steps, loss = result["step_recorded"].to_numpy(), result["recorded_loss"].to_numpy()
    ax.plot(steps, loss, color=style.PALETTE[-1], linewidth=0.8, rasterized=loss.size > style.MANY)
    finite = loss[np.isfinite(loss)]
    if finite.size and finite.min() > 0:
        ax.set_yscale("log")
        style.label_log_axis(ax.yaxis)
    ax.set(xlim=span, ylabel="loss")


def _entry(every: list[Axes], result: xr.Dataset) -> list[Artist]:
    entry = result["entry_step"].to_numpy()
    entered = np.isfinite(entry)
    if not entered.any():
        return [style.remark("no basin entered")]
    middle = float(np.median(entry[entered]))
    low, high = (float(np.median(result[name].to_numpy()[entered])) for name in ("entry_low", "entry_high"))
    for ax in every:
        ax.axvspan(low, high, color=style.ALARM, alpha=0.12, linewidth=0)
        ax.axvline(middle, color=style.ALARM, linewidth=1.2)
    text = f"in a basin by\nstep {middle:.0f}"
    if entry.size > 1:
        text += f"\n({np.count_nonzero(entered)} of\n{entry.size} groups)"
    return [Line2D([], [], color=style.ALARM, label=text)]


def _title(result: xr.Dataset) -> tuple[str, str]:
    attrs = result.attrs
    kind = "stochastic" if attrs["stochastic"] else "deterministic"
    found = attrs["suggested"]
    return (
        f"{style.shortened(str(attrs['partition']))}, {kind} ({attrs['stochastic_rule']})",
        f"window {attrs['window']} steps; suggested t1 {found['t1']}, t2 {found['t2']}, lag {found['lag']}",
    )
