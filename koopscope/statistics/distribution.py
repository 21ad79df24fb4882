"""The same statistics from many processes: layers are shared out, Gram matrices come back as one sum.

Every worker opens the recording by itself and runs `collect` on its layers. What comes back is small: the
snapshots on the grid, and one statistic a group. Where one group holds the whole network, the increment
Gram of each layer is added to another's on the workers, pair by pair.
"""

from __future__ import annotations

import glob
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import xarray as xr

from koopscope.errors import UsageError
from koopscope.parallel import dask_client, dask_tree
from koopscope.partition import GroupBlock, Partition
from koopscope.progress import Listener
from koopscope.statistics.gram import IncrementGrams
from koopscope.statistics.grid import Grid, fingerprint
from koopscope.statistics.windows import Window
from koopscope.trajectory import open_trajectory
from koopscope.weight_vector import WeightVector


@dataclass(frozen=True)
class Share:
    """The work of one task: where the recording is, which tensors of it, and how they are grouped."""

    source: str
    layout: str | None
    tensors: tuple[str, ...]
    partition: Partition
    settings: dict[str, Any]

    def open(self) -> xr.Dataset:
        """Open the tensors of the share."""
        names = [glob.escape(name) for name in self.tensors]
        return open_trajectory(self.source, layout=self.layout, include=names)


def collect_shares(
    scheduler: str,
    trajectory: xr.Dataset,
    weights: WeightVector,
    partition: Partition,
    window: Window,
    settings: dict[str, Any],
    collect_share: Callable[[Share], Any],
    tell: Listener,
) -> tuple[Grid, list[tuple[GroupBlock, Any]]]:
    """Run the tasks on a dask cluster and put their statistics together.

    Parameters
    ----------
    scheduler
        Address of a dask scheduler, or ``"local"`` for worker processes on this machine.
    collect_share
        What a worker runs: gives the grid and the blocks of a share.
    """
    whole = partition.default.name == "network"
    shares = _shares(trajectory, weights, partition, window, settings)
    with dask_client(scheduler) as client:
        done = client.map(collect_share, shares, pure=False)
        total = None
        if whole:
            total = dask_tree(client, add_grams, client.map(network_gram, done, pure=False))
            done = client.map(only_grid, done, pure=False)
        parts = []
        for index, future in enumerate(done):
            tell("collecting layers", index, len(done))
            parts.append(future.result())
        tell("collecting layers", len(done), len(done))
        gram = total.result() if total is not None else None
    grid = _join_grids(weights, window, trajectory, [part[0] for part in parts])
    blocks = partition.blocks(weights)
    if whole:
        return grid, [(blocks[0], gram)]
    kinds = [kind for _, found in parts for _, kind in found]
    return grid, list(zip(blocks, kinds, strict=True))


def _shares(
    trajectory: xr.Dataset,
    weights: WeightVector,
    partition: Partition,
    window: Window,
    settings: dict[str, Any],
) -> list[Share]:
    source = str(trajectory.attrs.get("source", ""))
    if trajectory.attrs.get("format") == "memory" or not source:
        raise UsageError("scheduler needs a recording that workers can open themselves, not arrays in memory")
    if partition.n_correlated or partition.default.name == "labels":
        raise UsageError(f"scheduler shares out layers, which partition {partition} crosses; leave it out")
    network = partition.default.name == "network"
    wide = 2 * weights.size + 1 > window.n_snapshots - 1 or settings["delays"] > 1
    if network and (settings["method"] == "paper" or not wide):
        raise UsageError("scheduler adds up increment Grams; this fit of the whole network keeps none")
    layout = str(trajectory.attrs.get("layout") or "") or None
    settings = {**settings, "t1": window.t1, "t2": window.t2, "lag": window.lag}
    schemes = dict(partition.per_layer)
    shares = []
    for layer, tensors in weights.layers.items():
        names = tuple(weights.tensors[index].name for index in tensors)
        grouping = Partition.layer() if network else Partition(schemes.get(layer, partition.default))
        shares.append(Share(source, layout, names, grouping, {**settings, "grams": network}))
    return shares


def add_grams(one: IncrementGrams, other: IncrementGrams) -> IncrementGrams:
    """Add two Gram matrices: that of a union of weights is the sum."""
    return IncrementGrams(one.products + other.products)


def network_gram(part: tuple[Grid, list[tuple[GroupBlock, IncrementGrams]]]) -> IncrementGrams:
    """Give the Gram matrix of a share that is one group."""
    return part[1][0][1]


def only_grid(part: tuple[Grid, Any]) -> tuple[Grid, tuple[()]]:
    """Leave the statistics where they are, and give the grid."""
    return part[0], ()


def _join_grids(weights: WeightVector, window: Window, trajectory: xr.Dataset, grids: list[Grid]) -> Grid:
    columns = [
        np.concatenate([weights.flat_indices(index).ravel() for index in tensors])
        for tensors in weights.layers.values()
    ]
    dtype = np.result_type(*(grid.snapshots.dtype for grid in grids))
    snapshots = np.empty((grids[0].snapshots.shape[0], weights.size), dtype)
    last, slope = np.empty(weights.size), np.empty(weights.size)
    for grid, where in zip(grids, columns, strict=True):
        snapshots[:, where], last[where], slope[where] = grid.snapshots, grid.last, grid.slope
    products = np.sum([grid.increment_products for grid in grids], axis=0)
    steps = trajectory["step"].to_numpy()
    joined = replace(grids[0], weights=weights, window=window, snapshots=snapshots, last=last, slope=slope)
    return replace(
        joined,
        increment_products=(float(products[0]), float(products[1])),
        fingerprint=fingerprint(weights, steps, snapshots),
    )
