"""Distances between runs as a heat map, ordered by the dendrogram above it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import takewhile

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from scipy.cluster.hierarchy import dendrogram, linkage
from scipy.spatial.distance import squareform

from koopscope.errors import UsageError
from koopscope.plots import style

_NAMED = 30  # items up to which each has its name; beyond, a name every few
_SPELLED = 8  # items up to which each distance is written
_LONGEST = 16  # characters of a name
_FINE = 100  # items above which the dendrogram's lines are thin
_COLOURS = "viridis_r"  # far is dark; perceptually even, and safe for the colour-blind


def plot_distance(
    distances: xr.DataArray, *, labels: Sequence[str] | None = None, ax: Axes | None = None
) -> Axes:
    """Draw a distance matrix as a heat map, items ordered and joined by average linkage.

    Items that join low in the dendrogram are alike. The order is that in which neighbours are closest
    (Bar-Joseph et al. 2001, https://doi.org/10.1093/bioinformatics/17.suppl_1.S22).

    Parameters
    ----------
    distances
        Result of `koopscope.compare`.
    labels
        One an item, such as its optimiser; drawn as a strip of colours, named in the legend.
    ax
        Where to draw the heat map; by default a figure of its own.

    Returns
    -------
    matplotlib.axes.Axes
        The heat map; the dendrogram is an inset above it.

    Raises
    ------
    UsageError
        If ``distances`` is no square matrix, or there is not one label an item.

    Examples
    --------
    >>> place = np.array([0.0, 5.0, 0.1, 5.1])
    >>> matrix = xr.DataArray(abs(place[:, None] - place), dims=("item", "item_other"))
    >>> ax = plot_distance(matrix.assign_coords(item=list("abcd")))
    >>> sorted(tick.get_text() for tick in ax.get_yticklabels()[:2])
    ['b', 'd']
    """
    matrix = np.asarray(distances.to_numpy(), np.float64)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or not matrix.size:
        raise UsageError(f"distances must be a square matrix, as koopscope.compare gives; got {matrix.shape}")
    count = matrix.shape[0]
    if labels is not None and len(labels) != count:
        raise UsageError(f"expected a label for each of the {count} items, got {len(labels)}")
    names = [str(name) for name in distances["item"].values] if "item" in distances.coords else None
    names = names or [str(i) for i in range(count)]
    axes = Figure(figsize=(6.4, 5.6)).add_axes((0.2, 0.23, 0.52, 0.57)) if ax is None else ax
    order = _dendrogram(axes, matrix)
    image = axes.imshow(
        matrix[np.ix_(order, order)],
        cmap=_COLOURS,
        vmin=0.0,
        vmax=matrix.max() or 1.0,
        interpolation="nearest",
    )
    spelled = _distinct(names)
    _name(axes, [spelled[i] for i in order])
    if count <= _SPELLED:
        _spell(axes, matrix[np.ix_(order, order)])
    beside = axes.inset_axes((1.05, 0.0, 0.04, 0.6))
    bar = axes.figure.colorbar(image, cax=beside)
    bar.set_label("distance", fontsize=style.SMALL)
    bar.ax.tick_params(labelsize=style.SMALL)
    if labels is not None:
        colours = style.LayerColours.of(map(str, labels))
        _strip(axes, [colours.by_layer[str(labels[i])] for i in order])
        style.legend_beside(axes, colours.handles())
    return axes


def _dendrogram(ax: Axes, matrix: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> list[int]:
    """Draw how items join, above the heat map; return their order."""
    above = ax.inset_axes((0.0, 1.06, 1.0, 0.2))
    above.set_axis_off()
    style.title(above, "distance between spectra, joined by average linkage")
    if matrix.shape[0] < 2:
        return [0]
    joined = linkage(squareform(matrix, checks=False), "average", optimal_ordering=True)
    tree = dendrogram(joined, no_plot=True)
    # SciPy puts leaf i at 10 i + 5; the heat map has it at i.
    lines = [
        np.column_stack([(np.array(x) - 5) / 10, y])
        for x, y in zip(tree["icoord"], tree["dcoord"], strict=True)
    ]
    width = 0.8 if matrix.shape[0] <= _FINE else 0.3
    above.add_collection(LineCollection(lines, colors=style.GREY, linewidths=width))
    above.set(xlim=(-0.5, matrix.shape[0] - 0.5), ylim=(0, 1.05 * float(joined[-1, 2]) or 1.0))
    return [int(i) for i in tree["leaves"]]


def _distinct(names: list[str]) -> list[str]:
    """Leave out whole words that long names share at both ends, then cut what is still long in its middle."""
    if max(map(len, names)) > _LONGEST and len(set(names)) > 1:
        front, back = _shared(names), _shared([name[::-1] for name in names])
        names = [name[front : max(front, len(name) - back)] or name for name in names]
    head, tail = _LONGEST // 2 - 1, _LONGEST // 2
    return [name if len(name) <= _LONGEST else f"{name[:head]}…{name[-tail:]}" for name in names]


def _shared(names: list[str]) -> int:
    """Count the characters of the words, each with what ends it, that all names begin with."""
    words = zip(*(re.findall(r"[^/_. -]*[/_. -]", name) for name in names), strict=False)
    return sum(len(each[0]) for each in takewhile(lambda each: len(set(each)) == 1, words))


def _name(ax: Axes, names: list[str]) -> None:
    stride = -(-len(names) // _NAMED)
    shown = range(0, len(names), stride)
    size = 8 if len(names) <= 20 else 6
    ax.set_xticks(list(shown), [names[i] for i in shown], rotation=90, fontsize=size)
    ax.set_yticks(list(shown), [names[i] for i in shown], fontsize=size)
    ax.tick_params(length=2 if len(names) <= _NAMED else 3)


def _spell(ax: Axes, matrix: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> None:
    largest = float(matrix.max())
    for (row, column), value in np.ndenumerate(matrix):
        colour = "white" if value > 0.5 * largest else "black"
        ax.text(column, row, f"{value:.2g}", ha="center", va="center", color=colour, fontsize=style.SMALL)


def _strip(ax: Axes, colours: list[str]) -> None:
    strip = ax.inset_axes((0.0, 1.01, 1.0, 0.035))
    strip.set_axis_off()
    strip.set(xlim=(-0.5, len(colours) - 0.5), ylim=(0, 1))
    strip.bar(np.arange(len(colours)), 1.0, width=1.0, color=colours)
