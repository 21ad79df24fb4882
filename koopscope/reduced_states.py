"""Snapshots of a fit's window in the coordinates its operators act on, from the grid that was read for it."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import xarray as xr

from koopscope.errors import ResultError, UsageError
from koopscope.fit_tree import fitted_blocks
from koopscope.hindcast import fitted_rows
from koopscope.operators import Floats, GramModes
from koopscope.statistics import Grid, Statistics, choose_window
from koopscope.statistics.gathering import read_grid
from koopscope.trajectory import validate
from koopscope.weight_vector import WeightVector

_GROUPS_AT_ONCE = 64


def fitted_grid(fit: xr.DataTree, trajectory: xr.Dataset | Statistics) -> Grid:
    """Give the grid of snapshots that a fit was made on: that of statistics, or read once from a recording.

    Raises
    ------
    ResultError
        If the recording is not the one that was fitted.
    UsageError
        If the fit is not affine: only there the eigenvalues belong to a least-squares map of states.
    """
    attrs = fit.attrs
    plain = attrs["method"] in ("affine", "auto") and attrs.get("kind", "affine") == "affine"
    if not plain or attrs.get("pairs") == "every":
        raise UsageError(
            "intervals need an affine fit of strided pairs; use method='affine' (--method affine)"
        )
    if isinstance(trajectory, Statistics):
        grid = trajectory.grid
    else:
        validate(trajectory)
        steps = trajectory["step"].to_numpy().astype(np.int64)
        settings = {name: int(attrs[name]) for name in ("t1", "t2", "lag", "average")}
        weights = WeightVector.of(trajectory)
        window = choose_window(steps, **settings, min_snapshots=2 + int(attrs["delays"]))
        grid = read_grid(trajectory, weights, window, lambda *_: None)
    held = (grid.window.t1, grid.window.t2, grid.weights.to_attrs())
    same_grid = grid.window.lag == attrs["lag"] and attrs["method"] != "auto"
    if held != (attrs["t1"], attrs["t2"], attrs["tensors"]) or (
        same_grid and grid.fingerprint != attrs["fingerprint"]
    ):
        raise ResultError(
            "this is not the recording that was fitted, or not its window; give the one of the fit"
        )
    return grid


def reduced_states(fit: xr.DataTree, grid: Grid) -> Iterator[Floats]:
    """Yield, group by group in the order of the blocks, the states at consecutive snapshots.

    Each of shape ``(snapshot - delays + 1, state)``: coordinates on the singular directions that were kept.
    """
    attrs = fit.attrs
    multiple = max(1, int(attrs["lag"]) // grid.window.lag)
    last_row = grid.window.n_snapshots - 1
    rows = fitted_rows(last_row, multiple, float(attrs.get("window_share", 1.0)))
    delays, rtol = int(attrs["delays"]), float(attrs["rtol"])
    for block in fitted_blocks(fit):
        members, ranks = block["member_index"].to_numpy(), block["rank"].to_numpy()
        for start in range(0, members.shape[0], _GROUPS_AT_ONCE):
            chosen = slice(start, start + _GROUPS_AT_ONCE)
            own = grid.snapshots[rows][:, members[chosen]].astype(np.float64).swapaxes(0, 1)
            own -= own[:, -1:]
            if delays == 1 and own.shape[2] < rows.size:
                yield from _projected(own, ranks[chosen])
            else:
                yield from _from_gram(own @ own.swapaxes(1, 2), delays, rtol, ranks[chosen])


def _projected(snapshots: Floats, ranks: Floats) -> Iterator[Floats]:
    """States of groups with fewer weights than snapshots, shape ``(group, snapshot, member)`` in."""
    centred = snapshots - snapshots[:, :-1].mean(axis=1, keepdims=True)
    directions = np.linalg.svd(centred[:, :-1], full_matrices=False)[2]
    for own, towards, rank in zip(centred, directions, ranks, strict=True):
        yield own @ towards[: int(rank)].T


def _from_gram(gram: Floats, delays: int, rtol: float, ranks: Floats) -> Iterator[Floats]:
    modes = GramModes(gram, delays)
    reduced = modes.truncate(rtol)
    n = modes.n_pairs
    for now, following, rank in zip(reduced.pairs_now, reduced.pairs_next, ranks, strict=True):
        # Ends of pairs are centred on their own mean, which lies (z_n - z_0) / n from that of the starts.
        final = (following[-1] - now[0] / n) / (1 - 1 / n)
        yield np.concatenate([now, final[None]])[:, : int(rank)]
