"""Eigenvalues as markers and densities: what the unit circle and its magnified part have in common."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import to_rgba_array
from matplotlib.patches import Circle

from koopscope.plots import style

SMALL_RESIDUAL = 0.1
STRONGEST = 50  # single markers drawn over a density, by amplitude
_DIAMETERS = (3.0, 11.0)
_BOUNDS = ("growth_low", "growth_high", "frequency_low", "frequency_high")
_POINTS_A_BAR = 16  # enough for the arc of a frequency's interval
_ARROWS = {0: ">", 1: "^", 2: "<", 3: "v"}


@dataclass(frozen=True)
class Eigenvalues:
    """Eigenvalues with how they are drawn, strongest first so that small markers come out on top."""

    value: npt.NDArray[np.complex128]
    layer: npt.NDArray[Any]
    amplitude: npt.NDArray[np.float64]
    filled: npt.NDArray[np.bool_]

    def only(self, chosen: npt.NDArray[Any] | slice) -> Eigenvalues:
        """Select some of them."""
        return Eigenvalues(
            self.value[chosen], self.layer[chosen], self.amplitude[chosen], self.filled[chosen]
        )

    @property
    def reach(self) -> npt.NDArray[np.float64]:
        """Larger one of ``|Re|`` and ``|Im|``: what decides whether a square view holds them."""
        return np.maximum(np.abs(self.value.real), np.abs(self.value.imag))


def read_eigenvalues(table: xr.Dataset, values: npt.NDArray[np.complex128]) -> Eigenvalues:
    """Take the finite ones among ``values``, one a row of a spectrum."""
    amplitude = table["amplitude"].to_numpy()
    amplitude = np.where(np.isfinite(amplitude), amplitude, 0.0)
    points = Eigenvalues(
        values, table["layer"].to_numpy(), amplitude, table["residual"].to_numpy() < SMALL_RESIDUAL
    )
    order = np.argsort(-amplitude, kind="stable")
    return points.only(order[np.isfinite(values[order])])


def draw_unit_circle(ax: Axes) -> None:
    """Draw the circle over densities and under markers."""
    ax.add_patch(Circle((0, 0), 1.0, fill=False, edgecolor=style.GREY, linewidth=1.0, zorder=1.8))


def draw_eigenvalues(
    ax: Axes,
    points: Eigenvalues,
    colours: style.LayerColours,
    extent: tuple[float, float, float, float],
    largest: float,
) -> int:
    """Draw markers, over a density where there are many; return the count of the densest cell, or 0."""
    densest = 0
    if points.value.size > style.MANY:
        x, y = points.value.real, points.value.imag
        seen = (x >= extent[0]) & (x <= extent[1]) & (y >= extent[2]) & (y <= extent[3])
        cells = ax.hexbin(
            x[seen],
            y[seen],
            gridsize=80,
            extent=extent,
            mincnt=1,
            bins="log",
            cmap=style.DENSITY,
            linewidths=0.2,
            zorder=1.5,
        )
        densest = style.densest(cells)
        points = points.only(slice(STRONGEST))
    crowding = float(np.clip(np.sqrt(200 / max(points.value.size, 1)), 0.4, 1.0))
    if densest:
        crowding = 0.6  # the density below must stay visible
    areas = _areas(points.amplitude, largest) * crowding**2
    edges = colours.of_points(points.layer)
    faces = to_rgba_array(edges, 0.6)
    faces[~points.filled, 3] = 0.0
    ax.scatter(
        points.value.real,
        points.value.imag,
        s=areas,
        facecolors=faces,
        edgecolors=edges,
        linewidths=0.8,
        label="eigenvalues",
        zorder=2,
    )
    return densest


def _areas(amplitude: npt.NDArray[np.float64], largest: float) -> npt.NDArray[np.float64]:
    low, high = _DIAMETERS
    share = amplitude / largest if largest > 0 else np.zeros_like(amplitude)
    return np.asarray(np.maximum(low, high * np.sqrt(share)) ** 2)


def draw_intervals(
    ax: Axes, table: xr.Dataset, values: npt.NDArray[np.complex128], colours: style.LayerColours, steps: int
) -> bool:
    """Draw the trusted confidence intervals of a spectrum as bars; tell whether there were any to draw."""
    if "interval_trusted" not in table:
        return False
    drawn = table["interval_trusted"].to_numpy()
    bounds = {name: table[name].to_numpy()[drawn, None] * steps for name in _BOUNDS}
    centre, share = values[drawn, None], np.linspace(0.0, 1.0, _POINTS_A_BAR)
    growth = bounds["growth_low"] + share * (bounds["growth_high"] - bounds["growth_low"])
    turn = bounds["frequency_low"] + share * (bounds["frequency_high"] - bounds["frequency_low"])
    along = np.exp(growth + 1j * np.angle(centre))
    around = np.abs(centre) * np.exp(2j * np.pi * turn)
    bars = np.concatenate([along, around])
    colour = np.tile(to_rgba_array(colours.of_points(table["layer"].to_numpy()[drawn]), 0.8), (2, 1))
    ax.add_collection(
        LineCollection(
            list(np.stack([bars.real, bars.imag], axis=2)),
            colors=colour,
            linewidths=1.4,
            zorder=2.1,
            label="intervals",
        ),
        autolim=False,
    )
    return bool(drawn.any())


def draw_outside(ax: Axes, points: Eigenvalues, colours: style.LayerColours, half: float) -> None:
    """Move eigenvalues beyond the view along their own ray to its border, as arrowheads pointing out."""
    edge = points.value / points.reach * (0.97 * half)
    side = np.round(np.angle(edge) / (np.pi / 2)).astype(int) % 4
    for quarter, marker in _ARROWS.items():
        mine = side == quarter
        if mine.any():
            ax.scatter(
                edge.real[mine],
                edge.imag[mine],
                s=40,
                marker=marker,
                c=colours.of_points(points.layer[mine]),
                label="outside",
                zorder=3,
            )
