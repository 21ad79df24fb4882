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
from koopscope.partition import GroupBlock, Partition
from koopscope.progress import Listener, listener
from koopscope.statistics.gram import IncrementGrams, increment_grams
from koopscope.statistics.grid import Grid, read_grid
from koopscope.statistics.triangle import PairTriangles, SnapshotTriangles, pair_triangles, snapshot_triangles
from koopscope.statistics.windows import choose_window
from koopscope.trajectory import validate
from koopscope.weight_vector import WeightVector

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
NEEDS_TRAJECTORIES = (AUTO, "optimised")  # what pairs alone, without their order, do not hold


@dataclass(frozen=True)
class BlockStatistics:
    """The statistics of one block of groups: of three kinds, the one that serves its shape and method."""

    block: GroupBlock
    kind: PairTriangles | SnapshotTriangles | IncrementGrams


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
    """

    grid: Grid
    partition: str
    method: str
    delays: int
    blocks: tuple[BlockStatistics, ...]
    seconds: float
    source: str

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
    progress: bool | Listener | None = None,
) -> Statistics:
    """Read the window of a trajectory once and keep the statistics that operators are solved from.

    Groups with fewer weights than pairs keep the R factor of their pairs; wider groups keep the Gram
    matrix of their increments (``affine``) or the R factor of their snapshots (``paper``).

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
    _check_settings(method, delays, average)
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
    if resolved.n_correlated:
        from koopscope.statistics.correlated import correlated_labels  # loads scipy's clustering

        from_recording = correlated_labels(trajectory, weights, window, resolved.n_correlated)
        blocks = from_recording.blocks(weights)
    grid = read_grid(trajectory, weights, window, tell)
    seconds = time.perf_counter() - started
    compiling = "compiling kernels (first run only, kept on disk)"
    with announce_compilation(lambda: tell(compiling, 0, 0)):
        collected = tuple(collect_block(grid.snapshots, block, method, delays) for block in blocks)
    source = str(trajectory.attrs.get("source", ""))
    return Statistics(grid, AUTO if racing else str(resolved), method, delays, collected, seconds, source)


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
