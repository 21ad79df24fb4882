"""Fit: collect the statistics, solve for the operators, and keep all that a forecast needs in one tree."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy.typing as npt
import xarray as xr

from koopscope.eigen import decompose
from koopscope.errors import UsageError
from koopscope.operators import Operators
from koopscope.parallel import blas_threads_for
from koopscope.partition import GroupBlock, Partition
from koopscope.progress import Listener, listener
from koopscope.solving import solve_block
from koopscope.stabilising import choose_damping, damp
from koopscope.statistics import Statistics, collect
from koopscope.statistics.collecting import AUTO, EVERY, BlockStatistics, collect_block
from koopscope.variables import check
from koopscope.versions import versions
from koopscope.whole_numbers import whole_number

RTOL = 1e-5
RTOL_DELAYS = 1e-6  # stacked states repeat each other, so their small directions still carry motion


def fit(
    trajectory: xr.Dataset | Statistics,
    partition: str | Partition | None = None,
    *,
    method: str = "affine",
    t1: int | None = None,
    t2: int | None = None,
    lag: int | None = None,
    delays: int = 1,
    average: int = 1,
    rtol: float | None = None,
    rank: int | None = None,
    stabilise: bool = False,
    lead: int | None = None,
    pairs: str = "strided",
    memory: int | str | None = None,
    scheduler: str | None = None,
    progress: bool | Listener | None = None,
) -> xr.DataTree:
    """Fit one Koopman operator a group of weights on the window t1..t2.

    ``paper``: ``U = F' pinv(F)`` on raw snapshots, as published. ``affine``: centred pairs with the
    intercept kept apart, truncated at ``rtol``; with ``delays=q`` on states that stack q snapshots, with
    ``average=K`` on means of K recorded rows. ``ridge``, ``tls`` and ``fb``: the same with another estimator
    of the linear part. ``optimised``: exponentials fitted to the whole window at once. ``auto``: whatever a
    `koopscope.backtest` on the window itself chooses.

    Right for: ``affine``, full-batch runs, with delays where they are smooth; ``ridge``, singular values
    that fall without a gap; ``tls`` and ``fb`` (total least squares, forward-backward), noise of the
    recording itself, such as quantisation, not of minibatches; ``optimised``, long leads on runs that follow
    a few exponentials; ``average=K``, minibatch noise; ``paper``, comparison with the source.

    Parameters
    ----------
    trajectory
        Dataset from `open_trajectory`, or `Statistics` from `collect`; the latter carry their own
        partition, window, lag and delays, and the arguments here must not contradict them.
    partition
        `Partition`, or its spelling such as ``"node"`` or ``"node,fc1=quasi-node:10"``. By default
        ``"node"``, and ``"auto"``, the network against its layers, for ``method="auto"``.
    method
        ``"paper"``, ``"affine"``, ``"ridge"``, ``"tls"``, ``"fb"``, ``"optimised"`` or ``"auto"``.
    t1, t2
        Window in training steps; by default the first four fifths of the recording.
    lag
        Training steps between snapshots; by default one recorded spacing for ``paper``, and the
        multiple nearest to a hundredth of the window for others; ``auto`` races one and two
        two-hundredths.
    delays
        Snapshots stacked into one state.
    average
        Recorded rows averaged into one snapshot, for runs with gradient noise. Forecasts then start from
        the last mean, not from w(t2).
    rtol
        Tolerance of the truncation relative to the largest singular value; for ``ridge``, the size of its
        penalty on the same scale. By default 1e-5, 1e-6 with delays, and the source's own tolerance
        (rounding) for ``paper``.
    rank
        Largest number of directions kept; by default all within ``rtol``, for ``optimised`` at most 8.
    stabilise
        Shrink the operators by the factor that forecasts the window's last quarter best; the attribute
        ``damping`` says by how much. Not for ``auto``, which has found stable settings.
    lead
        Training steps that forecasts shall reach (``auto``); by default a quarter of the window.
    pairs
        ``"strided"`` fits pairs of snapshots on the grid, which costs a lag-th of the work; ``"every"`` all
        pairs of recorded rows one lag apart, for groups of few weights.
    memory
        Budget in bytes or words such as ``"2GB"``; by default 1 GB. Results do not depend on it.
    scheduler
        Address of a dask scheduler whose workers read the recording, or ``"local"``.
    progress
        ``True`` for lines on stderr, or a listener (see `koopscope.progress`).

    Returns
    -------
    xr.DataTree
        One child a layer, split by group size where sizes differ, each with ``operator``,
        ``displacement``, ``eigenvalue``, ``residual``, ``amplitude``, ``rank``, ``condition``, ``scale``,
        ``centre``, ``origin``, ``last``, ``slope``, ``member_index`` and, for wide groups, ``basis``. The
        root holds every setting. The tree alone suffices for `predict`. ``auto`` adds the child ``backtest``.

    Raises
    ------
    UsageError
        If a setting cannot be used, or contradicts the statistics.
    InvalidDataError
        If the recording cannot serve the window or the partition.

    Examples
    --------
    >>> from koopscope.simulation import linear_run
    >>> tree = fit(linear_run(), "node", t1=0, t2=800, lag=10)
    >>> sorted(tree.children)
    ['fc1', 'fc2']
    >>> tree["fc1"].sizes["group"]
    4
    """
    tell = listener(progress)
    rank, lead = whole_number("rank", rank), whole_number("lead", lead)
    _check_truncation(method, rtol, rank)
    if stabilise and method == AUTO:
        raise UsageError("method='auto' chooses among fits by their forecasts already; leave stabilise out")
    if lead is not None and method != AUTO:
        raise UsageError("lead needs method='auto': the other methods fit the same operators for every lead")
    if partition is None:
        partition = AUTO if method == AUTO else "node"
    if isinstance(trajectory, Statistics):
        statistics = trajectory
        _check_agreement(
            statistics, method=method, delays=delays, average=average, t1=t1, t2=t2, lag=lag, pairs=pairs
        )
    else:
        statistics = collect(
            trajectory,
            partition,
            method=method,
            t1=t1,
            t2=t2,
            lag=lag,
            delays=delays,
            average=average,
            pairs=pairs,
            memory=memory,
            scheduler=scheduler,
            progress=progress,
        )
    started = time.perf_counter()
    tell("fitting operators", 0, 1)
    with blas_threads_for(statistics.grid.snapshots.size):
        solved, settings, backtest = _solve_all(statistics, rtol=rtol, rank=rank, lead=lead, tell=tell)
        if stabilise:
            damping = _choose_damping(statistics, settings)
            solved = [(block, damp(operators, damping)) for block, operators in solved]
            settings["damping"] = damping
        children = {f"/{block.path}": _dataset(statistics, block, operators) for block, operators in solved}
    if backtest is not None:
        children["/backtest"] = backtest
    tell("fitting operators", 1, 1)
    described = _describe(statistics, settings, time.perf_counter() - started)
    described["blocks"] = [block.path for block, _ in solved]
    return xr.DataTree.from_dict({"/": xr.Dataset(attrs=described), **children})


def _solve_all(
    statistics: Statistics, *, rtol: float | None, rank: int | None, lead: int | None, tell: Listener
) -> tuple[list[tuple[GroupBlock, Operators]], dict[str, Any], xr.Dataset | None]:
    """Solve every block; return with them the settings that were used and the backtest, if there was one."""
    window = statistics.grid.window
    if statistics.method == AUTO:
        # The race is a fifth of the package; a fit with settings of its own starts without it.
        from koopscope.backtesting import TOLERANCE, judge
        from koopscope.choice import solve_choice

        verdict = judge(statistics, lead=lead, tolerance=TOLERANCE, tell=tell)
        settings = dict(verdict.table.attrs["chosen"]) | {"members": verdict.table.attrs["members"]}
        return solve_choice(statistics, verdict), settings, verdict.table
    tolerance = _default_rtol(statistics, rtol)
    settings = {"partition": statistics.partition, "lag": window.lag, "delays": statistics.delays}
    settings |= {"rtol": tolerance, "rank": rank}
    return (
        _solve_fixed(statistics, statistics.blocks, statistics.grid.snapshots, tolerance, rank),
        settings,
        None,
    )


def _solve_fixed(
    statistics: Statistics,
    blocks: Sequence[BlockStatistics],
    snapshots: npt.NDArray[Any],
    rtol: float | None,
    rank: int | None,
) -> list[tuple[GroupBlock, Operators]]:
    how = partial(solve_block, method=statistics.method, delays=statistics.delays, rtol=rtol, rank=rank)
    return [(block.block, how(snapshots, block)) for block in blocks]


def _choose_damping(statistics: Statistics, settings: dict[str, Any]) -> float:
    if statistics.pairs == EVERY:
        raise UsageError("stabilise needs pairs='strided': sums over every pair cannot be cut at a quarter")
    snapshots, method, delays = statistics.grid.snapshots, statistics.method, statistics.delays

    def solve_first(n: int) -> list[tuple[GroupBlock, Operators]]:
        used = snapshots[:n]
        blocks = [collect_block(used, block.block, method, delays) for block in statistics.blocks]
        return _solve_fixed(statistics, blocks, used, settings["rtol"], settings["rank"])

    return choose_damping(snapshots, solve_first)


def _check_truncation(method: str, rtol: float | None, rank: int | None) -> None:
    if rtol is not None and not 0 <= rtol < 1:
        raise UsageError(
            f"rtol must lie in [0, 1), got {rtol!r}; it is relative to the largest singular value"
        )
    if rank is not None and rank < 1:
        raise UsageError(f"rank must be at least 1, got {rank}")
    if rank is not None and method in ("paper", AUTO):
        raise UsageError(
            "rank needs method='affine' or another centred one: paper does not truncate, and auto chooses"
        )
    if rtol is not None and method == AUTO:
        raise UsageError("method='auto' chooses rtol itself; leave it out")


def _check_agreement(statistics: Statistics, **asked: Any) -> None:
    window = statistics.grid.window
    held = {
        "method": statistics.method,
        "delays": statistics.delays,
        "average": window.average,
        "t1": window.t1,
        "t2": window.t2,
        "lag": window.lag,
        "pairs": statistics.pairs,
    }
    defaults = {"method": "affine", "delays": 1, "average": 1, "t1": None, "t2": None, "lag": None}
    defaults |= {"pairs": "strided"}
    for name, value in asked.items():
        if value != defaults[name] and value != held[name]:
            raise UsageError(
                f"{name}={value!r} contradicts the statistics, which were collected with {held[name]!r}; "
                f"collect(trajectory, ..., {name}={value!r}) makes the ones you want"
            )


def _default_rtol(statistics: Statistics, rtol: float | None) -> float | None:
    if rtol is not None or statistics.method == "paper":
        return rtol
    return RTOL if statistics.delays == 1 else RTOL_DELAYS


def _dataset(statistics: Statistics, block: GroupBlock, operators: Operators) -> xr.Dataset:
    grid, members = statistics.grid, block.members
    modes = decompose(operators)
    data: dict[str, tuple[tuple[str, ...], Any]] = {
        "operator": (("group", "state_next", "state"), operators.operator),
        "displacement": (("group", "state"), operators.displacement),
        "centre": (("group", "member"), operators.centre),
        "origin": (("group", "member"), grid.origin[members]),
        "last": (("group", "member"), grid.last[members]),
        "slope": (("group", "member"), grid.slope[members]),
        "member_index": (("group", "member"), members),
        "unit": (("group",), block.units),
        "eigenvalue": (("group", "mode"), modes.eigenvalue),
        "residual": (("group", "mode"), modes.residual),
        "amplitude": (("group", "mode"), modes.amplitude),
        "rank": (("group",), operators.rank),
        "condition": (("group",), operators.condition),
        "scale": (("group",), operators.scale),
    }
    if operators.basis is not None:
        data["basis"] = (("group", "member", "state"), operators.basis)
    attrs = {"layer": block.layer, "path": block.path}
    return check(xr.Dataset(data, attrs=attrs))


def _describe(statistics: Statistics, settings: dict[str, Any], seconds_fit: float) -> dict[str, Any]:
    window = statistics.grid.window
    return {
        "koopscope_result": "fit",
        "method": statistics.method,
        "t1": window.t1,
        "t2": window.t2,
        "spacing": window.spacing,
        "n_snapshots": window.n_snapshots,
        "average": window.average,
        "pairs": statistics.pairs,
        "origin_offset": window.origin_offset,
        "rank": None,
        "damping": 0.0,
        **settings,
        "increment_correlation": statistics.grid.increment_correlation,
        "tensors": statistics.weights.to_attrs(),
        "source": statistics.source,
        "fingerprint": statistics.grid.fingerprint,
        "seconds_read": statistics.seconds,
        "seconds_fit": seconds_fit,
        "versions": versions(),
    }
