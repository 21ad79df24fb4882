"""The operators of the candidate that a backtest chose, fitted on the window up to t2."""

from __future__ import annotations

import numpy as np

from koopscope.backtesting import Verdict
from koopscope.hindcast import LARGEST_RANK, Candidate, fitted_rows, line_rows, line_weights
from koopscope.operators import Floats, Operators, mix_operators, solve_delay, straight_operators
from koopscope.partition import GroupBlock, Partition
from koopscope.race import WindowModes
from koopscope.statistics import IncrementGrams, Statistics, gram_about_last


def solve_choice(statistics: Statistics, verdict: Verdict) -> list[tuple[GroupBlock, Operators]]:
    """Fit the winner of a backtest, block by block of its partition."""
    blocks = _chosen_blocks(statistics, verdict.partition)
    # The race decomposes all groups of a partition at once: its modes serve where they are one block.
    modes = verdict.modes if len(blocks) == 1 else None
    solved = []
    for block, gram in blocks:
        fits = [_solve(statistics, block, gram, fit, verdict.lag, modes) for fit in verdict.fits]
        solved.append((block, mix_operators(fits)))
    return solved


def _chosen_blocks(statistics: Statistics, partition: str) -> list[tuple[GroupBlock, Floats]]:
    blocks = [
        (block.block, gram_about_last(block.kind))
        for block in statistics.blocks
        if isinstance(block.kind, IncrementGrams)
    ]
    if partition != "network" or statistics.partition == "network":
        return blocks
    (network,) = Partition.network().blocks(statistics.weights)
    return [(network, np.sum([gram for _, gram in blocks], axis=0))]


def _solve(
    statistics: Statistics,
    block: GroupBlock,
    gram: Floats,
    fit: Candidate,
    lag: int,
    modes: WindowModes | None,
) -> Operators:
    grid = statistics.grid
    last_row = grid.window.n_snapshots - 1
    if fit.kind == "affine":
        rows = fitted_rows(last_row, fit.multiple, fit.share)
        seen = gram[:, rows][:, :, rows]
        known = modes.of(fit)[0] if modes else None
        return solve_delay(
            seen,
            grid.snapshots[rows],
            block.members,
            delays=fit.delays,
            rtol=fit.rtol,
            rank=LARGEST_RANK,
            modes=known,
        )
    rows = line_rows(last_row, fit.share)
    weights = line_weights(rows) * (fit.kind == "linear") * (lag // grid.window.lag)
    # Least-squares weights sum to zero: measuring from the first row keeps the digits.
    moved = grid.snapshots[rows].astype(np.float64) - grid.snapshots[rows[0]]
    return straight_operators((weights @ moved)[block.members], grid.origin[block.members])
