"""The look that all plots share: colours by layer, legends beside the axes, figures that no GUI knows of."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib import colormaps
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.collections import Collection
from matplotlib.figure import Figure
from matplotlib.legend import Legend
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator
from matplotlib.transforms import ScaledTranslation

# Okabe & Ito's colour-blind-safe palette without its yellow, which is lost on white.
PALETTE = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#000000")
GREY = "#7F7F7F"
ALARM = "#D55E00"
DENSITY = "Greys"
MANY = 5000  # points above which single markers hide each other and a density is drawn
TITLE_SIZE = 10
SMALL = 8
_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def axes_for(ax: Axes | None, *, place: tuple[float, float, float, float] | None = None) -> Axes:
    """Return the axes given, or those of a new figure outside pyplot.

    With a ``place`` (left, bottom, width, height in shares of the figure) nothing is laid out when the figure
    is drawn, which halves the time that takes.
    """
    if ax is not None:
        return ax
    if place is None:
        return Figure(figsize=(6.4, 4.8), layout="constrained").subplots()
    return Figure(figsize=(6.4, 4.8)).add_axes(place)


def counted(number: int, noun: str) -> str:
    """Spell a number with its noun.

    >>> counted(1, "step"), counted(120, "step")
    ('1 step', '120 steps')
    """
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def shortened(text: str, limit: int = 40) -> str:
    """Cut a text that would run out of a title.

    >>> shortened("node,fc1=quasi-node:10", 10)
    'node,fc1=…'
    """
    return text if len(text) <= limit else text[: limit - 1] + "…"


@dataclass(frozen=True)
class LayerColours:
    """A colour a layer; layers past the palette share a grey and the name "others"."""

    by_layer: dict[str, str]

    @classmethod
    def of(cls, layers: Iterable[str]) -> LayerColours:
        """Give the layers, in their order, the colours of the palette."""
        names = list(dict.fromkeys(layers))
        return cls({name: PALETTE[i] if i < len(PALETTE) else GREY for i, name in enumerate(names)})

    def of_points(self, layers: npt.NDArray[Any]) -> list[str]:
        """List the colour of each point from its layer."""
        return [self.by_layer[str(layer)] for layer in layers]

    def handles(self) -> list[Line2D]:
        """Legend entries: one a named layer, one for all others together."""
        names = list(self.by_layer)
        # An eighth layer alone is named in the grey of the others.
        n_named = len(names) if len(names) <= len(PALETTE) + 1 else len(PALETTE)
        entries = [marker_entry(shortened(name, 22), self.by_layer[name]) for name in names[:n_named]]
        if n_named < len(names):
            entries.append(marker_entry(f"others ({len(names) - n_named})", GREY))
        return entries


def curve_colours(number: int) -> list[str | tuple[float, ...]]:
    """List a colour a curve: the palette, or an even walk through viridis where there are more curves."""
    if number <= len(PALETTE):
        return list(PALETTE[:number])
    return [tuple(colour) for colour in colormaps["viridis"](np.linspace(0.0, 0.9, number))]


def marker_entry(
    label: str, colour: str, *, filled: bool = True, marker: str = "o", size: float = 6
) -> Line2D:
    """Make a legend entry that shows one marker."""
    return Line2D(
        [],
        [],
        linestyle="none",
        marker=marker,
        markersize=size,
        markeredgecolor=colour,
        markerfacecolor=colour if filled else "none",
        label=label,
    )


def remark(text: str) -> Line2D:
    """Make a legend entry of words alone: there no data can lie under it."""
    return Line2D([], [], linestyle="none", label=text)


def legend_beside(ax: Axes, handles: Sequence[Artist]) -> None:
    """Put the legend to the right of the axes, where it covers no data."""
    ax.legend(
        handles=list(handles),
        loc="upper left",
        bbox_to_anchor=(1.01, 1.0),
        borderaxespad=0.0,
        fontsize=SMALL,
        frameon=False,
    )


def key_below(ax: Axes, handles: Sequence[Artist]) -> None:
    """Put a second legend, of what the markers' looks mean, under the label of the x axis."""
    under_label = ScaledTranslation(0, -36 / 72, ax.figure.dpi_scale_trans)
    key = Legend(
        ax,
        list(handles),
        [str(handle.get_label()) for handle in handles],
        loc="upper left",
        bbox_to_anchor=(0.0, 0.0),
        bbox_transform=ax.transAxes + under_label,
        borderaxespad=0.0,
        fontsize=SMALL,
        frameon=False,
        ncols=2,
    )
    ax.add_artist(key)
    key.set_clip_on(False)  # layouts make no room for what the axes clip


def label_log_axis(axis: Axis) -> None:
    """Mark 2 and 5 between powers of ten where there are few of these, and nothing between many."""
    low, high = axis.get_view_interval()
    # Matplotlib's own log labels are formulas, and parsing these takes longer than drawing all the rest.
    axis.set_major_formatter(FuncFormatter(power_of_ten))
    if high < 100 * low:
        axis.set_minor_locator(LogLocator(subs=(2.0, 5.0)))
        axis.set_minor_formatter(FuncFormatter(power_of_ten))
    else:
        axis.set_minor_locator(NullLocator())  # hundreds of unlabelled ticks take most of the drawing time


def power_of_ten(value: float, position: int | None = None) -> str:
    """Spell a tick of a logarithmic axis in plain characters.

    >>> power_of_ten(1e-12), power_of_ten(0.002)
    ('10⁻¹²', '2×10⁻³')
    """
    if not value > 0:
        return ""
    mantissa, exponent = f"{value:e}".split("e")
    power = f"10{str(int(exponent)).translate(_SUPERSCRIPTS)}"
    return power if float(mantissa) == 1 else f"{float(mantissa):g}×{power}"


def label_steps(ax: Axes) -> None:
    """Label the x axis as training steps, with room for six digits a tick."""
    ax.set_xlabel("training step")
    ax.xaxis.set_major_locator(MaxNLocator(6, integer=True))


def title(ax: Axes, *lines: str) -> None:
    """Set a title of short lines, from the left edge of the axes on."""
    # With a height of its own nothing is measured to find one; no axis of ours has ticks on top.
    ax.set_title("\n".join(lines), loc="left", fontsize=TITLE_SIZE, y=1.0)


def densest(cells: Collection) -> int:
    """Count the points in the fullest cell of a hexbin; 0 where it has none."""
    counts = cells.get_array()
    return 0 if counts is None or not counts.size else int(np.ma.filled(counts, 0).max())


def message(ax: Axes, text: str, *, y: float = 0.9) -> None:
    """Write what went wrong where it cannot be overlooked."""
    box = {"boxstyle": "round", "facecolor": "white", "edgecolor": ALARM}
    ax.text(0.5, y, text, transform=ax.transAxes, ha="center", va="center", color=ALARM, bbox=box, zorder=10)
