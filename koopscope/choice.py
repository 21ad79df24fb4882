"""The operators of the candidate that a backtest chose, fitted on the window up to t2."""

from __future__ import annotations

import numpy as np

from koopscope.backtesting import Verdict
from koopscope.operators import Floats, Operators, solve_delay, straight_operators
from koopscope.partition import GroupBlock, Partition
from koopscope.race import Rows, about, fitted_rows, line_rows, line_weights
from koopscope.statistics import IncrementGrams, Statistics, gram_about_last


def solve_choice(statistics: Statistics, verdict: Verdict) -> list[tuple[GroupBlock, Operators]]:
    """Fit the winner of a backtest, block by block of its partition."""
    grid, winner = statistics.grid, verdict.candidate
    last_row = grid.window.n_snapshots - 1
    solved = []
    for block, gram in _chosen_blocks(statistics, verdict.partition):
        if winner.kind == "affine":
            rows = fitted_rows(last_row, winner.multiple, winner.share)
            operators = _solve_affine(
                statistics, block, about(gram, last_row)[:, rows][:, :, rows], rows, verdict
            )
        else:
            rows = line_rows(last_row, winner.share)
            weights = line_weights(rows) * (winner.kind == "linear")
            # Least-squares weights sum to zero: measuring from the first row keeps the digits.
            moved = grid.snapshots[rows].astype(np.float64) - grid.snapshots[rows[0]]
            operators = straight_operators((weights @ moved)[block.members], grid.origin[block.members])
        solved.append((block, operators))
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


def _solve_affine(
    statistics: Statistics, block: GroupBlock, gram: Floats, rows: Rows, verdict: Verdict
) -> Operators:
    snapshots = statistics.grid.snapshots[rows][:, block.members]
    return solve_delay(
        gram,
        np.moveaxis(snapshots, 0, -1).astype(np.float64),
        delays=verdict.candidate.delays,
        rtol=verdict.candidate.rtol,
    )
