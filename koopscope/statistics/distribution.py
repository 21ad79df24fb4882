"""The same statistics from many processes: weights are shared out, Gram matrices come back as one sum.

Every worker opens the recording by itself and runs `collect` on its share: some output units of one layer.
What comes back is small: the snapshots on the grid, and one statistic a group. Groups wider than a share are
known by their increment Grams, which are added up on the workers, pair by pair.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from koopscope.errors import UsageError
from koopscope.parallel import dask_client, dask_tree
from koopscope.partition import GroupBlock, Partition
from koopscope.progress import Listener
from koopscope.statistics.gram import IncrementGrams
from koopscope.statistics.grid import Grid, fingerprint
from koopscope.statistics.shares import Share, shares_of
from koopscope.statistics.windows import Window
from koopscope.weight_vector import WeightVector

Part = tuple[Grid, list[tuple[GroupBlock, Any]]]


def collect_shares(
    scheduler: str,
    trajectory: xr.Dataset,
    weights: WeightVector,
    partition: Partition,
    window: Window,
    settings: dict[str, Any],
    collect_share: Callable[[Share], Part],
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
    _require_shareable(trajectory, weights, partition, window, settings)
    network = partition.default.name == "network"
    with dask_client(scheduler) as client:
        shares = shares_of(trajectory, weights, partition, window, settings, _workers(client))
        done = client.map(collect_share, shares, pure=False)
        sums = {}
        for group in dict.fromkeys("network" if network else share.layer for share in shares if share.adds):
            summed = [
                future
                for share, future in zip(shares, done, strict=True)
                if share.adds and (network or share.layer == group)
            ]
            sums[group] = dask_tree(client, add_grams, client.map(only_gram, summed, pure=False))
        parts = []
        for index, (share, future) in enumerate(zip(shares, done, strict=True)):
            tell("collecting shares", index, len(done))
            wanted = client.submit(only_grid, future, pure=False) if share.adds else future
            parts.append(wanted.result())
        tell("collecting shares", len(done), len(done))
        grams = {group: future.result() for group, future in sums.items()}
    columns = [share.columns(weights) for share in shares]
    grid = _join_grids(weights, window, trajectory, [part[0] for part in parts], columns)
    found = []
    for block in partition.blocks(weights):
        if block.layer in grams:
            found.append((block, grams[block.layer]))
            continue
        pieces = [
            (where[part_block.members], kind)
            for share, where, (_, kinds) in zip(shares, columns, parts, strict=True)
            if share.layer == block.layer
            for part_block, kind in kinds
            if part_block.members.shape[1] == block.members.shape[1]
        ]
        found.append((block, _join_groups(block, pieces)))
    return grid, found


def _workers(client: Any) -> int:
    """Count the tasks that run at the same time."""
    threads: dict[str, int] = client.nthreads()
    return max(1, sum(threads.values()))


def _require_shareable(
    trajectory: xr.Dataset,
    weights: WeightVector,
    partition: Partition,
    window: Window,
    settings: dict[str, Any],
) -> None:
    """Refuse what workers cannot open, and partitions that shares cross."""
    source = str(trajectory.attrs.get("source", ""))
    if trajectory.attrs.get("format") == "memory" or not source:
        raise UsageError("scheduler needs a recording that workers can open themselves, not arrays in memory")
    if partition.n_correlated or partition.default.name == "labels":
        raise UsageError(f"scheduler shares out layers, which partition {partition} crosses; leave it out")
    network = partition.default.name == "network"
    wide = 2 * weights.size + 1 > window.n_snapshots - 1 or settings["delays"] > 1
    if network and (settings["method"] == "paper" or not wide):
        raise UsageError("scheduler adds up increment Grams; this fit of the whole network keeps none")


def add_grams(one: IncrementGrams, other: IncrementGrams) -> IncrementGrams:
    """Add two Gram matrices: that of a union of weights is the sum."""
    return IncrementGrams(one.products + other.products)


def only_gram(part: Part) -> IncrementGrams:
    """Give the Gram matrix of a share that is one group."""
    gram: IncrementGrams = part[1][0][1]
    return gram


def only_grid(part: Part) -> Part:
    """Leave the statistics where they are, and give the grid."""
    return part[0], []


def _join_groups(block: GroupBlock, pieces: list[tuple[npt.NDArray[np.int64], Any]]) -> Any:
    """Put the groups of a block together, each a row of arrays, in the order of the block."""
    members = np.concatenate([found for found, _ in pieces])
    order: Any = slice(None)
    if not np.array_equal(members[:, 0], block.members[:, 0]):
        order = np.argsort(members[:, 0])[np.argsort(np.argsort(block.members[:, 0]))]
    assert np.array_equal(members[order], block.members), "shares and partition do not agree on the groups"
    kinds = [kind for _, kind in pieces]
    joined = {
        name: np.concatenate([getattr(kind, name) for kind in kinds])[order]
        for name, value in vars(kinds[0]).items()
        if isinstance(value, np.ndarray)
    }
    return replace(kinds[0], **joined)


def _stretches(where: npt.NDArray[np.int64]) -> Iterator[tuple[slice, slice]]:
    """Cut places into stretches of neighbours: where each is in the list, and which places they are."""
    borders = [0, *(np.flatnonzero(np.diff(where) != 1) + 1).tolist(), where.size]
    for start, stop in pairwise(borders):
        yield slice(start, stop), slice(int(where[start]), int(where[stop - 1]) + 1)


def _join_grids(
    weights: WeightVector,
    window: Window,
    trajectory: xr.Dataset,
    grids: list[Grid],
    columns: list[npt.NDArray[np.int64]],
) -> Grid:
    dtype = np.result_type(*(grid.snapshots.dtype for grid in grids))
    snapshots = np.empty((grids[0].snapshots.shape[0], weights.size), dtype)
    last, slope = np.empty(weights.size), np.empty(weights.size)
    for grid, where in zip(grids, columns, strict=True):
        for found, place in _stretches(where):
            snapshots[:, place] = grid.snapshots[:, found]
            last[place], slope[place] = grid.last[found], grid.slope[found]
    products = np.sum([grid.increment_products for grid in grids], axis=0)
    steps = trajectory["step"].to_numpy()
    joined = replace(grids[0], weights=weights, window=window, snapshots=snapshots, last=last, slope=slope)
    return replace(
        joined,
        increment_products=(float(products[0]), float(products[1])),
        fingerprint=fingerprint(weights, steps, snapshots),
    )
