"""The figures of a page: plain Bokeh models, named so that the page's own controls find them."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from bokeh.models import ColumnDataSource, CustomJS, HoverTool, NoOverlap
from bokeh.plotting import figure
from bokeh.transform import linear_cmap

from koopscope.plots.style import GREY, PALETTE
from koopscope.reporting.points import Entry, Points

EIGENVALUES, WEIGHTS = "eigenvalues", "weights"
_TOOLS = "pan,wheel_zoom,box_zoom,tap,box_select,lasso_select,reset,save"
REACH = 1.5  # a coordinate beyond it would make the circle small, and starts outside the view

# Selecting eigenvalues selects the weights of their groups; the page says how many, and how wrong they are.
_LINK = """
const eigenvalues = cb_obj.document.get_model_by_name("eigenvalues")
const weights = cb_obj.document.get_model_by_name("weights")
const chosen = new Set(cb_obj.indices.map((i) => eigenvalues.data.group[i]))
const indices = []
if (weights !== null && chosen.size > 0) {
  const group = weights.data.group
  for (let i = 0; i < group.length; i++) if (chosen.has(group[i])) indices.push(i)
  weights.selected.indices = indices
} else if (weights !== null) {
  weights.selected.indices = []
}
document.dispatchEvent(new CustomEvent("koopscope-selection", {
  detail: {eigenvalues: cb_obj.indices.length, groups: chosen.size, weights: indices},
}))
"""


def layer_colours(count: int) -> list[str]:
    """Give a colour a layer; layers past the palette share a grey."""
    return [PALETTE[i] if i < len(PALETTE) else GREY for i in range(count)]


def eigenvalue_reach(points: Points) -> Any:
    """Larger one of ``|Re|`` and ``|Im|``: what decides whether a square view holds an eigenvalue."""
    return np.maximum(np.abs(points.columns["re"]), np.abs(points.columns["im"]))


def eigenvalue_figure(points: Points, lag: int, n_layers: int) -> Any:
    """Draw eigenvalues on the unit circle."""
    source = ColumnDataSource(points.columns, name=EIGENVALUES)
    source.selected.js_on_change("indices", CustomJS(code=_LINK))
    reach = eigenvalue_reach(points)
    half = max(1.2, 1.05 * float(np.max(reach[reach <= REACH], initial=0.0)))
    made = _figure("Eigenvalues", f"Re λ (per lag of {lag} steps)", "Im λ", match_aspect=True, height=460)
    corners = made.scatter([-half, half], [-half, half], size=0, alpha=0)
    for axis in (made.x_range, made.y_range):  # ranges that follow data keep the circle round
        axis.renderers, axis.range_padding = [corners], 0
    made.circle(x=0, y=0, radius=1, fill_alpha=0, line_color=GREY, name="unit circle", hit_dilation=0)
    drawn = made.scatter(
        "re", "im", size="size", source=source, fill_alpha="fill", line_width=1, **_coloured(n_layers)
    )
    drawn.nonselection_glyph.line_alpha = 0.15
    figures = [("λ", "@re{0.0000} @im{+0.0000}i"), ("group", "@group"), ("residual", "@residual{0.00e+0}")]
    made.add_tools(HoverTool(renderers=[drawn], tooltips=[*figures, ("amplitude", "@amplitude{0.00e+0}")]))
    return made


def error_figure(points: Points, lead: int, n_layers: int) -> Any:
    """Draw the error of each weight's forecast against how far the weight moved."""
    source = ColumnDataSource(points.columns, name=WEIGHTS)
    made = _figure(
        "Errors of the weights",
        f"|evolution| over {lead} steps",
        "|error|",
        x_axis_type="log",
        y_axis_type="log",
        height=460,
    )
    if points.shown:
        ends = [float(points.columns["evolution"].min()), float(points.columns["evolution"].max())]
        made.line(ends, ends, line_dash="dashed", line_color=GREY)
    drawn = made.scatter(
        "evolution", "error", size=5, source=source, fill_alpha=0.5, line_alpha=0.0, **_coloured(n_layers)
    )
    drawn.nonselection_glyph.fill_alpha = 0.05
    figures = [("evolution", "@evolution{0.00e+0}"), ("error", "@error{0.00e+0}"), ("group", "@group")]
    made.add_tools(HoverTool(renderers=[drawn], tooltips=figures))
    return made


