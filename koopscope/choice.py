"""The operators of the candidate that a backtest chose, fitted on the window up to t2."""

from __future__ import annotations

import numpy as np

from koopscope.backtesting import Verdict
from koopscope.hindcast import LARGEST_RANK, Candidate, fitted_rows, line_rows, line_weights
from koopscope.members import Forecasts
from koopscope.operators import (
    Floats,
    Operators,
    coarsen,
    increment_scale,
    mix_operators,
    solve_delay,
    straight_operators,
)
from koopscope.partition import GroupBlock, Partition
from koopscope.statistics import IncrementGrams, Statistics, gram_about_last


def solve_choice(statistics: Statistics, verdict: Verdict) -> list[tuple[GroupBlock, Operators]]:
    """Fit the winner of a backtest, block by block of its partition."""
    blocks = _chosen_blocks(statistics, verdict.partition)
    # The race decomposes all groups of a partition at once: that serves where they are one block.
    forecasts = verdict.forecasts if len(blocks) == 1 else None
    solved = []
    for block, gram in blocks:
        fits = [_solve(statistics, block, gram, fit, verdict.lag, forecasts) for fit in verdict.fits]
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
    forecasts: Forecasts | None,
) -> Operators:
    grid = statistics.grid
    last_row = grid.window.n_snapshots - 1
    base_lags = lag // grid.window.lag
    if fit.kind == "affine":
        rows = fitted_rows(last_row, fit.multiple, fit.share)
        seen = gram[:, rows][:, :, rows]
        operators = solve_delay(
            seen,
            grid.snapshots[rows],
            block.members,
            delays=fit.delays,
            rtol=fit.rtol,
            rank=LARGEST_RANK,
            modes=forecasts.modes(fit) if forecasts else None,
        )
        # A mean is an operator again where all its members have one lag.
        times = base_lags // fit.multiple
        return coarsen(operators, times, scale=increment_scale(seen, times)) if times > 1 else operators
    rows = line_rows(last_row, fit.share)
    weights = line_weights(rows) * (fit.kind == "linear") * base_lags
    # Least-squares weights sum to zero: measuring from the first row keeps the digits.
    moved = grid.snapshots[rows].astype(np.float64) - grid.snapshots[rows[0]]
    return straight_operators((weights @ moved)[block.members], grid.origin[block.members])
