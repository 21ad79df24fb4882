"""The same operator over several lags at once."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from koopscope.operators.model import Floats, Operators, apply


def coarsen(operators: Operators, times: int, *, scale: Floats) -> Operators:
    """Write a fit of a short lag as one of ``times`` that lag: ``A^times``, and the change it adds up to.

    Forecasts at multiples of the longer lag are the same, so that fits of several lags can be averaged.

    Parameters
    ----------
    operators
        A fit whose pairs are of consecutive snapshots, as `solve_delay` makes them.
    times
        Short lags in one of the new.
    scale
        Root mean square length of an increment over the longer lag, shape ``(group,)``.
    """
    power, displacement = operators.operator, operators.displacement
    for _ in range(times - 1):
        displacement = apply(operators.operator, displacement) + operators.displacement
        power = power @ operators.operator
    n = operators.pairs_now.shape[1] - times + 1
    # Starts and ends are about means of their own, which lie a short lag's mean change apart.
    change = operators.drift / np.sqrt(operators.pairs_now.shape[1])
    starts = operators.pairs_now[:, :n]
    ends = operators.pairs_next[:, times - 1 :] + change[:, None]
    mean_now, mean_next = starts.mean(axis=1, keepdims=True), ends.mean(axis=1, keepdims=True)
    return replace(
        operators,
        operator=power,
        displacement=displacement,
        scale=scale,
        drift=np.sqrt(n) * (mean_next - mean_now)[:, 0],
        pairs_now=starts - mean_now,
        pairs_next=ends - mean_next,
    )
