"""One pass over a trajectory: every statistic that fits, spectra and forecasts are computed from."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from koopscope.errors import UsageError
from koopscope.kernels.accelerate import announce_compilation
from koopscope.parallel import blas_threads_for, limited_memory, malloc_keeps_memory, single_threaded_blas
from koopscope.partition import GroupBlock, Partition
from koopscope.progress import Listener, listener
from koopscope.statistics.distribution import collect_shares
from koopscope.statistics.gathering import read_grid
from koopscope.statistics.gram import IncrementGrams, increment_grams
from koopscope.statistics.grid import Grid, GridSums, grid_dtype, too_large
from koopscope.statistics.moments import ROWS_PER_PRODUCT, LaggedMoments, MomentSums
from koopscope.statistics.reading import Batch, row_blocks
from koopscope.statistics.shares import Share
from koopscope.statistics.triangle import PairTriangles, SnapshotTriangles, pair_triangles, snapshot_triangles
from koopscope.statistics.windows import Window, choose_window
from koopscope.threads import limited_threads
from koopscope.trajectory import validate
from koopscope.weight_vector import WeightVector
from koopscope.whole_numbers import whole_number

# Default number of lags in a window, by method: one recorded spacing for the source's own; for centred
# fits a hundred, since at one step eigenvalues all read .9999; for a race the finest of its lags.
LAGS_PER_WINDOW = {
    "paper": None,
    "affine": 100,
    "ridge": 100,
    "tls": 100,
    "fb": 100,
    "optimised": 100,
    "auto": 200,
}
METHODS = tuple(LAGS_PER_WINDOW)
AUTO = "auto"
STRIDED, EVERY = "strided", "every"
NEEDS_TRAJECTORIES = (AUTO, "optimised")  # what pairs alone, without their order, do not hold


@dataclass(frozen=True)
class BlockStatistics:
    """The statistics of one block of groups: of four kinds, the one that serves its shape and method."""

    block: GroupBlock
    kind: PairTriangles | SnapshotTriangles | IncrementGrams | LaggedMoments


@dataclass(frozen=True)
class Statistics:
    """What `collect` makes of a trajectory; everything else that takes a trajectory also takes this.

    Attributes
    ----------
    grid
        Snapshots and window.
    partition
        The partition in the shell's spelling.
    method, delays
        What the statistics were collected for.
    blocks
        One entry a layer and group size.
    seconds
        Time spent reading.
    pairs
        ``"strided"`` or ``"every"``.
    """

    grid: Grid
    partition: str
    method: str
    delays: int
    blocks: tuple[BlockStatistics, ...]
    seconds: float
    source: str
    pairs: str = "strided"

    @property
    def weights(self) -> WeightVector:
        """Flat order of the weights."""
        return self.grid.weights


def collect(
    trajectory: xr.Dataset,
    partition: str | Partition = "node",
    *,
    method: str = "affine",
    t1: int | None = None,
    t2: int | None = None,
    lag: int | None = None,
    delays: int = 1,
    average: int = 1,
    pairs: str = STRIDED,
    memory: int | str | None = None,
    scheduler: str | None = None,
    progress: bool | Listener | None = None,
) -> Statistics:
    """Read the window of a trajectory once and keep the statistics that operators are solved from.

    The recording is read by threads, strip by strip of columns; with ``pairs="every"`` in blocks of rows, one
    ahead of the computation. Groups with fewer weights than pairs keep the R factor of their pairs; wider
    groups keep the Gram matrix of their increments (``affine``) or the R factor of their snapshots
    (``paper``).

    Parameters
    ----------
    trajectory
        Dataset from `open_trajectory`.
    partition
        `Partition`, or its spelling such as ``"node"`` or ``"node,fc1=quasi-node:10"``; with
        ``method="auto"`` also ``"auto"``, the network against its layers.
    method
        As in `koopscope.fit`: settles the default lag and which statistics are kept.
    t1, t2
        Window in training steps; by default the first four fifths of the recording.
    lag
        Training steps between snapshots; by default one recorded spacing for ``paper``, and the
        multiple nearest to a hundredth of the window for others, a two-hundredth for ``auto``.
    delays
        Snapshots stacked into one state; not for ``paper``, and ``auto`` chooses it.
    average
        Recorded rows averaged into one snapshot, for runs with gradient noise; the lag must hold at least
        as many rows. Not for ``paper``.
    pairs
        ``"strided"`` pairs snapshots on the grid; ``"every"`` pairs every recorded row with the one a lag
        later and keeps only their moments, for groups of few weights (``affine``).
    memory
        Budget in bytes or words such as ``"1GB"``, the default. Results do not depend on it.
    scheduler
        Address of a dask scheduler, whose workers read a share of the weights each, or ``"local"`` for
        workers on this machine. Sums may come in another order: equal to about 1e-12.
    progress
        ``True`` for lines on stderr, or a listener (see `koopscope.progress`).

    Returns
    -------
    Statistics

    Raises
    ------
    WindowError, StepError, NonFiniteError, MemoryBudgetError
        If the recording cannot serve the window.
    PartitionError, LayoutError
        If the partition does not fit the recording.

    Examples
    --------
    >>> from koopscope.simulation import linear_run
    >>> statistics = collect(linear_run(), "node", t1=0, t2=800, lag=10)
    >>> [block.block.path for block in statistics.blocks]
    ['fc1', 'fc2']
    """
    tell = listener(progress)
    delays, average = whole_number("delays", delays), whole_number("average", average)
    _check_settings(method, delays, average)
    _check_pairs(pairs, method, delays, average)
    validate(trajectory)
    racing = method == AUTO and partition == AUTO
    resolved = Partition.layer() if racing else Partition.parse(partition)
    weights = WeightVector.of(trajectory)
    if not resolved.n_correlated:
        blocks = resolved.blocks(weights)
    window = choose_window(
        trajectory["step"].to_numpy().astype(np.int64),
        t1=t1,
        t2=t2,
        lag=lag,
        average=average,
        lags_per_window=LAGS_PER_WINDOW[method],
        min_snapshots=2 + delays,
    )
    started = time.perf_counter()
    compiling = "compiling kernels (first run only, kept on disk)"
    with limited_memory(memory), announce_compilation(lambda: tell(compiling, 0, 0)):
        if resolved.n_correlated:
            from koopscope.statistics.correlated import correlated_labels  # loads scipy's clustering

            from_recording = correlated_labels(trajectory, weights, window, resolved.n_correlated)
            blocks = from_recording.blocks(weights)
        if scheduler is not None:
            settings = {
                "method": method,
                "delays": delays,
                "average": average,
                "pairs": pairs,
                "memory": memory,
            }
            grid, found = collect_shares(
                scheduler, trajectory, weights, resolved, window, settings, collect_share, tell
            )
            collected = tuple(BlockStatistics(block, kind) for block, kind in found)
            seconds = time.perf_counter() - started
        elif pairs == EVERY:
            grid, collected = _read_every_pair(trajectory, weights, window, blocks, tell)
            seconds = time.perf_counter() - started
        else:
            grid = read_grid(trajectory, weights, window, tell)
            seconds = time.perf_counter() - started
            with blas_threads_for(grid.snapshots.size):
                collected = tuple(collect_block(grid.snapshots, block, method, delays) for block in blocks)
    source = str(trajectory.attrs.get("source", ""))
    named = AUTO if racing else str(resolved)
    return Statistics(grid, named, method, delays, collected, seconds, source, pairs)


def _check_settings(method: str, delays: int, average: int) -> None:
    if method not in METHODS:
        raise UsageError(f"method must be one of {', '.join(METHODS)}; got {method!r}")
    if delays < 1:
        raise UsageError(f"delays must be at least 1, got {delays}")
    if method == "paper" and (delays > 1 or average > 1):
        raise UsageError(
            "delays and average need method='affine' or another centred one: paper maps single rows"
        )
    if method == AUTO and delays > 1:
        raise UsageError("method='auto' chooses the delays itself; leave delays out")


def collect_share(share: Share) -> tuple[Grid, list[tuple[GroupBlock, Any]]]:
    """Collect the statistics of a share of the weights; what a worker of a cluster runs."""
    settings = dict(share.settings)
    # Layers that will be added up need Gram matrices, however few their weights; auto keeps only those.
    if settings.pop("grams"):
        settings["method"], settings["delays"] = AUTO, 1
    # The other cores are those of other workers.
    with limited_threads(1), single_threaded_blas(), malloc_keeps_memory():
        statistics = collect(share.open(), share.partition, **settings)
    return statistics.grid, [(block.block, block.kind) for block in statistics.blocks]


def _check_pairs(pairs: str, method: str, delays: int, average: int) -> None:
    if pairs not in (STRIDED, EVERY):
        raise UsageError(f"pairs must be {STRIDED!r} or {EVERY!r}, got {pairs!r}")
    if pairs == EVERY and (method != "affine" or delays > 1 or average > 1):
        raise UsageError(
            "pairs='every' needs method='affine' without delays or averages: moments keep pairs of single "
            "rows, and too few digits for the paper's operator"
        )


def _read_every_pair(
    trajectory: xr.Dataset, weights: WeightVector, window: Window, blocks: list[GroupBlock], tell: Listener
) -> tuple[Grid, tuple[BlockStatistics, ...]]:
    """Read the window once, sum the moments of every pair, and keep the first row and the last."""
    stride = window.stride
    n_pairs = window.last_row + 1 - window.first_row - stride
    for block in blocks:
        if block.members.shape[1] * 2 >= n_pairs:
            raise UsageError(
                f"pairs='every' needs groups of fewer weights than half the {n_pairs} pairs; {block.path} "
                f"has groups of {block.members.shape[1]}: use a finer partition, or pairs='strided'"
            )
    dtype = grid_dtype(weights, window)
    ends = np.array([window.first_row, window.last_row], np.int64)
    grid = GridSums(weights, window, trajectory["step"].to_numpy(), dtype, ends)
    batches = _batches_of_groups(weights, blocks)
    sums = [
        [
            (index, MomentSums(block, batch.columns.start, stride))
            for index, block in enumerate(blocks)
            if batch.holds(block.members)
        ]
        for batch in batches
    ]
    by_column = {batch.columns.start: found for batch, found in zip(batches, sums, strict=True)}
    for pieces in row_blocks(trajectory, weights, window, batches, dtype, tell, overlap=stride):
        total, added = None, by_column[pieces[0].batch.columns.start]
        rows = [piece.overlapping for piece in pieces]
        if rows[0].shape[0] > stride:
            for _, moments in added:
                moments.add(rows, pieces[0].stop - rows[0].shape[0] + stride)
            total = sum(moments.total for _, moments in added)
        for piece in pieces:
            grid.require_finite(piece, total)
            grid.add(piece)
    found = {index: moments.finish() for pairs in sums for index, moments in pairs}
    for index, held in found.items():
        if not np.isfinite(held.grams).all():
            raise too_large(blocks[index].path)
    return grid.finish(), tuple(BlockStatistics(block, found[index]) for index, block in enumerate(blocks))


def _batches_of_groups(weights: WeightVector, blocks: list[GroupBlock]) -> list[Batch]:
    """Tensors that share groups are read together: layer by layer, or all where groups cross layers."""
    layers = list(weights.layers.values())
    neighbours = all(tensors == list(range(tensors[0], tensors[-1] + 1)) for tensors in layers)
    if not neighbours or any(block.layer not in weights.layers for block in blocks):
        layers = [list(range(len(weights.tensors)))]
    return [Batch.of(weights, tensors, ROWS_PER_PRODUCT) for tensors in layers]


def collect_block(
    snapshots: npt.NDArray[Any], block: GroupBlock, method: str, delays: int
) -> BlockStatistics:
    """Make the one kind of statistics that serves a block's shape and method."""
    tall = snapshots.shape[0] - 1 >= 2 * block.members.shape[1] + 1
    if tall and delays == 1 and method not in NEEDS_TRAJECTORIES:
        return BlockStatistics(block, pair_triangles(snapshots, block))
    if method == "paper":
        return BlockStatistics(block, snapshot_triangles(snapshots, block))
    return BlockStatistics(block, increment_grams(snapshots, block))
