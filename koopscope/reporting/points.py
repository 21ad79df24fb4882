"""Eigenvalues and weights as columns of numbers, joined by the group they belong to; entry and horizon."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from koopscope.fit_tree import fitted_blocks, fitted_weights
from koopscope.plots.reading import flat_at, lead_position
from koopscope.spectra import spectrum

MOST = 20_000  # points of a kind on a page; what is left out is said


@dataclass(frozen=True)
class Points:
    """Columns of equal length, the layers that ``layer`` counts, and how many were left out."""

    columns: dict[str, npt.NDArray[Any]]
    total: int

    @property
    def shown(self) -> int:
        """Number of points on the page."""
        return int(self.columns["group"].size)


@dataclass(frozen=True)
class Entry:
    """When groups came into a basin, in training steps: medians over the ``groups`` of ``total`` that did."""

    step: float
    low: float
    high: float
    groups: int
    total: int

    @property
    def words(self) -> str:
        """One sentence."""
        if not self.groups:
            return "No basin was entered."
        interval = f"by step {self.step:.0f} (between {self.low:.0f} and {self.high:.0f})"
        if self.total == 1:
            return f"In a basin {interval}."
        return f"{self.groups} of {self.total} groups came into a basin, {interval}, by the median."


def basin_entry(basin: xr.Dataset) -> Entry:
    """Read the entry from a basin result."""
    entered = np.isfinite(basin["entry_step"].to_numpy())
    count = int(np.count_nonzero(entered))
    columns = (basin[name].to_numpy()[entered] for name in ("entry_step", "entry_low", "entry_high"))
    step, low, high = (float(np.median(column)) if count else np.nan for column in columns)
    return Entry(step, low, high, count, entered.size)


def horizon_words(backtest: xr.Dataset | None) -> str:
    """Say in one sentence how far the fit can be trusted."""
    if backtest is None:
        return "No horizon: a fit with method auto states how far its forecasts can be trusted."
    tolerance, horizon = backtest.attrs["tolerance"], int(backtest.attrs["horizon"])
    if not horizon:
        return f"No lead has a stated error bound within {tolerance:g}."
    least = "at least " if backtest.attrs["horizon_censored"] else ""
    return (
        f"Horizon: {least}{horizon} steps, the largest lead whose stated error bound is within {tolerance:g}."
    )


def layer_names(fit: xr.DataTree) -> list[str]:
    """List the layers that groups belong to, as the spectrum names them."""
    return list(dict.fromkeys(str(block.attrs["layer"]) for block in fitted_blocks(fit)))


def eigenvalue_points(fit: xr.DataTree) -> Points:
    """List eigenvalues with group, layer, amplitude and residual; the strongest, where there are many."""
    table = spectrum(fit)
    layers = layer_names(fit)
    starts = _group_starts(fit)
    first = np.array([starts[str(path)] for path in table["path"].to_numpy()], np.int64)
    amplitude = table["amplitude"].to_numpy()
    largest = float(np.max(amplitude, initial=0.0)) or 1.0
    residual = table["residual"].to_numpy()
    columns = {
        "re": table["eigenvalue"].to_numpy().real,
        "im": table["eigenvalue"].to_numpy().imag,
        "size": 4 + 10 * np.sqrt(amplitude / largest),
        "fill": np.where(residual < 0.1, 0.6, 0.0),
        "amplitude": amplitude,
        "residual": residual,
        "group": first + table["group"].to_numpy(),
        "layer": np.array([layers.index(str(layer)) for layer in table["layer"].to_numpy()]),
    }
    order = np.argsort(-amplitude, kind="stable")[:MOST]
    return Points(_compact(columns, order), amplitude.size)


def weight_points(fit: xr.DataTree, verification: xr.DataTree) -> Points:
    """List |evolution| and |error| of the weights at the largest lead; those that moved most, where many."""
    position = lead_position(verification, None)
    error = np.abs(flat_at(verification, "error", position))
    evolution = np.abs(flat_at(verification, "evolution", position))
    group = np.empty(fitted_weights(fit).size, np.int64)
    layer = np.empty_like(group)
    layers, starts = layer_names(fit), _group_starts(fit)
    for block in fitted_blocks(fit):
        members = block["member_index"].to_numpy()
        group[members] = starts[str(block.attrs["path"])] + np.arange(members.shape[0])[:, None]
        layer[members] = layers.index(str(block.attrs["layer"]))
    drawn = np.flatnonzero(np.isfinite(error) & (error > 0) & (evolution > 0))
    order = drawn[np.argsort(-evolution[drawn], kind="stable")[:MOST]]
    columns = {"evolution": evolution, "error": error, "group": group, "layer": layer}
    return Points(_compact(columns, order), error.size)


def _group_starts(fit: xr.DataTree) -> dict[str, int]:
    """Number the groups of all blocks through; give each block's first."""
    starts, count = {}, 0
    for block in fitted_blocks(fit):
        starts[str(block.attrs["path"])] = count
        count += int(block.sizes["group"])
    return starts


def _compact(
    columns: dict[str, npt.NDArray[Any]], order: npt.NDArray[np.intp]
) -> dict[str, npt.NDArray[Any]]:
    """Keep single precision: a page is looked at, and 20 000 points must fit."""
    kinds = {"group": np.int32, "layer": np.int32}
    return {name: values[order].astype(kinds.get(name, np.float32)) for name, values in columns.items()}
