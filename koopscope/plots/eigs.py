"""Eigenvalues on the unit circle."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import xarray as xr
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator, ScalarFormatter

from koopscope.errors import UsageError
from koopscope.plots import style
from koopscope.plots.eig_markers import (
    SMALL_RESIDUAL,
    STRONGEST,
    Eigenvalues,
    draw_eigenvalues,
    draw_intervals,
    draw_outside,
    draw_unit_circle,
    read_eigenvalues,
)
from koopscope.spectra import as_spectrum

NEAR_ONE = 0.2
_VARIABLES = {"lag": "eigenvalue", "step": "eigenvalue_per_step"}
_REACH = 1.5  # a coordinate beyond it would make the circle small, and is clipped to the border
_MARGIN = 1.08
_PLACE = (0.12, 0.19, 0.54, 0.72)  # a square on the default figure, with room for legend, inset and key
_SMALLEST_ZOOM = 1e-4


def plot_eigs(
    result: xr.DataTree | xr.Dataset, *, ax: Axes | None = None, tolerance: float = 0.01, per: str = "lag"
) -> Axes:
    """Draw eigenvalues on the unit circle.

    Colour tells the layer, so conjugate pairs share it; area tells the amplitude; filled markers have a
    residual below 0.1 and can be believed. An inset magnifies the neighbourhood of 1 where at least half
    of the eigenvalues lie there. Above 5 000 eigenvalues their density is drawn in grey, with the
    strongest on top. Confidence intervals that a spectrum has and that can be trusted are bars, along
    the radius for growth and along the circle for frequency. On the circle means settled *or merely
    drifting*: it does not prove a basin.

    Parameters
    ----------
    result
        Result of `koopscope.fit` or `koopscope.spectrum`.
    ax
        Where to draw; by default a figure of its own.
    tolerance
        Largest ``||lambda| - 1|`` that counts as on the circle.
    per
        ``"lag"`` for the operator's own eigenvalues, ``"step"`` for ``lambda ** (1 / lag)``.

    Returns
    -------
    matplotlib.axes.Axes
        With equal aspect; eigenvalues beyond the view sit at its border, and the legend counts them.

    Raises
    ------
    ResultError
        If ``result`` is neither a fit nor a spectrum.
    UsageError
        If ``per`` or ``tolerance`` cannot be used.

    Examples
    --------
    >>> import koopscope
    >>> from koopscope.simulation import linear_run
    >>> ax = plot_eigs(koopscope.fit(linear_run(), "node", t2=800, lag=10))
    >>> ax.get_xlabel()
    'Re λ (per lag of 10 steps)'
    """
    if per not in _VARIABLES:
        raise UsageError(f"per must be 'lag' or 'step', got {per!r}")
    if not tolerance >= 0:
        raise UsageError(f"tolerance must be a distance from the unit circle of at least 0, got {tolerance}")
    table = as_spectrum(result)
    values = table[_VARIABLES[per]].to_numpy()
    points = read_eigenvalues(table, values)
    outside = points.reach > _REACH
    inside = points.only(~outside)
    half = max(1.2, _MARGIN * float(np.max(inside.reach, initial=0.0)))
    colours = style.LayerColours.of(map(str, table["layer"].to_numpy()))
    axes = style.axes_for(ax, place=_PLACE)
    _frame(axes, half, per, int(table.attrs["lag"]))
    largest = float(np.max(points.amplitude, initial=0.0))
    densest = draw_eigenvalues(axes, inside, colours, (-half, half, -half, half), largest)
    draw_outside(axes, points.only(outside), colours, half)
    inset = _zoom(axes, inside, colours, largest)
    steps = 1 if per == "step" else int(table.attrs["lag"])
    has_intervals = [draw_intervals(each, table, values, colours, steps) for each in (axes, inset) if each]
    invalid = values.size - points.value.size
    style.legend_beside(axes, [*colours.handles(), *_remarks(points, outside, invalid)])
    style.key_below(axes, _key(largest, densest, has_intervals[0]))
    style.title(axes, *_title(table, points.value, tolerance, per))
    return axes


def _frame(ax: Axes, half: float, per: str, lag: int) -> None:
    unit = "per step" if per == "step" else f"per lag of {style.counted(lag, 'step')}"
    ax.set(xlim=(-half, half), ylim=(-half, half), xlabel=f"Re λ ({unit})", ylabel=f"Im λ ({unit})")
    ax.set_aspect("equal")
    ax.xaxis.set_major_locator(MaxNLocator(5))
    ax.yaxis.set_major_locator(MaxNLocator(5))
    ax.axhline(0, color=style.GREY, linewidth=0.5, zorder=0.5)
    ax.axvline(0, color=style.GREY, linewidth=0.5, zorder=0.5)
    draw_unit_circle(ax)


def _zoom(ax: Axes, points: Eigenvalues, colours: style.LayerColours, largest: float) -> Axes | None:
    box = _crowd(points.value)
    if box is None:
        return None
    left, right, bottom, top = box
    inset = ax.inset_axes((1.06, 0.0, 0.4, 0.4))
    inset.set(xlim=(left, right), ylim=(bottom, top))
    inset.set_aspect("equal")
    draw_unit_circle(inset)
    draw_eigenvalues(inset, points, colours, box, largest)
    inset.yaxis.tick_right()  # on the left the labels would lie on the main axes
    for axis in (inset.xaxis, inset.yaxis):
        axis.set_major_locator(MaxNLocator(3))
        axis.set_major_formatter(ScalarFormatter(useOffset=False))
        axis.get_offset_text().set_fontsize(7)
    inset.tick_params(labelsize=7)
    ax.indicate_inset_zoom(inset, edgecolor=style.GREY)
    return inset


def _crowd(values: npt.NDArray[np.complex128]) -> tuple[float, float, float, float] | None:
    """Find a square about most of the eigenvalues near 1, or None where they do not crowd there."""
    distance = np.abs(values - 1)
    near = distance <= NEAR_ONE
    if np.count_nonzero(near) < max(3, values.size / 2):
        return None
    most = values[distance <= np.quantile(distance[near], 0.9)]
    low, high = min(1.0, float(most.real.min())), max(1.0, float(most.real.max()))
    half = 0.6 * max(high - low, 2 * float(np.abs(most.imag).max()), _SMALLEST_ZOOM)
    centre = (low + high) / 2
    return centre - half, centre + half, -half, half


def _key(largest: float, densest: int, has_intervals: bool) -> list[Artist]:
    entries: list[Artist] = [
        style.marker_entry(f"residual < {SMALL_RESIDUAL:g}", style.GREY),
        style.marker_entry(f"residual ≥ {SMALL_RESIDUAL:g}", style.GREY, filled=False),
        style.marker_entry(f"area: amplitude, largest {largest:.3g}", style.GREY, size=9),
    ]
    if has_intervals:
        entries.append(style.marker_entry("bars: trusted intervals", style.GREY, marker="+"))
    if densest:
        text = f"grey: 1 to {densest} a cell, {STRONGEST} strongest on top"
        entries.append(style.marker_entry(text, "#BDBDBD", marker="h"))
    return entries


def _remarks(points: Eigenvalues, outside: npt.NDArray[np.bool_], invalid: int) -> list[Artist]:
    remarks: list[Artist] = []
    if outside.any():
        beyond = float(np.abs(points.value[outside]).max())
        text = f"{np.count_nonzero(outside)} outside the view,\nlargest |λ| = {beyond:.3g}"
        remarks.append(style.marker_entry(text, style.GREY, marker=">"))
    if invalid:
        remarks.append(style.remark(f"{invalid} not finite"))
    return remarks


def _title(
    table: xr.Dataset, values: npt.NDArray[np.complex128], tolerance: float, per: str
) -> tuple[str, str]:
    attrs = table.attrs
    delays = f" with {attrs['delays']} delays" if int(attrs["delays"]) > 1 else ""
    lag = style.counted(int(attrs["lag"]), "step")
    first = f"{style.shortened(str(attrs['partition']))}, {attrs['method']}{delays}, lag {lag}"
    if not values.size:
        return first, "no eigenvalues: nothing moved in the window"
    modulus = np.abs(values)
    close = np.count_nonzero(np.abs(modulus - 1) <= tolerance)
    unit = " per step" if per == "step" else ""
    return first, (
        f"{close} of {values.size} within {tolerance:g} of the circle, "
        f"spectral radius {modulus.max():.6g}{unit}"
    )