def skill_figure(verification: xr.DataTree, backtest: xr.Dataset | None) -> Any:
    """Draw the relative error by lead, of the fit beside the baselines, and the horizon of its backtest."""
    errors = verification.to_dataset()["relative_l2"].sortby("lead")
    made = _figure(
        "Error by lead", "lead (training steps)", "|error| / |evolution|", y_axis_type="log", height=430
    )
    dashes = ["solid", "dashed", "dotted", "dotdash", "dashdot"]
    for number, name in enumerate(errors["forecast"].to_numpy().astype(str).tolist()):
        values = errors.sel(forecast=name).to_numpy()
        shown = np.isfinite(values) & (values > 0)
        made.line(
            errors["lead"].to_numpy()[shown],
            values[shown],
            line_width=2,
            line_color=PALETTE[number % len(PALETTE)],
            line_dash=dashes[number % len(dashes)],
            legend_label=name,
        )
    if backtest is not None and backtest.attrs["horizon"]:
        _mark(made, float(backtest.attrs["horizon"]), "horizon")
        tolerance = [float(backtest.attrs["tolerance"])]
        made.hspan(
            y=tolerance, line_color=GREY, line_dash="dotted", legend_label="tolerance", name="tolerance"
        )
    _plain_legend(made)
    return made


def basin_figure(basin: xr.Dataset, entry: Entry) -> Any:
    """Draw the largest spectral radius of the groups by window, their share in a basin, and the entry."""
    steps = basin["window"].to_numpy()
    made = _figure("Basin", "training step", "spectral radius; share of groups", height=460)
    made.line(
        steps,
        basin["spectral_radius"].max("group").to_numpy(),
        line_width=2,
        line_color=PALETTE[0],
        legend_label="largest spectral radius",
    )
    flags = ("predictable", "contracting", "fixed_point_agrees", "in_basin", "on_unit_circle")
    for number, name in enumerate(flags, start=1):
        made.step(
            steps,
            basin[name].mean("group").to_numpy(),
            mode="center",
            line_color=PALETTE[number],
            line_width=3 if name == "in_basin" else 1.5,
            line_dash="solid" if name == "in_basin" else "dashed",
            legend_label=name.replace("_", " "),
        )
    if entry.groups:
        strip = {"x0": [entry.low], "x1": [entry.high], "fill_color": GREY, "fill_alpha": 0.2}
        made.vstrip(**strip, line_alpha=0.0, name="entry interval")
        _mark(made, entry.step, "entry")
    _plain_legend(made)
    return made


def _mark(made: Any, where: float, name: str) -> None:
    """Draw a line across the figure, at a training step or a lead."""
    made.vspan(x=[where], line_color=GREY, line_width=2, line_dash="dashed", legend_label=name, name=name)


def _figure(title: str, x: str, y: str, **settings: Any) -> Any:
    made = figure(
        title=title,
        x_axis_label=x,
        y_axis_label=y,
        tools=_TOOLS,
        sizing_mode="stretch_width",
        min_width=260,
        toolbar_location="below",
        background_fill_alpha=0,
        border_fill_alpha=0,
        **settings,
    )
    made.toolbar.logo = None
    made.axis.major_label_policy = NoOverlap(min_distance=8)
    return made


def _coloured(n_layers: int) -> dict[str, Any]:
    colours = layer_colours(n_layers)
    return {"color": linear_cmap("layer", colours, -0.5, n_layers - 0.5)}


def _plain_legend(made: Any) -> None:
    """Put the legend below the axes, where it covers no data."""
    made.add_layout(made.legend[0], "below")
    made.legend.orientation = "horizontal"
    made.legend.ncols = 2
    made.legend.location = "left"
    made.legend.background_fill_alpha = 0
    made.legend.border_line_alpha = 0
    made.legend.click_policy = "hide"
