"""Verdicts of groups, of full-batch and of noisy runs, and the table that `koopscope.find_basin` returns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from koopscope.basin_criteria import NEVER, ON_CIRCLE, Entry, Flags, Judged, find_entry, settled_windows
from koopscope.operators import Floats
from koopscope.partition import GroupBlock
from koopscope.surrogates import Contraction, judge_contraction

_FLAGS = ("predictable", "contracting", "fixed_point_agrees", "in_basin")
ENTRY = {"entry_step": "row", "entry_low": "low", "entry_high": "high"}


@dataclass(frozen=True)
class GroupVerdicts:
    """Verdicts of one group over all windows; ``test`` for noisy runs only."""

    judged: Judged
    entry: Entry
    test: Contraction | None


def judge_quiet(judged: Judged, m: int) -> GroupVerdicts:
    """Judge a group of a full-batch run window by window."""
    return GroupVerdicts(judged, find_entry(judged.in_basin, m), None)


def judge_noisy(products: Floats, m: int, judged: Judged) -> GroupVerdicts:
    """Judge a noisy group over the whole stretch; its windows are in the basin once they have settled."""
    test = judge_contraction(products)
    settled = settled_windows(products, m)
    lasting = np.flip(np.logical_and.accumulate(np.flip(settled))) & test.contracting
    entry = find_entry(lasting, m, look_back=0) if lasting.any() else NEVER
    contracting: Flags = np.full(settled.size, test.contracting)
    noisy = replace(judged, contracting=contracting, fixed_point_agrees=settled, in_basin=lasting)
    return GroupVerdicts(noisy, entry, test)


def basin_table(
    groups: Sequence[GroupVerdicts],
    blocks: Sequence[GroupBlock],
    starts: npt.NDArray[np.int64],
    attrs: dict[str, Any],
) -> xr.Dataset:
    """Put the verdicts of all groups into one dataset.

    Parameters
    ----------
    groups
        In the order of the blocks.
    starts
        First training step of each window.
    attrs
        With ``window``, ``lag`` and ``stochastic``.
    """
    lag, spread = int(attrs["lag"]), ("group", "window")
    fits = [group.judged.fits for group in groups]
    eigenvalues = np.stack([each.eigenvalue for each in fits])
    data: dict[str, Any] = {
        name: (spread, np.stack([getattr(group.judged, name) for group in groups])) for name in _FLAGS
    }
    data |= {
        "on_unit_circle": (spread, on_unit_circle(eigenvalues, lag)),
        "spectral_radius": (spread, np.stack([each.spectral_radius for each in fits])),
        "one_step_error": (spread, np.stack([each.one_step for each in fits])),
        "hindcast_error": (spread, np.stack([each.hindcast for each in fits])),
        "window_eigenvalue": ((*spread, "mode"), eigenvalues),
    }
    for name, field in ENTRY.items():
        rows = np.array([getattr(group.entry, field) for group in groups])
        data[name] = (("group",), starts[0] + rows * lag)
    tests = [group.test for group in groups if group.test]
    if tests:
        data["contracting_modes"] = (("group",), np.array([test.modes for test in tests]))
        p_values = [min(test.rate_p, test.displacement_p) for test in tests]
        data["contraction_p"] = (("group",), np.array(p_values))
    coords: dict[str, Any] = {
        "window": starts + int(attrs["window"]),
        "window_start": ("window", starts),
        "window_end": ("window", starts + int(attrs["window"])),
        "layer": ("group", np.array([b.layer for b in blocks for _ in b.members], dtype=object)),
        "path": ("group", np.array([b.path for b in blocks for _ in b.members], dtype=object)),
        "unit": ("group", np.concatenate([block.units for block in blocks])),
    }
    return xr.Dataset(data, coords, attrs)


def on_unit_circle(eigenvalues: npt.NDArray[np.complex128], lag: int) -> Flags:
    """Whether all eigenvalues of a window lie within the tolerance of the unit circle, per training step."""
    per_step = np.abs(eigenvalues) ** (1 / lag)
    return np.asarray((np.isnan(per_step) | (np.abs(per_step - 1) <= ON_CIRCLE)).all(axis=-1))
