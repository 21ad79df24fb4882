"""From the statistics of a block to its operators, by the name of the method."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from koopscope.operators import (
    ESTIMATORS,
    LARGEST_RANK_OPTIMISED,
    LARGEST_SMALL,
    MANY_GROUPS,
    Operators,
    ReducedOperators,
    in_batches,
    optimise,
    solve_affine,
    solve_delay,
    solve_every_pair,
    solve_paper,
    solve_paper_wide,
    solve_small_affine,
)
from koopscope.statistics import LaggedMoments, PairTriangles, SnapshotTriangles, gram_about_last
from koopscope.statistics.collecting import BlockStatistics


def solve_block(
    snapshots: npt.NDArray[Any],
    block: BlockStatistics,
    *,
    method: str,
    delays: int,
    rtol: float | None,
    rank: int | None,
) -> Operators:
    """Fit the operators of one block.

    Parameters
    ----------
    snapshots
        The grid that the statistics were made of, shape ``(snapshot, weight)``.
    block
        Its statistics.
    method, delays, rtol, rank
        As in `koopscope.fit`.
    """
    members, tolerance = block.block.members, rtol or 0.0
    cut = 0.0 if method == "ridge" else tolerance  # ridge fades directions out instead of cutting them
    if isinstance(block.kind, LaggedMoments):
        last = np.asarray(snapshots[-1], np.float64)[members]
        moments = block.kind
        return in_batches(
            lambda part: solve_every_pair(moments.cut(part), last[part], rtol=tolerance, rank=rank),
            *last.shape,
        )
    if isinstance(block.kind, PairTriangles):
        last = np.asarray(snapshots[-1], np.float64)[members]
        triangles = block.kind
        if method == "paper":
            return in_batches(
                lambda part: solve_paper(triangles.cut(part), last[part], rtol=rtol), *last.shape
            )
        n_groups, d = last.shape
        if method == "affine" and d <= LARGEST_SMALL and n_groups >= MANY_GROUPS:
            return solve_small_affine(triangles, last, rtol=cut, rank=rank)
        estimate = partial(ESTIMATORS[method], rtol=tolerance) if method in ESTIMATORS else None
        solve = partial(solve_affine, rtol=cut, rank=rank, estimate=estimate)
        return in_batches(lambda part: solve(triangles.cut(part), last[part]), *last.shape)
    if isinstance(block.kind, SnapshotTriangles):
        of_groups = np.moveaxis(snapshots[:, members], 0, -1).astype(np.float64)
        return solve_paper_wide(block.kind, of_groups, rtol=rtol)
    if method == "optimised" and rank is None:
        rank = LARGEST_RANK_OPTIMISED
    refine = _refinement(method, tolerance)
    gram = gram_about_last(block.kind)
    return solve_delay(gram, snapshots, members, delays=delays, rtol=cut, rank=rank, refine=refine)


def _refinement(method: str, rtol: float) -> Callable[[ReducedOperators], ReducedOperators] | None:
    if method == "optimised":
        return optimise
    if method not in ESTIMATORS:
        return None
    estimate = ESTIMATORS[method]

    def refine(reduced: ReducedOperators) -> ReducedOperators:
        return reduced.replaced(estimate(reduced.pairs_now, reduced.pairs_next, reduced.kept, rtol))

    return refine
